"""A page of the Paths dock for what is measured over labelled images: the choice of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGridLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_cvsuite.paths.options import EFFECTS
from napari_cvsuite.widgets.forms import OptionsForm
from napari_cvsuite.widgets.neurons_data import PathField
from napari_cvsuite.widgets.paths_labelled_job import (
    ACTIONS,
    INFLUENCE,
    PRUNE,
    Action,
    LabelledTask,
)
from napari_cvsuite.widgets.paths_plot import align, narrow

__all__ = ["LabelledChoice"]

_USUAL = ("removed_final", "total_module")


class LabelledChoice(QWidget):
    """What to measure, on which images, with which options.

    Parameters
    ----------
    actions : sequence of str
        Names of :data:`napari_cvsuite.widgets.paths_labelled_job.ACTIONS`.

    Signals
    -------
    changed ()
    wanted ()
        The button was pressed.
    """

    changed = Signal()
    wanted = Signal()

    def __init__(self, actions: Sequence[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._actions = tuple(actions)
        self.what = QComboBox()
        for number, name in enumerate(self._actions):
            self.what.addItem(name)
            self.what.setItemData(number, ACTIONS[name].tip, Qt.ItemDataRole.ToolTipRole)
        self.folder = PathField("Folder with a folder of images for each class, or of images")
        self.table = PathField(
            "Table with the columns file and label, for images without such folders", "CSV (*.csv)"
        )
        self.column = QLineEdit("label")
        self.column.setToolTip("Column of the labels in the table.")
        self.effects = {name: QCheckBox(name) for name in EFFECTS}
        for name, box in self.effects.items():
            box.setChecked(name in _USUAL)
        self.forms = {
            name: OptionsForm(ACTIONS[name].options, leave_out=ACTIONS[name].own)
            for name in self._actions
        }
        self.button = QPushButton()
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self._lay_out()
        self._connect()
        self._arrange()

    def _lay_out(self) -> None:
        self._form = QFormLayout()
        self._form.addRow("Do", self.what)
        self._form.addRow("Folder", self.folder)
        self._form.addRow("Table", self.table)
        self._form.addRow("Column", self.column)
        align(self._form)
        self._ticks = QWidget()
        grid = QGridLayout(self._ticks)
        grid.setContentsMargins(0, 0, 0, 0)
        for number, box in enumerate(self.effects.values()):
            grid.addWidget(box, *divmod(number, 2))
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(self._form)
        column.addWidget(self._ticks)
        inner = QWidget()
        few = QVBoxLayout(inner)
        few.setContentsMargins(0, 0, 0, 0)
        for form in self.forms.values():
            column.addWidget(form.main.native)
            few.addWidget(form.advanced.native)
        self.more = QCollapsible("More options")
        self.more.setContent(inner)
        self.more.collapse(animate=False)
        column.addWidget(self.more)
        column.addWidget(self.button)
        column.addWidget(self.hint)
        narrow(self.what)

    def _connect(self) -> None:
        self.what.currentIndexChanged.connect(lambda _: self._tell())
        for field in (self.folder, self.table):
            field.changed.connect(self._tell)
        self.column.textChanged.connect(lambda _: self._tell())
        for box in self.effects.values():
            box.toggled.connect(lambda _: self._tell())
        for form in self.forms.values():
            form.on_change(self._tell)
        self.button.clicked.connect(lambda _: self.wanted.emit())

    @property
    def name(self) -> str:
        """Name of the chosen action."""
        return self.what.currentText()

    @property
    def action(self) -> Action:
        """The chosen action."""
        return ACTIONS[self.name]

    def choose(self, name: str) -> None:
        """Choose an action; an unknown one changes nothing."""
        if name in self._actions:
            self.what.setCurrentIndex(self._actions.index(name))

    def _tell(self) -> None:
        self._arrange()
        self.changed.emit()

    def _arrange(self) -> None:
        """Show what the action asks for, and nothing else."""
        self.what.setToolTip(self.action.tip)
        self.button.setText(self.action.button)
        self._ticks.setVisible(self.name == INFLUENCE)
        for name, form in self.forms.items():
            for part in (form.main, form.advanced):
                part.native.setVisible(name == self.name and len(part) > 0)
        label = self._form.labelForField(self.column)
        for widget in (label, self.column):
            if widget is not None:
                widget.setVisible(self.table.path is not None)

    # What is chosen ----------------------------------------------------------------------------

    def task(self, model: str, off: str, out: Path | None = None, **more: Any) -> LabelledTask:
        """Return what is to be measured.

        Parameters
        ----------
        model : str
        off : str
            Names of the paths that are switched off, for pruning by hand.
        out : Path, optional
        **more
            Further options.

        Raises
        ------
        ValueError
            Something is missing or does not go together.
        """
        if self.folder.path is None:
            raise ValueError("Choose a folder with a folder of images for each class.")
        given = {"model": model, **more}
        if self.name == INFLUENCE:
            chosen = [name for name, box in self.effects.items() if box.isChecked()]
            if not chosen:
                raise ValueError("Tick at least one intervention.")
            given["interventions"] = ",".join(chosen)
        if self.name == PRUNE and self.forms[PRUNE].values()["method"] == "hand":
            if not off:
                raise ValueError("Switch off the paths to be left out, in the picture.")
            given["off"] = off
        options = self.forms[self.name].read(**given)
        column = self.column.text().strip() or "label"
        assert isinstance(options, self.action.options)
        return LabelledTask(self.name, options, self.folder.path, self.table.path, column, out)

    def check(self, model: str, off: str, busy: bool) -> None:
        """Say what is missing; the button waits for it, and for what runs."""
        text = ""
        try:
            self.task(model, off)
        except ValueError as error:
            text = str(error)
        self.hint.setText(text)
        self.hint.setVisible(bool(text))
        self.button.setEnabled(not text and not busy)

    # State -------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what is kept between sessions."""
        return {
            "action": self.name,
            "folder": str(self.folder.path or ""),
            "table": str(self.table.path or ""),
            "column": self.column.text(),
            "options": {name: form.values() for name, form in self.forms.items()},
        }

    def restore(self, state: object) -> None:
        """Choose what was kept; what is unknown, or no longer there, is passed over."""
        if not isinstance(state, dict):
            return
        self.choose(str(state.get("action", "")))
        for name, field in (("folder", self.folder), ("table", self.table)):
            path = str(state.get(name, ""))
            if path and Path(path).exists():
                field.set_path(Path(path))
        self.column.setText(str(state.get("column", "label")))
        options = state.get("options")
        for name, form in self.forms.items():
            values = options.get(name) if isinstance(options, dict) else None
            form.set_values(values if isinstance(values, dict) else {})

    def close_down(self) -> None:
        """Forget who listens."""
        for form in self.forms.values():
            form.close_down()
