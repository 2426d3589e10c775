"""Fit a model to the ratings in the table, say what that promises, and keep it if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QInputDialog, QWidget

from napari_cvsuite.quality.options import ScoreOptions
from napari_cvsuite.widgets.bridge import JobRunner
from napari_cvsuite.widgets.pickers import ModelPicker
from napari_cvsuite.widgets.quality_job import Item, fit_to_ratings
from napari_cvsuite.widgets.run_bar import RunBar

if TYPE_CHECKING:
    from napari_cvsuite.quality.ratings import RatingsResult
    from napari_cvsuite.quality.score import Row

__all__ = ["RatingsFit"]


class RatingsFit(QWidget):
    """The part of the Quality dock that fits models to ratings; it shows nothing itself.

    Parameters
    ----------
    runner : JobRunner
        Of the dock; its outcome goes to :meth:`over`.
    model : ModelPicker
        Gets the fitted model.
    run_bar : RunBar
        Says what happened.
    parent : QWidget
    """

    def __init__(
        self, runner: JobRunner, model: ModelPicker, run_bar: RunBar, parent: QWidget
    ) -> None:
        super().__init__(parent)
        self.setVisible(False)
        self._runner, self._model, self._run_bar = runner, model, run_bar
        self.keeper = JobRunner(self)
        self.keeper.done.connect(self._kept)
        self.keeper.failed.connect(lambda error: run_bar.say(str(error), "error"))

    def start(
        self,
        items: Sequence[Item],
        rated: Sequence[tuple[int, Row, float]],
        options: ScoreOptions,
        device: str,
    ) -> None:
        """Fit the model of `options`; see :func:`fit_to_ratings`."""
        self._runner.start(
            lambda context: fit_to_ratings(items, rated, options, context), device, "fit to ratings"
        )

    def over(self, found: RatingsResult) -> None:
        """Say what the fit promises for images it has not seen, before anything is kept."""
        before, after = found.fit.srcc_before, found.fit.srcc_held_out
        text = (
            f"Rank correlation with {found.n} ratings: {before:.2f} before, {after:.2f} held out."
        )
        if not found.better:
            self._run_bar.say(f"{text} No better, so it is not kept.")
            return
        self._run_bar.say(text)
        # Later, since a dialogue lets the timer of the dock run on.
        QTimer.singleShot(0, lambda: self._ask(found, text))

    def _ask(self, found: RatingsResult, text: str) -> None:
        question = f"{text}\nName of the new model:"
        name, yes = QInputDialog.getText(
            self.parentWidget(), "Keep the fitted model", question, text="my-quality"
        )
        if not yes or not name.strip():
            self._run_bar.say(f"{text} Not kept.")
            return
        # Here, since it imports torch, which opening a dock must not load.
        from napari_cvsuite.quality.ratings import keep

        self.keeper.start(lambda context: keep(found, name.strip()), "io", "keep the model")

    def _kept(self, name: str) -> None:
        self._model.refresh()
        self._model.choose(name)
        self._run_bar.say(f"Kept as {name}, and chosen.")

    def close_down(self) -> None:
        """Cancel the writing of a model that is going on."""
        self.keeper.close()
