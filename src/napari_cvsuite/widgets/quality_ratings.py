"""Fit a model to the ratings in the table, say what that promises, and keep it if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QWidget

from napari_cvsuite.quality.options import ScoreOptions
from napari_cvsuite.widgets.bridge import JobRunner
from napari_cvsuite.widgets.keeping import ModelKeeper
from napari_cvsuite.widgets.pickers import ModelPicker
from napari_cvsuite.widgets.quality_job import Item, fit_to_ratings
from napari_cvsuite.widgets.run_bar import RunBar

if TYPE_CHECKING:
    from napari_cvsuite.quality.ratings import RatingsResult
    from napari_cvsuite.quality.score import Row

__all__ = ["RatingsFit"]


class RatingsFit:
    """The part of the Quality dock that fits models to ratings.

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
        self._runner = runner
        self.keeper = ModelKeeper(model, run_bar, "Keep the fitted model", "my-quality", parent)

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

        def keep(name: str) -> str:
            # Here, since it imports torch, which opening a dock must not load.
            from napari_cvsuite.quality.ratings import keep

            return keep(found, name)

        self.keeper.offer(text, found.better, keep)
