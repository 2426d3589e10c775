"""Options of the quality jobs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from napari_cvsuite.images import ImageError
from napari_cvsuite.jobs.options import Option, OptionError, SeedOption
from napari_cvsuite.jobs.registry import JobSpec
from napari_cvsuite.models.plane_options import PlaneOptions
from napari_cvsuite.training.options import LoopChoices

__all__ = [
    "JOBS",
    "LEAST_RATED",
    "MapOptions",
    "RatingsOptions",
    "ScoreOptions",
    "TrainOptions",
    "require_size",
]

LEAST_RATED = 20
"""Fewest rated images that a model is fitted to."""
LEAST_SIDE = 32
"""Smallest side of an image: one cell of the deepest map."""
NO_REFERENCE, FULL_REFERENCE = "topiq-nr-synth", "topiq-fr-synth"


def require_size(shape: tuple[int, int]) -> None:
    """Raise :class:`ImageError` if an image of height and width `shape` is too small to judge."""
    if min(shape) < LEAST_SIDE:
        raise ImageError(
            f"the image is {shape[1]} x {shape[0]} pixels; quality can be judged from "
            f"{LEAST_SIDE} x {LEAST_SIDE} on: choose a larger part"
        )


@dataclass(frozen=True)
class ScoreOptions(PlaneOptions):
    """Options of a score."""

    model: str = Option(
        "auto",
        label="Model",
        help="Name of a model in the catalogue; auto takes ours, with or without reference.",
    )
    fit_reference: bool = Option(
        False,
        label="Resize reference",
        help="Bring a reference of another size to that of the image.",
        advanced=True,
    )
    precision: str = Option(
        "float32",
        label="Precision",
        help="Number format of the computation; the short ones are quicker, and change scores.",
        choices=("float32", "bfloat16", "float16"),
        advanced=True,
    )

    def resolved(self, compares: bool) -> Self:
        """Return the options with a model by name, in place of "auto"."""
        if self.model != "auto":
            return self
        return replace(self, model=FULL_REFERENCE if compares else NO_REFERENCE)


@dataclass(frozen=True)
class MapOptions(ScoreOptions):
    """Options of a map of local quality."""

    window: int = Option(
        192,
        label="Window",
        help="Side of the windows that are scored.",
        minimum=32,
        maximum=2048,
        unit="px",
    )
    step: int = Option(
        64,
        label="Step",
        help="Distance of neighbouring windows.",
        minimum=4,
        maximum=2048,
        unit="px",
    )
    attention: bool = Option(
        False, label="Attention", help="Show where the network looked at each scale, too."
    )


@dataclass(frozen=True)
class RatingsOptions(ScoreOptions):
    """Options of fitting a model to somebody's own ratings."""

    name: str = Option("", label="Name", help="Name of the new model; empty does not keep it.")
    seed: int = SeedOption("Seed of the parting into folds.")


@dataclass(frozen=True)
class TrainOptions(LoopChoices):
    """Options of a training run on synthetic distortions."""

    reference: bool = Option(
        False,
        label="With reference",
        help="Train a network that compares with a reference image, not one for single images.",
    )
    backbone: str = Option(
        "resnet10_compact",
        label="Backbone",
        help="Network that gives the maps of several scales.",
        choices=("resnet10_compact", "resnet18", "resnet50"),
    )
    width: int = Option(64, label="Width", help="Channels of the tokens.", minimum=8, maximum=1024)
    heads: int = Option(4, label="Heads", help="Heads of attention.", minimum=1, maximum=32)
    gate: int = Option(16, label="Gate", help="Channels of the gates.", minimum=1, maximum=256)
    dropout: float = Option(0.0, label="Dropout", help="Rate of dropout.", minimum=0.0, maximum=0.9)
    settle: int = Option(
        1,
        label="Settle",
        help="Epochs in which batch normalisation measures; afterwards it stays as it is, so that "
        "a step sees each image as a prediction does.",
        minimum=1,
        maximum=5000,
    )
    start: str = Option(
        "",
        label="Start from",
        help="Model or weight file to start from; what does not fit is learned anew.",
    )
    series: int = Option(
        2000,
        label="Series",
        help="Crops that are spoilt at three levels each; 0.7 MB each on disk.",
        minimum=20,
        maximum=1_000_000,
    )
    size: int = Option(
        192, label="Crop", help="Side of the crops.", minimum=176, maximum=1024, unit="px"
    )
    view: int = Option(
        0,
        label="View",
        help="Side of the random part of a crop that a step sees; 0 for all of it. Small parts "
        "are quick, and enough for all that spoils a crop evenly.",
        minimum=0,
        maximum=1024,
        unit="px",
    )
    second: float = Option(
        0.2,
        label="Second distortion",
        help="Share of series in which another distortion lies beneath.",
        minimum=0.0,
        maximum=1.0,
    )
    grain: float = Option(
        2.5,
        label="Grain",
        help="Most noise of a sensor, as standard deviation in steps of 8 bits, that a step lays "
        "over half of the series that light itself was spoilt in. Without it a network takes "
        "noise for a sign of focus. Networks with reference learn without it.",
        minimum=0.0,
        maximum=20.0,
    )
    batch: int = Option(12, label="Batch", help="Series a step.", minimum=1, maximum=256)
    epochs: int = Option(
        10, label="Epochs", help="Passes over the series.", minimum=1, maximum=5000
    )
    weight_decay: float = Option(
        1e-4, label="Weight decay", help="Decoupled weight decay.", minimum=0.0, maximum=1.0
    )
    margin: float = Option(
        0.02,
        label="Rank margin",
        help="By how much the score must fall for one level of a distortion.",
        minimum=0.0,
        maximum=0.2,
    )
    validate_every: int = Option(
        1, label="Validate every", help="Epochs between validations.", minimum=1, maximum=1000
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 < self.view < 32:
            raise OptionError(f"view must be 0 or at least 32; got {self.view}")
        if self.width % 2 or self.width % self.heads:
            raise OptionError(
                f"width must be even and a multiple of heads; got {self.width} and {self.heads}"
            )


JOBS = {
    "score": JobSpec(
        name="quality.score",
        run="napari_cvsuite.quality.score:run",
        options="napari_cvsuite.quality.options:ScoreOptions",
        title="Score",
        help="Score the quality of every slice of an image.",
    ),
    "map": JobSpec(
        name="quality.map",
        run="napari_cvsuite.quality.map:run",
        options="napari_cvsuite.quality.options:MapOptions",
        title="Map quality",
        help="Score windows of an image, to see where it is good.",
    ),
    "compare": JobSpec(
        name="quality.compare",
        run="napari_cvsuite.quality.compare:run",
        options="napari_cvsuite.quality.options:ScoreOptions",
        title="Compare versions",
        help="Rank several versions of an image.",
    ),
    "ratings": JobSpec(
        name="quality.ratings",
        run="napari_cvsuite.quality.ratings:run",
        options="napari_cvsuite.quality.options:RatingsOptions",
        title="Fit to ratings",
        help="Fit the last layer of a model to your own ratings of images.",
        job_class="batch",
    ),
    "train": JobSpec(
        name="quality.train",
        run="napari_cvsuite.quality.train:run",
        options="napari_cvsuite.quality.options:TrainOptions",
        title="Train a quality network",
        help="Train on good images that are spoilt in known ways.",
        job_class="training",
    ),
}
