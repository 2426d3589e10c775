"""Options of the quality jobs."""

from __future__ import annotations

from dataclasses import dataclass

from napari_cvsuite.jobs.options import Option, OptionError, Options
from napari_cvsuite.jobs.registry import JobSpec

__all__ = ["JOBS", "TrainOptions"]


@dataclass(frozen=True)
class TrainOptions(Options):
    """Options of a training run on synthetic distortions."""

    reference: bool = Option(
        False,
        label="With reference",
        help="Train a network that compares with a reference image, not one for single images.",
    )
    backbone: str = Option(
        "resnet18_compact",
        label="Backbone",
        help="Network that gives the maps of several scales.",
        choices=("resnet18_compact", "resnet18", "resnet50"),
    )
    width: int = Option(64, label="Width", help="Channels of the tokens.", minimum=8, maximum=1024)
    heads: int = Option(4, label="Heads", help="Heads of attention.", minimum=1, maximum=32)
    gate: int = Option(16, label="Gate", help="Channels of the gates.", minimum=1, maximum=256)
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
        192, label="Crop", help="Side of the crops.", minimum=161, maximum=1024, unit="px"
    )
    second: float = Option(
        0.2,
        label="Second distortion",
        help="Share of series in which another distortion lies beneath.",
        minimum=0.0,
        maximum=1.0,
    )
    batch: int = Option(8, label="Batch", help="Series a step.", minimum=1, maximum=256)
    epochs: int = Option(
        10, label="Epochs", help="Passes over the series.", minimum=1, maximum=5000
    )
    lr: float = Option(
        1e-3, label="Learning rate", help="Step size at the start.", minimum=1e-7, maximum=1.0
    )
    weight_decay: float = Option(
        1e-4, label="Weight decay", help="Decoupled weight decay.", minimum=0.0, maximum=1.0
    )
    schedule: str = Option(
        "cosine",
        label="Schedule",
        help="Course of the learning rate.",
        choices=("cosine", "step", "poly", "constant"),
    )
    ema: float = Option(
        0.99,
        label="Weight average",
        help="Decay of the running average of the weights; 0 turns it off.",
        minimum=0.0,
        maximum=0.9999,
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
    patience: int = Option(
        0,
        label="Patience",
        help="Stop after this many validations without gain; 0 never stops.",
        minimum=0,
        maximum=1000,
    )
    seed: int = Option(
        0, label="Seed", help="Seed of all randomness.", minimum=0, maximum=2**31 - 1
    )
    precision: str = Option(
        "float32",
        label="Precision",
        help="Number format of the forward pass.",
        choices=("float32", "bfloat16"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 2 or self.width % self.heads:
            raise OptionError(
                f"width must be even and a multiple of heads; got {self.width} and {self.heads}"
            )


JOBS = {
    "train": JobSpec(
        name="quality.train",
        run="napari_cvsuite.quality.train:run",
        options="napari_cvsuite.quality.options:TrainOptions",
        title="Train a quality network",
        help="Train on good images that are spoilt in known ways.",
        job_class="training",
    ),
}
