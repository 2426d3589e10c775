"""Options of the training of a classifier. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from napari_cvsuite.jobs.options import Option, OptionError
from napari_cvsuite.training.options import LoopChoices

__all__ = ["ARCHITECTURES", "TRANSFORMERS", "ClassifierOptions"]

TRANSFORMERS = ("vit-tiny", "vit-deep")

ARCHITECTURES = (
    "resnet-small",
    "googlenet-small",
    "alexnet-small",
    "resnet18",
    "resnet50",
    "googlenet",
    "alexnet",
    *TRANSFORMERS,
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
        "",
        label="Start from",
        help="Model or weight file of the same network to start from; a head for another number "
        "of classes begins anew.",
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
    layers: int = Option(
        0,
        label="Layers",
        help="Of transformers: number of layers; 0 takes that of the network.",
        minimum=0,
        maximum=100,
    )
    patch: int = Option(
        4,
        label="Patch",
        help="Of transformers: side of the patches, of which the size is a multiple.",
        minimum=1,
        maximum=64,
        unit="px",
    )
    stem: bool = Option(
        True,
        label="Stem",
        help="Of transformers: make patches by a few convolutions, not by one projection.",
    )
    ensemble_scale: str = Option(
        "none",
        label="EnsembleScale",
        help="Of transformers: learn weights of the paths, one a path or one a path and channel.",
        choices=("none", "scalar", "channel"),
    )
    placement: str = Option(
        "final",
        label="Placement",
        help="Whether these weigh the sum that the head reads, or all that is written to the "
        "stream.",
        choices=("final", "stream"),
    )
    distill: str = Option(
        "none",
        label="Self-distillation",
        help="Of transformers: teach short paths what longer ones say, what they hold, or both.",
        choices=("none", "logit", "hidden", "both"),
    )
    logit_weight: float = Option(
        1.0,
        label="Logit weight",
        help="Weight of what the paths say in self-distillation.",
        minimum=0.0,
        maximum=1000.0,
    )
    hidden_weight: float = Option(
        0.1,
        label="Hidden weight",
        help="Weight of what the paths hold in self-distillation; 1 keeps deep networks from "
        "learning.",
        minimum=0.0,
        maximum=1000.0,
    )
    teacher: str = Option(
        "",
        label="Teacher",
        help="Classifier to learn from beside the labels: a model or weight file with the same "
        "classes.",
    )
    teacher_weight: float = Option(
        0.5,
        label="Teacher's weight",
        help="Share of the teacher's answer against that of the labels.",
        minimum=0.0,
        maximum=1.0,
    )
    temperature: float = Option(
        2.0,
        label="Temperature",
        help="By which logits are divided in any distillation.",
        minimum=0.1,
        maximum=100.0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.is_transformer:
            if self.ensemble_scale != "none" or self.distill != "none":
                raise OptionError(
                    f"{self.arch} has no paths to weigh or distil; choose "
                    f"{' or '.join(TRANSFORMERS)}, or leave ensemble_scale and distill at none"
                )
            if self.layers:
                raise OptionError(f"{self.arch} has a fixed number of layers; leave layers at 0")
            return
        if self.layers == 1 and self.distill != "none":
            raise OptionError("a transformer of one layer has no shorter paths to teach; use two")
        if self.size % self.patch:
            raise OptionError(f"size {self.size} must be a multiple of patch {self.patch}")
        if self.stem and _strides(self.patch) is None:
            raise OptionError(
                f"patch {self.patch} cannot be made by a stem, whose strides are 2 and 3; choose "
                "another patch, or no stem"
            )

    @property
    def is_transformer(self) -> bool:
        """Whether the network is a vision transformer."""
        return self.arch in TRANSFORMERS

    def stem_layers(self) -> list[tuple[int, int]]:
        """Return channels and stride of each convolution of the stem; empty without one."""
        strides = _strides(self.patch) if self.stem else None
        return [(min(32 * 2**i, 128), stride) for i, stride in enumerate(strides or ())]


def _strides(patch: int) -> list[int] | None:
    """Return three or more strides whose product is `patch`; None where 2 and 3 do not make it."""
    found = []
    for stride in (3, 2):
        while patch % stride == 0:
            found.append(stride)
            patch //= stride
    return found + [1] * (3 - len(found)) if patch == 1 else None
