"""Options of the segmentation jobs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from napari_cvsuite.images import channel_numbers
from napari_cvsuite.jobs.options import Option, OptionError, Options, SeedOption
from napari_cvsuite.jobs.registry import JobSpec
from napari_cvsuite.training.options import LoopChoices

__all__ = [
    "JOBS",
    "MIN_TILE",
    "MOST_PIXELS",
    "PredictOptions",
    "RetrainOptions",
    "TrainOptions",
    "plane_numbers",
]

MOST_PIXELS = 256_000_000
"""Results of larger images are not held in memory (3 GB); they are streamed from file to file."""

MIN_TILE = 96
"""Smallest tile of a trained model in pixels: three times the usual overlap."""

_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)


def plane_numbers(text: str) -> tuple[range, ...]:
    """Read planes such as ``0,3-5`` as ranges; empty gives none.

    Raises
    ------
    OptionError
        The text is something else, or a range runs backwards.
    """
    found: list[range] = []
    for part in text.split(",") if text.strip() else ():
        match = _RANGE.fullmatch(part.strip())
        first = int(match[1]) if match else 0
        last = int(match[2] or first) if match else -1
        if last < first:
            raise OptionError(
                f"skip must be plane numbers and ranges from 0 on, such as 0,3-5; got {text!r}"
            )
        found.append(range(first, last + 1))
    return tuple(found)


def _axis() -> Any:
    return Option(
        "auto",
        label="Cut along",
        help="Axis along which a stack is cut into planes; auto gives planes of y and x.",
        choices=("auto", "t", "z", "y", "x"),
        advanced=True,
    )


def _channels() -> Any:
    return Option(
        "",
        label="Channels",
        help="Up to three channels to use, counted from 0, such as 0 or 2,1,0; empty chooses.",
        advanced=True,
    )


def _check_channels(text: str) -> None:
    try:
        channel_numbers(text)
    except ValueError as error:
        raise OptionError(str(error)) from error


def _stain() -> Any:
    return Option(
        "none",
        label="Stain",
        help="Separate this stain from an RGB image of tissue first.",
        choices=("none", "hematoxylin"),
    )


@dataclass(frozen=True)
class PredictOptions(Options):
    """Options of a prediction."""

    model: str = Option("qtseg-nuclei", label="Model", help="Name of a model in the catalogue.")
    tile: int = Option(
        0,
        label="Tile",
        help="Tile side; 0 takes the model's training size.",
        minimum=0,
        maximum=4096,
        unit="px",
        advanced=True,
    )
    halo: int = Option(
        32,
        label="Overlap",
        help="Pixels by which neighbouring tiles overlap on each side; at most a quarter tile.",
        minimum=8,
        maximum=512,
        unit="px",
        advanced=True,
    )
    axis: str = _axis()
    channels: str = _channels()
    skip: str = Option(
        "",
        label="Leave out",
        help="Planes to leave out, counted from 0, such as 0,3-5; they stay background.",
        advanced=True,
    )
    stain: str = _stain()
    tta: bool = Option(
        False,
        label="Average over flips",
        help="Predict eight flipped and turned copies; slower, gives an uncertainty map too.",
    )
    objects: str = Option(
        "components",
        label="Objects",
        help="How touching foreground is split into objects.",
        choices=("none", "components", "watershed"),
        advanced=True,
    )
    min_size: int = Option(
        10,
        label="Smallest object",
        help="Objects with fewer pixels are dropped from the object table.",
        minimum=0,
        maximum=1_000_000,
        unit="px",
        advanced=True,
    )
    fill_holes: bool = Option(
        False,
        label="Fill holes",
        help="Fill background enclosed by one object.",
        advanced=True,
    )
    precision: str = Option(
        "auto",
        label="Precision",
        help="Number format of the computation.",
        choices=("auto", "float32", "bfloat16", "float16"),
        advanced=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tile and (self.tile < 64 or self.tile % 32):
            raise OptionError(f"tile must be 0 or a multiple of 32 from 64 on; got {self.tile}")
        plane_numbers(self.skip)
        _check_channels(self.channels)

    @property
    def channel_numbers(self) -> tuple[int, ...] | None:
        """The channels as numbers; None leaves the choice to the program."""
        return channel_numbers(self.channels)


@dataclass(frozen=True)
class TrainOptions(LoopChoices):
    """Options of a training run."""

    classes: int = Option(
        2, label="Classes", help="Number of classes with background.", minimum=2, maximum=255
    )
    class_names: str = Option(
        "",
        label="Class names",
        help="Names of the classes, background first, with commas between; empty numbers them.",
    )
    width: int = Option(
        16,
        label="Width",
        help="Channels of the first layer, a multiple of 4.",
        minimum=4,
        maximum=64,
    )
    size: int = Option(
        256, label="Crop", help="Side of the training crops.", minimum=64, maximum=2048, unit="px"
    )
    scale: float = Option(
        1.0,
        label="Working scale",
        help="Pixels of a crop for each pixel of the image; 2 helps with small objects.",
        minimum=0.1,
        maximum=8.0,
    )
    tile: int = Option(
        0,
        label="Tile",
        help="Side of the tiles in validation; 0 takes the area of a crop.",
        minimum=0,
        maximum=4096,
        unit="px",
    )
    start: str = Option(
        "",
        label="Start from",
        help="Model or weight file to start from, as wide or narrower; empty starts anew.",
    )
    balance: float = Option(
        0.5,
        label="Balance",
        help="0 shows every image equally often, 1 every group of images.",
        minimum=0.0,
        maximum=1.0,
    )
    batch: int = Option(8, label="Batch", help="Crops a step.", minimum=1, maximum=256)
    epochs: int = Option(100, label="Epochs", help="Passes over the data.", minimum=1, maximum=5000)
    crops: int = Option(
        1, label="Crops", help="Crops of every image in an epoch.", minimum=1, maximum=1000
    )
    weight_decay: float = Option(
        3e-5, label="Weight decay", help="Decoupled weight decay.", minimum=0.0, maximum=1.0
    )
    scale_range: float = Option(
        1.5, label="Zoom", help="Images are zoomed by 1/x to x.", minimum=1.0, maximum=4.0
    )
    augment: float = Option(
        1.0,
        label="Change of intensity",
        help="Strength of random contrast, gamma, inversion, colour, blur and noise; 0 for none.",
        minimum=0.0,
        maximum=1.0,
    )
    orientation: str = Option(
        "any",
        label="Orientation",
        help="Crops are turned and flipped in any way, or stay upright: mirrored and tilted only.",
        choices=("any", "upright"),
    )
    ignore: int = Option(
        -1,
        label="Void label",
        help="Mask value that counts neither as right nor wrong; -1 for none.",
        minimum=-1,
        maximum=65535,
    )
    validate_every: int = Option(
        5, label="Validate every", help="Epochs between validations.", minimum=1, maximum=1000
    )
    devices: int = Option(
        1,
        label="Devices",
        help="Number of CUDA GPUs; more than one on the command line only.",
        minimum=1,
        maximum=64,
        advanced=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 4:
            raise OptionError(f"width must be a multiple of 4; got {self.width}")
        if 0 < self.tile < MIN_TILE:
            raise OptionError(f"tile must be 0 or at least {MIN_TILE}; got {self.tile}")
        names = self.names
        if not names:
            return
        if len(names) != self.classes or len(set(names)) != len(names) or "" in names:
            raise OptionError(
                f"class_names must be {self.classes} different names with commas between, such as "
                f"'background,nucleus'; got {self.class_names!r}"
            )

    @property
    def names(self) -> list[str]:
        """Names of the classes; none for numbers."""
        text = self.class_names.strip()
        return [name.strip() for name in text.split(",")] if text else []


@dataclass(frozen=True)
class RetrainOptions(Options):
    """Options of teaching a model what was corrected by painting."""

    model: str = Option("qtseg-nuclei", label="Model", help="Name of the model to start from.")
    name: str = Option("", label="Name", help="Name of the new model; empty does not keep it.")
    epochs: int = Option(
        12,
        label="Epochs",
        help="Each shows fifty random parts of the images or more.",
        minimum=1,
        maximum=500,
    )
    lr: float = Option(
        1e-3,
        label="Learning rate",
        help="Step size at the start; more forgets more.",
        minimum=1e-7,
        maximum=0.1,
        advanced=True,
    )
    class_names: str = Option(
        "",
        label="Class names",
        help="Names of the classes, background first, with commas between; empty keeps them.",
        advanced=True,
    )
    axis: str = _axis()
    channels: str = _channels()
    stain: str = _stain()
    seed: int = SeedOption("Seed of the random parts.")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_channels(self.channels)


JOBS = {
    "predict": JobSpec(
        name="segmentation.predict",
        run="napari_cvsuite.segmentation.predict:run",
        options="napari_cvsuite.segmentation.options:PredictOptions",
        title="Segment",
        help="Segment images with a trained network.",
        job_class="interactive",
    ),
    "train": JobSpec(
        name="segmentation.train",
        run="napari_cvsuite.segmentation.train:run",
        options="napari_cvsuite.segmentation.options:TrainOptions",
        title="Train a segmentation network",
        help="Train on a folder of images and a folder of masks.",
        job_class="training",
    ),
    "retrain": JobSpec(
        name="segmentation.retrain",
        run="napari_cvsuite.segmentation.retrain:run",
        options="napari_cvsuite.segmentation.options:RetrainOptions",
        title="Learn from corrections",
        help="Teach a network what was corrected by painting.",
        job_class="training",
    ),
}
