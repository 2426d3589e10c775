"""A page of the Paths dock for what is measured over labelled images: its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_cvsuite.widgets.neurons_results import NumberModel
from napari_cvsuite.widgets.object_table import ObjectTable
from napari_cvsuite.widgets.paths_labelled import LabelledChoice
from napari_cvsuite.widgets.paths_labelled_job import (
    ACTIONS,
    DEPTH,
    INFLUENCE,
    PRUNE,
    SCALE,
    LabelledTask,
)
from napari_cvsuite.widgets.paths_plot import COLOURS, Curve, PathPlot, show_rows, words_label

if TYPE_CHECKING:
    from napari_cvsuite.paths.depth import Depths
    from napari_cvsuite.paths.influence import Influence
    from napari_cvsuite.paths.pruning import Pruned
    from napari_cvsuite.paths.scaling import Scaled

__all__ = ["LabelledPage"]

_HELD, _CHOSEN = "#d55e00", COLOURS["msa"]


class LabelledPage(QWidget):
    """A choice, and the result of the last run.

    Parameters
    ----------
    actions : sequence of str

    Signals
    -------
    wanted (Path or None)
        To be run; with a folder the changed model is to be written into it.
    off_wanted (tuple of str)
        These paths are to be switched off in the picture.
    failed (str)
    """

    wanted = Signal(object)
    off_wanted = Signal(tuple)
    failed = Signal(str)

    def __init__(self, actions: Sequence[str], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.choice = LabelledChoice(actions)
        self.words = words_label()
        self.plot = PathPlot()
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("Steps that are kept: go back to undo, forward to leave out more.")
        self.slider.setAccessibleName("Steps that are kept")
        self.step_words = QLabel()
        self.step_words.setWordWrap(True)
        self.show_button = QPushButton("Switch these off in the picture")
        self.export_button = QPushButton("Export model…")
        self.export_button.setToolTip("Writes weights, card and recipe into a folder.")
        self.table = ObjectTable("rows", NumberModel(), "paths.csv")
        self.table.setMinimumHeight(160)
        self.task: LabelledTask | None = None
        self.found: Any = None
        self._lay_out()
        self._connect()
        self.forget()

    def _lay_out(self) -> None:
        self._steps = QWidget()
        steps = QVBoxLayout(self._steps)
        steps.setContentsMargins(0, 0, 0, 0)
        steps.addWidget(self.slider)
        steps.addWidget(self.step_words)
        row = QHBoxLayout()
        row.addWidget(self.show_button)
        row.addWidget(self.export_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.choice, self.words, self.plot, self._steps):
            column.addWidget(widget)
        column.addLayout(row)
        column.addWidget(self.table, 1)

    def _connect(self) -> None:
        self.choice.wanted.connect(lambda: self.wanted.emit(None))
        self.slider.valueChanged.connect(self._step_chosen)
        self.show_button.clicked.connect(lambda _: self.off_wanted.emit(self.removed()))
        self.export_button.clicked.connect(lambda _: self._ask_folder())
        self.table.failed.connect(self.failed)

    def forget(self) -> None:
        """Show no result."""
        self.task = self.found = None
        self.words.setText("")
        self.table.set_rows([])
        for widget in (self.words, self.plot, self._steps, self.show_button, self.export_button):
            widget.setVisible(False)

    # Results -----------------------------------------------------------------------------------

    def show_result(self, task: LabelledTask, found: Any) -> None:
        """Show what was measured."""
        self.forget()
        self.task, self.found = task, found
        makers: dict[str, Callable[[Any], str]] = {
            PRUNE: self._pruned,
            SCALE: self._scaled,
            INFLUENCE: self._influence,
            DEPTH: self._depths,
        }
        words = makers[task.action](found)
        if task.out is not None:
            words += f"<br>Written to {found.model}; “Add model…” under Model opens it."
        self.words.setText(words)
        self.words.setVisible(True)
        self.table.noun = ACTIONS[task.action].noun
        facts = {name: found.provenance[name] for name in ("model", "weights_sha256", "version")}
        show_rows(self.table, [{**row, **facts} for row in found.rows()], tuple(facts))
        self.export_button.setVisible(ACTIONS[task.action].writes)
        if task.action == PRUNE:
            self._step_chosen(found.kept)

    def _pruned(self, found: Pruned) -> str:
        from napari_cvsuite.paths.pruning import SENTENCE

        steps = range(len(found.steps))
        curves = [
            Curve("selection", steps, [one.selection.accuracy for one in found.steps], _CHOSEN),
            Curve("held out", steps, [one.held_out.accuracy for one in found.steps], _HELD),
        ]
        self.plot.show_curves(curves, "steps of leaving paths out", "accuracy", True, True)
        self.slider.blockSignals(True)
        self.slider.setRange(0, len(found.steps) - 1)
        self.slider.setValue(found.kept)
        self.slider.blockSignals(False)
        self._steps.setVisible(len(found.steps) > 1)
        self.show_button.setVisible(True)
        first, best, change = found.steps[0], found.steps[found.kept], found.held_out_change
        out = ", ".join(found.removed) or "none: no removal lowers the loss of the selection"
        return (
            f"Left out: {out}.<br>Selection ({best.selection.images} images): accuracy "
            f"{first.selection.accuracy:.1%} became {best.selection.accuracy:.1%}. <b>Held out "
            f"({best.held_out.images} images): {first.held_out.accuracy:.1%} became "
            f"{best.held_out.accuracy:.1%}</b>, a change of {_points(change)}.<br><i>{SENTENCE}</i>"
        )

    def _scaled(self, found: Scaled) -> str:
        steps = range(len(found.fit_loss))
        curves = [
            Curve("fit", steps, found.fit_loss, _CHOSEN),
            Curve("images that end the fit", steps, found.stopping_loss, _HELD),
        ]
        self.plot.show_curves(curves, "step of the fit", "cross-entropy", whole=True)
        self.plot.set_mark(found.best_step)
        before, after = found.before, found.after
        return (
            f"Weights of step {found.best_step}, one a "
            f"{'path' if found.alpha.ndim == 1 else 'path and channel'}. <b>Held out "
            f"({after.images} images): accuracy {before.accuracy:.1%} became {after.accuracy:.1%}"
            f"</b>, a change of {_points(found.held_out_change)}; cross-entropy {before.loss:.3f} "
            f"became {after.loss:.3f}.<br><i>Start, fit and placement are this project's "
            "definitions.</i>"
        )

    def _influence(self, found: Influence) -> str:
        kinds = list(dict.fromkeys(one.intervention for one in found.effects))
        chosen = [one for one in found.effects if one.intervention == kinds[0]]
        values = {one.path: one.accuracy.value for one in chosen}
        shown = [values.get(name, float("nan")) for name in found.names]
        self.plot.show_paths(found.names, shown, float("nan"), f"accuracy change, {kinds[0]}")
        worst = min(found.effects, key=lambda one: one.accuracy.value)
        return (
            f"Accuracy of the whole network {found.accuracy.value:.1%} on {found.accuracy.n} "
            f"images (95 % interval {found.accuracy.low:.1%} to {found.accuracy.high:.1%}). Most "
            f"is lost without {worst.path} ({worst.intervention}, {worst.replacement}): "
            f"{_points(worst.accuracy)}."
        )

    def _depths(self, found: Depths) -> str:
        rates, layers = found.accuracy, range(len(found.accuracy))
        curve = Curve(
            "accuracy, 95 % interval",
            layers,
            [one.value for one in rates],
            low=[one.low for one in rates],
            high=[one.high for one in rates],
        )
        self.plot.show_curves([curve], "layers", "accuracy", True, True)
        return (
            f"The classifier applied after each layer, on {rates[-1].n} images: from "
            f"{rates[0].value:.1%} after the embedding to {rates[-1].value:.1%} after all layers."
        )

    # Steps -------------------------------------------------------------------------------------

    def removed(self) -> tuple[str, ...]:
        """Return the paths that are left out up to the chosen step."""
        if self.task is None or self.task.action != PRUNE:
            return ()
        steps = self.found.steps[: self.slider.value() + 1]
        return tuple(name for step in steps for name in step.paths)

    def _step_chosen(self, number: int) -> None:
        if self.task is None or self.task.action != PRUNE:
            return
        step = self.found.steps[number]
        out = ", ".join(self.removed()) or "none"
        self.step_words.setText(
            f"Step {number} of {self.slider.maximum()}: selection {step.selection.accuracy:.1%}, "
            f"held out {step.held_out.accuracy:.1%}. Left out: {out}."
        )
        self.plot.set_mark(number)

    def _ask_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Folder for the new model")
        if path:
            self.wanted.emit(Path(path))

    def export_options(self) -> dict[str, Any]:
        """Return the options that write what is shown: those of the run, and the chosen step."""
        assert self.task is not None
        options = asdict(self.task.options)
        if self.task.action == PRUNE:
            options["steps"] = self.slider.value()
        return options

    def close_down(self) -> None:
        """Cancel a save that is going on, and forget who listens."""
        self.choice.close_down()
        self.table.close_down()


def _points(change: Any) -> str:
    """Return a change of accuracy in points, with its interval."""
    low, high = 100 * change.low, 100 * change.high
    return f"{100 * change.value:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"
