"""Options of the jobs on paths that look at no single image, but at labels or a model alone.

Loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from napari_cvsuite.jobs.options import BatchOption, Option, OptionError, Options, SeedOption
from napari_cvsuite.paths.options import DEFAULT_MODEL, EFFECTS, path_list

__all__ = [
    "DepthOptions",
    "FoldOptions",
    "HeldOutOptions",
    "InfluenceOptions",
    "LabelledOptions",
    "LengthOptions",
    "ModelOptions",
    "PruneOptions",
    "ScaleOptions",
    "effect_list",
]


@dataclass(frozen=True)
class ModelOptions(Options):
    """Options of jobs that look at a model alone."""

    model: str = Option(
        DEFAULT_MODEL, label="Model", help="Name of a vision transformer in the catalogue."
    )


@dataclass(frozen=True)
class LabelledOptions(ModelOptions):
    """Options of jobs that measure over labelled images."""

    limit: int = Option(
        1000,
        label="Images",
        help="Images used at most, as many of each class as there are.",
        minimum=2,
        maximum=1_000_000,
    )
    batch: int = BatchOption(32)
    seed: int = SeedOption(
        "Of the choice of images, of how they are divided, and of the intervals."
    )


@dataclass(frozen=True)
class DepthOptions(LabelledOptions):
    """Options of the accuracy of the prediction after each layer."""


@dataclass(frozen=True)
class InfluenceOptions(LabelledOptions):
    """Options of what the paths are worth over labelled images."""

    interventions: str = Option(
        "removed_final,total_module",
        label="Interventions",
        help=f"Some of {', '.join(EFFECTS)}, with commas between.",
    )
    replacement: str = Option(
        "zero",
        label="Replacement",
        help="What is written instead, where later layers are computed anew: zero, or the mean "
        "over these images.",
        choices=("zero", "mean"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        effect_list(self.interventions)


@dataclass(frozen=True)
class HeldOutOptions(LabelledOptions):
    """Options of jobs that choose on some images and check on others."""

    held_out: float = Option(
        0.5,
        label="Held out",
        help="Share of the images of each class that the choice does not see.",
        minimum=0.05,
        maximum=0.95,
    )


@dataclass(frozen=True)
class PruneOptions(HeldOutOptions):
    """Options of paths that are left out of the final sum for good."""

    method: str = Option(
        "greedy",
        label="Method",
        help="greedy: again and again the path whose removal lowers the loss most, until none "
        "does. loss, accuracy: all paths in the order of their single removals. from_layer: the "
        "final sum from each layer on. hand: the paths that are named.",
        choices=("greedy", "loss", "accuracy", "from_layer", "hand"),
    )
    off: str = Option(
        "", label="Paths", help="Paths that are left out, for hand, such as embed,msa_0."
    )
    steps: int = Option(
        -1,
        label="Steps",
        help="Steps that are kept; -1 keeps those with the lowest loss on the selection part.",
        minimum=-1,
        maximum=10_000,
        advanced=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(path_list(self.off)) != (self.method == "hand"):
            raise OptionError(
                "name the paths that are left out with the method hand, and none with the others"
            )


@dataclass(frozen=True)
class ScaleOptions(HeldOutOptions):
    """Options of weights of the paths in the final sum, fitted to labelled images."""

    per: str = Option(
        "scalar",
        label="Weights",
        help="One weight a path, or one a path and channel.",
        choices=("scalar", "channel"),
    )
    steps: int = Option(
        150, label="Steps", help="Steps of Adam.", minimum=1, maximum=100_000, advanced=True
    )
    learning_rate: float = Option(
        0.02,
        label="Learning rate",
        help="Of Adam.",
        minimum=1e-6,
        maximum=10.0,
        advanced=True,
    )


@dataclass(frozen=True)
class FoldOptions(ModelOptions):
    """Options of a network without weights of its paths that computes the same."""


@dataclass(frozen=True)
class LengthOptions(ModelOptions):
    """Options of the lengths of paths."""


def effect_list(text: str) -> tuple[str, ...]:
    """Read names of interventions; raises :class:`OptionError`."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    wrong = [name for name in names if name not in EFFECTS]
    if wrong or not names:
        raise OptionError(
            f"interventions are some of {', '.join(EFFECTS)}; got {wrong[0] if wrong else text!r}"
        )
    return names
