"""Options of the training of a classifier. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from napari_cvsuite.jobs.options import Option
from napari_cvsuite.training.options import LoopChoices

__all__ = ["ARCHITECTURES", "ClassifierOptions"]

ARCHITECTURES = (
    "resnet-small",
    "googlenet-small",
    "alexnet-small",
    "resnet18",
    "resnet50",
    "googlenet",
    "alexnet",
)


@dataclass(frozen=True)
class ClassifierOptions(LoopChoices):
    """Options of the training of a classifier."""

    arch: str = Option(
        "resnet-small",
        label="Network",
        help="Which network; the small ones are for images of 32 to 128 pixels.",
        choices=ARCHITECTURES,
    )
    size: int = Option(
        32,
        label="Size",
        help="Side of the images that the network sees: the shorter side is brought to it, and "
        "the middle square cut out.",
        minimum=16,
        maximum=512,
        unit="px",
    )
    adversarial: str = Option(
        "none",
        label="Adversarial",
        help="Train on images that are changed to mislead the network, within this distance.",
        choices=("none", "l2", "linf"),
    )
    eps: float = Option(
        0.5,
        label="Radius",
        help="Largest distance of a changed image, intensities from 0 to 1.",
        minimum=0.0,
        maximum=100.0,
    )
    steps: int = Option(
        1,
        label="Steps",
        help="Steps of the attack in training: one of 1.25 radii, or several of 2.5 radii in all, "
        "from a random place.",
        minimum=1,
        maximum=100,
    )
    epochs: int = Option(
        20, label="Epochs", help="Passes over the images.", minimum=1, maximum=5000
    )
    batch: int = Option(64, label="Batch", help="Images a step.", minimum=2, maximum=4096)
    weight_decay: float = Option(
        5e-3, label="Weight decay", help="Decoupled weight decay.", minimum=0.0, maximum=1.0
    )
    shift: int = Option(
        4,
        label="Shift",
        help="Largest random shift of a training image.",
        minimum=0,
        maximum=128,
        unit="px",
    )
    turn: str = Option(
        "mirror",
        label="Turn",
        help="How training images are turned at random: mirrored left to right, or in all eight "
        "ways, where an image has no upright.",
        choices=("none", "mirror", "all"),
    )
    colour: float = Option(
        0.0,
        label="Colour",
        help="Strength of random changes of brightness, contrast and saturation.",
        minimum=0.0,
        maximum=1.0,
    )
    smoothing: float = Option(
        0.0,
        label="Smoothing",
        help="Share of the label that is given to all classes alike.",
        minimum=0.0,
        maximum=0.5,
    )
    balance: bool = Option(
        False, label="Balance", help="Show all classes equally often, whatever their number."
    )
    start: str = Option(
        "", label="Start from", help="Model or weight file of the same network to start from."
    )
    held_out: float = Option(
        0.05,
        label="Held out",
        help="Share of each class that validates and chooses the epoch.",
        minimum=0.0,
        maximum=0.9,
    )
    validate_every: int = Option(
        1, label="Validate every", help="Epochs between validations.", minimum=1, maximum=1000
    )
