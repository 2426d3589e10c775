"""What the Paths dock measures over labelled images; knows no Qt, and loads torch when called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.request import InputReference, Request
from napari_cvsuite.paths.labelled_options import (
    DepthOptions,
    InfluenceOptions,
    LabelledOptions,
    PruneOptions,
    ScaleOptions,
)

if TYPE_CHECKING:
    from napari_cvsuite.paths.subject import LabelledInputs

__all__ = [
    "ACTIONS",
    "DEPTH",
    "INFLUENCE",
    "PRUNE",
    "SCALE",
    "Action",
    "LabelledTask",
]

PRUNE = "Leave paths out (pruning)"
SCALE = "Weigh paths (EnsembleScale)"
INFLUENCE = "Influence of every path"
DEPTH = "Accuracy after each layer"
"""Names of the actions."""


@dataclass(frozen=True)
class LabelledTask:
    """What is to be measured, on which images.

    Parameters
    ----------
    action : str
    options : LabelledOptions
    images : Path
        A folder with a folder of images for each class, or of images with a table.
    table : Path or None
        Of labels.
    column : str
        Of the labels in it.
    out : Path or None
        Folder that a changed model is written into.
    """

    action: str
    options: LabelledOptions
    images: Path
    table: Path | None = None
    column: str = "label"
    out: Path | None = None

    def inputs(self) -> LabelledInputs:
        """Return where the images are."""
        from napari_cvsuite.paths.subject import LabelledInputs

        return LabelledInputs(self.images, self.table, self.column)

    def request(self) -> Request:
        """Return the same as data, to be kept and run again."""
        found = [InputReference("file", str(self.images), "images")]
        if self.table is not None:
            found.append(InputReference("file", str(self.table), "table"))
            found.append(InputReference("text", self.column, "column"))
        return Request(ACTIONS[self.action].job, self.options, tuple(found))


def _prune(task: LabelledTask, context: Context) -> Any:
    from napari_cvsuite.paths.pruning import run

    assert isinstance(task.options, PruneOptions)
    return run(task.inputs(), task.options, context, task.out)


def _scale(task: LabelledTask, context: Context) -> Any:
    from napari_cvsuite.paths.scaling import run

    assert isinstance(task.options, ScaleOptions)
    return run(task.inputs(), task.options, context, task.out)


def _influence(task: LabelledTask, context: Context) -> Any:
    from napari_cvsuite.paths.influence import run

    assert isinstance(task.options, InfluenceOptions)
    return run(task.inputs(), task.options, context)


def _depth(task: LabelledTask, context: Context) -> Any:
    from napari_cvsuite.paths.depth import accuracy

    assert isinstance(task.options, DepthOptions)
    return accuracy(task.inputs(), task.options, context)


@dataclass(frozen=True)
class Action:
    """One thing to measure.

    Parameters
    ----------
    job : str
        Its name as a request.
    button, tip : str
        Text of the button, and the question that it answers.
    options : type of LabelledOptions
    work : callable
        Does it on the worker thread.
    own : tuple of str
        Options that the dock asks for in another way.
    noun : str
        What a row of the table is, in the plural.
    writes : bool
        Whether a changed model can be written.
    """

    job: str
    button: str
    tip: str
    options: type[LabelledOptions]
    work: Callable[[LabelledTask, Context], Any]
    own: tuple[str, ...]
    noun: str
    writes: bool = False


ACTIONS = {
    PRUNE: Action(
        "paths.prune",
        "Prune",
        "Which paths can the classifier do without? They leave its sum, and later layers still "
        "see them.",
        PruneOptions,
        _prune,
        ("model", "off", "steps"),
        "steps",
        True,
    ),
    SCALE: Action(
        "paths.scale",
        "Fit weights",
        "Which weights of the paths predict best? Each path of the final sum is multiplied by "
        "one, or each of its channels.",
        ScaleOptions,
        _scale,
        ("model",),
        "paths",
        True,
    ),
    INFLUENCE: Action(
        "paths.influence",
        "Measure",
        "What does accuracy lose without each path?",
        InfluenceOptions,
        _influence,
        ("model", "interventions"),
        "effects",
    ),
    DEPTH: Action(
        "paths.depth_accuracy",
        "Measure",
        "How good is the prediction after each layer?",
        DepthOptions,
        _depth,
        ("model",),
        "depths",
    ),
}
"""By name."""
