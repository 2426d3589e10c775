"""Options of the study of deep transformers. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from napari_cvsuite.jobs.options import Option, OptionError, Options

__all__ = ["PLAIN", "VARIANTS", "StudyOptions"]

PLAIN = "plain"
"""The variant that all others are compared with."""
VARIANTS: Mapping[str, Mapping[str, str]] = {
    PLAIN: {},
    "scale-channel": {"ensemble_scale": "channel", "placement": "stream"},
    "scale-scalar": {"ensemble_scale": "scalar", "placement": "final"},
    "distill-logit": {"distill": "logit"},
    "distill-hidden": {"distill": "hidden"},
}
"""Ways of training, and the options of a training that make them."""
OTHERS = tuple(name for name in VARIANTS if name != PLAIN)


@dataclass(frozen=True)
class StudyOptions(Options):
    """Which transformers are trained, and how.

    With the defaults, a network of 16 layers takes about one minute of one CPU thread for 1000
    images (1.7 s an epoch, and the measuring); time grows with layers, epochs and images.
    """

    depths: str = Option(
        "4,8,16",
        label="Depths",
        help="Numbers of layers of the plain networks, with commas between; the other variants "
        "have the largest.",
    )
    variants: str = Option(
        ",".join(OTHERS),
        label="Variants",
        help=f"Some of {', '.join(OTHERS)}, with commas between; empty trains plain networks only.",
    )
    seeds: int = Option(
        3,
        label="Seeds",
        help="Networks of each kind, with the seeds 0, 1, ... of weights, order and held-out part.",
        minimum=1,
        maximum=100,
    )
    epochs: int = Option(
        30, label="Epochs", help="Passes over the images.", minimum=1, maximum=5000
    )
    size: int = Option(
        16,
        label="Size",
        help="Side of the images that the networks see.",
        minimum=16,
        maximum=512,
        unit="px",
    )
    patch: int = Option(
        4,
        label="Patch",
        help="Side of the patches, of which the size is a multiple.",
        minimum=1,
        maximum=64,
        unit="px",
    )
    batch: int = Option(32, label="Batch", help="Images a step.", minimum=2, maximum=4096)
    lr: float = Option(
        2e-3, label="Learning rate", help="Step size at the start.", minimum=1e-7, maximum=1.0
    )
    weight_decay: float = Option(
        0.05, label="Weight decay", help="Decoupled weight decay.", minimum=0.0, maximum=1.0
    )
    shift: int = Option(
        2,
        label="Shift",
        help="Largest random shift of a training image.",
        minimum=0,
        maximum=128,
        unit="px",
    )
    smoothing: float = Option(
        0.05,
        label="Smoothing",
        help="Share of the label that is given to all classes alike.",
        minimum=0.0,
        maximum=0.5,
    )
    held_out: float = Option(
        0.2,
        label="Held out",
        help="Share of each class that is not trained on: it chooses the epoch, the pruned paths "
        "and the weights of the paths.",
        minimum=0.02,
        maximum=0.9,
    )
    name: str = Option(
        "", label="Name", help="Name of the data in reports; empty takes that of the folder."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        layers, named = self.layers(), self.others()
        if self.size % self.patch:
            raise OptionError(f"size {self.size} must be a multiple of patch {self.patch}")
        if max(layers) < 2 and any(name.startswith("distill") for name in named):
            raise OptionError("a transformer of one layer has no shorter paths to teach; use two")

    def layers(self) -> tuple[int, ...]:
        """Return the depths, the smallest one first; raises OptionError."""
        words = [word.strip() for word in self.depths.split(",") if word.strip()]
        if not words or not all(word.isdecimal() and 1 <= int(word) <= 100 for word in words):
            raise OptionError(
                f"depths are numbers of layers from 1 to 100, such as 4,8,16; got {self.depths!r}"
            )
        return tuple(sorted({int(word) for word in words}))

    def others(self) -> tuple[str, ...]:
        """Return the variants beside the plain one; raises OptionError."""
        names = dict.fromkeys(word.strip() for word in self.variants.split(",") if word.strip())
        for name in names:
            if name not in OTHERS:
                raise OptionError(f"variants are some of {', '.join(OTHERS)}; got {name!r}")
        return tuple(names)

    def plan(self) -> tuple[tuple[str, int, int], ...]:
        """Return variant, layers and seed of every network, in the order of training."""
        layers = self.layers()
        kinds = [(PLAIN, depth) for depth in layers]
        kinds += [(name, layers[-1]) for name in self.others()]
        return tuple((name, depth, seed) for seed in range(self.seeds) for name, depth in kinds)
