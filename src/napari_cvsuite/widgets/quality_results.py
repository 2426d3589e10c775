"""What the Quality dock shows after a run: a sentence, the plot, what is kept, and the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QModelIndex, Qt, QTimer, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QGridLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_cvsuite.quality.options import LEAST_RATED as LEAST
from napari_cvsuite.widgets.object_table import ObjectTable, RowModel
from napari_cvsuite.widgets.quality_job import Part
from napari_cvsuite.widgets.quality_plot import ScorePlot, Series
from napari_cvsuite.widgets.quality_rows import Scores, verdict

__all__ = ["Results", "ScoreModel"]

_WORDS = {True: "yes", False: "rejected"}


class ScoreModel(RowModel):
    """Rows of scores; what is rejected looks like it."""

    rated = Signal()

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """Return what can be done with a cell; ratings are typed in."""
        flags = super().flags(index)
        editable = self.columns[index.column()] == "rating"
        return flags | Qt.ItemFlag.ItemIsEditable if editable else flags

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        """Take a rating, any number; an empty text takes it back."""
        if role != Qt.ItemDataRole.EditRole or self.columns[index.column()] != "rating":
            return False
        try:
            rating = float(str(value).replace(",", ".")) if str(value).strip() else math.nan
        except ValueError:
            return False
        if math.isinf(rating):
            return False
        self.rows[self.place(index)]["rating"] = rating
        self.dataChanged.emit(index, index)
        self.rated.emit()
        return True

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return a cell: its text, also to change it, and the colour of what is rejected."""
        row = self.rows[self.place(index)]
        if role == Qt.ItemDataRole.EditRole:
            return self._text(self.columns[index.column()], row[self.columns[index.column()]])
        if role == Qt.ItemDataRole.ForegroundRole and row.get("keep") is False:
            return QColor("#d55e00")
        return super().data(index, role)

    def _text(self, column: str, value: Any) -> str:
        if column == "keep":
            return _WORDS[bool(value)]
        if isinstance(value, float) and math.isnan(value):
            return ""
        if column in ("confidence", "percentile"):
            return f"{value * (100 if column == 'confidence' else 1):.0f} %"
        if isinstance(value, float) and abs(value) < 1000:
            return f"{value:.3f}" if "score" in column else f"{value:.3g}"
        return super()._text(column, value)

    def tell_keep(self) -> None:
        """Show anew which rows are kept."""
        if "keep" in self.columns and self.rows:
            last = self.index(len(self.rows) - 1, len(self.columns) - 1)
            # All columns, as the colour of the whole row changes; but the order stays.
            roles = [Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ForegroundRole]
            self.dataChanged.emit(self.index(0, 0), last, roles)


class Results(QWidget):
    """The scores of the last run, and those that are coming in.

    Signals
    -------
    slice_chosen (int)
        A slice was clicked, in the plot or the table: its index in :attr:`scores`.
    version_chosen (int)
        A version was clicked in the ranking: its place.
    keep_changed ()
        Other slices are kept than before.
    hide_wanted (bool)
        Whether the rejected slices are to be hidden.
    fit_wanted ()
        A model is to be fitted to the ratings in the table.
    """

    slice_chosen = Signal(int)
    version_chosen = Signal(int)
    keep_changed = Signal()
    hide_wanted = Signal(bool)
    fit_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.scores: Scores | None = None
        self._ranking: list[dict[str, Any]] = []
        self._current: int | None = None
        self._joined = self._live = False
        self.why = QLabel()
        self.why.setWordWrap(True)
        self.plot = ScorePlot()
        self.model = ScoreModel()
        self.table = ObjectTable("slices", self.model, "scores.csv")
        self.table.setMinimumHeight(160)
        self._make_keep()
        self.fit_button = QPushButton("Fit model to ratings…")
        self.fit_button.setToolTip(
            f"Rate {LEAST} slices or more in the table (double click; higher is better)."
        )
        self.fit_button.clicked.connect(self.fit_wanted)
        self.model.rated.connect(self._count_ratings)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.why, self.plot, self.keep_bar):
            layout.addWidget(widget)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.fit_button)
        self._tell_later = QTimer(self)
        self._tell_later.setSingleShot(True)
        # A line that is dragged moves more often than a long table can follow.
        self._tell_later.setInterval(100)
        self._tell_later.timeout.connect(self._apply_threshold)
        self.table.row_chosen.connect(self._row_clicked)
        self.plot.point_chosen.connect(self._point_clicked)
        self.plot.threshold_moved.connect(self._dragged)
        self.clear()

    def _make_keep(self) -> None:
        self.reject = QCheckBox("Reject below")
        self.reject.setToolTip("Slices with a lower score are rejected; nothing is deleted.")
        self.threshold = QDoubleSpinBox()
        self.threshold.setDecimals(3)
        self.threshold.setRange(-1e6, 1e6)
        self.threshold.setSingleStep(0.01)
        self.threshold.setEnabled(False)
        self.hide_rejected = QCheckBox("Hide rejected")
        self.hide_rejected.setToolTip(
            "Show a new layer without the rejected slices; the image stays as it is."
        )
        self.count = QLabel()
        self.keep_bar = QWidget()
        grid = QGridLayout(self.keep_bar)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.reject, 0, 0)
        grid.addWidget(self.threshold, 0, 1)
        grid.addWidget(self.hide_rejected, 1, 0)
        grid.addWidget(self.count, 1, 1)
        grid.setColumnStretch(1, 1)
        self.reject.toggled.connect(self._toggled)
        self.threshold.valueChanged.connect(lambda _: self._tell_later.start())
        self.hide_rejected.toggled.connect(self.hide_wanted)

    # What is shown ---------------------------------------------------------------------------

    def clear(self) -> None:
        """Show nothing."""
        self.scores, self._ranking, self._current = None, [], None
        self.table.set_rows([])
        for widget in (self.why, self.plot, self.keep_bar, self.fit_button):
            widget.setVisible(False)

    def begin(self, names: Sequence[str], counts: Sequence[int]) -> None:
        """Show an empty plot that :meth:`add` fills.

        Parameters
        ----------
        names : sequence of str
            What is scored.
        counts : sequence of int
            Number of slices of each; 0 where nobody knows yet.
        """
        self._joined, self._live = len(names) > 1 and max(counts) <= 1, True
        series = [Series("")] if self._joined else [Series(name) for name in names]
        extent = len(names) if self._joined else max(counts)
        self.plot.set_series(series, extent, "image" if self._joined else "slice")
        self.plot.set_kept([], None)
        self.plot.setVisible(extent > 1)
        self.why.setVisible(False)

    def add(self, part: Part) -> None:
        """Add a slice that has just been scored."""
        if self._joined:
            self.plot.add(0, self.plot.length, part.row.score)
        else:
            self.plot.add(part.item, part.row.index, part.row.score)

    def show_again(self) -> None:
        """Show the last result again, after a run that gave none."""
        self._live = False
        if self.scores is None:
            self.clear()
            return
        self._draw(self.scores)
        self.plot.set_kept(self.scores.kept(), self._threshold())
        self.set_current(self._current)

    def show_scores(self, scores: Scores, ranking: Sequence[dict[str, Any]] = ()) -> None:
        """Show a result, with the ranking of the versions in the table if there is one."""
        self.scores, self._ranking, self._live = scores, list(ranking), False
        for box in (self.reject, self.hide_rejected):
            box.blockSignals(True)
            box.setChecked(False)
            box.blockSignals(False)
        self.threshold.setEnabled(False)
        self.hide_rejected.setEnabled(False)
        self._draw(scores)
        self.plot.set_kept(scores.kept(), None)
        self.table.noun = "versions" if self._ranking else "slices"
        self.table.set_rows(self._ranking or scores.rows, in_order=True)
        # One layer is named above; its name in every row would only take space.
        alone = not self._ranking and len(scores.parts) == 1
        self.table.view.setColumnHidden(0, alone)
        self.count.setText("")
        self.keep_bar.setVisible(not self._ranking and len(scores.rows) > 1)
        self.fit_button.setVisible(not self._ranking and len(scores.rows) >= LEAST)
        self._count_ratings()
        self.set_current(0 if len(scores.rows) == 1 else None)

    def _count_ratings(self) -> None:
        count = len(self.scores.rated()) if self.scores is not None else 0
        self.fit_button.setEnabled(count >= LEAST)
        more = f" ({count} of {LEAST} rated)" if count < LEAST else f" ({count})"
        self.fit_button.setText(f"Fit model to ratings{more}…")

    def _draw(self, scores: Scores) -> None:
        single = len(scores.parts) > 1 and all(len(part.rows) == 1 for part in scores.parts)
        if single:
            # Images of one slice each are told apart by their number in the table.
            series = [Series("", list(range(len(scores.flat))), list(scores.values()))]
        else:
            series = [
                Series(
                    part.subject.name,
                    [part.subject.number(row) for row in part.rows],
                    [row.score for row in part.rows],
                )
                for part in scores.parts
            ]
        self.plot.set_series(series, label="image" if single else "slice")
        self.plot.setVisible(len(scores.flat) > 1)

    def set_current(self, index: int | None) -> None:
        """Mark a slice and say why its score is what it is."""
        self._current = index
        if self._live:
            # The plot is that of the run that goes on, of which nothing more is known yet.
            return
        self.plot.set_current(index)
        if self.scores is None or index is None or index >= len(self.scores.flat):
            self.why.setVisible(False)
            return
        _, row = self.scores.flat[index]
        shown = self.scores.rows[index]
        # Alone there is no plot beside it that says which way is better.
        alone = len(self.scores.flat) == 1
        name = "" if alone else f"{shown['layer']}, slice {shown['slice']}: "
        better = " (higher is better)" if alone else ""
        score = "" if np.isnan(row.score) else f"<b>Score {row.score:.3f}</b>{better}. "
        self.why.setText(f"{name}{score}{verdict(row)}")
        self.why.setVisible(True)

    # Keep and reject -------------------------------------------------------------------------

    def _threshold(self) -> float | None:
        return self.threshold.value() if self.reject.isChecked() else None

    def _toggled(self, on: bool) -> None:
        self.threshold.setEnabled(on)
        if on and self.scores is not None and self.threshold.value() == 0:
            # A start from which the line can be dragged: the worst tenth.
            values = self.scores.values()
            if not np.isnan(values).all():
                self.threshold.setValue(float(np.nanpercentile(values, 10)))
        self._apply_threshold()

    def _dragged(self, value: float) -> None:
        self.threshold.setValue(value)
        if self.scores is not None and not self._live:
            self.plot.set_kept(self.scores.kept(), value)

    def _apply_threshold(self) -> None:
        self._tell_later.stop()
        if self.scores is None:
            return
        self.scores.reject_below(self._threshold())
        kept = self.scores.kept()
        if not self._live:
            self.plot.set_kept(kept, self._threshold())
        self.model.tell_keep()
        self.count.setText(f"{sum(kept)} of {len(kept)} kept" if self.reject.isChecked() else "")
        self.hide_rejected.setEnabled(self.reject.isChecked() and len(self.scores.parts) == 1)
        self.keep_changed.emit()
        if not self.hide_rejected.isEnabled():
            self.hide_rejected.setChecked(False)

    def reject_below(self, threshold: float) -> None:
        """Reject as the user would by setting the threshold and ticking the box."""
        self.threshold.setValue(threshold)
        self.reject.blockSignals(True)
        self.reject.setChecked(True)
        self.reject.blockSignals(False)
        self.threshold.setEnabled(True)
        self._apply_threshold()

    @property
    def rejects_below(self) -> float | None:
        """The threshold; None where nothing is rejected."""
        return self._threshold()

    # Clicks ----------------------------------------------------------------------------------

    def _point_clicked(self, point: int) -> None:
        if self.scores is not None and not self._live and point < len(self.scores.flat):
            self.slice_chosen.emit(point)

    def _row_clicked(self, row: dict[str, Any]) -> None:
        rows = self._ranking or (self.scores.rows if self.scores is not None else [])
        index = next((i for i, one in enumerate(rows) if one is row or one == row), None)
        if index is not None:
            (self.version_chosen if self._ranking else self.slice_chosen).emit(index)

    def close_down(self) -> None:
        """Cancel a save that is going on, and draw no more."""
        self._tell_later.stop()
        self.plot.close_down()
        self.table.close_down()
