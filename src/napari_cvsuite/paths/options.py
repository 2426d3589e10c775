"""Options of the jobs that take a vision transformer apart into paths. Loads no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from napari_cvsuite.jobs.options import Option, OptionError, Options
from napari_cvsuite.jobs.registry import JobSpec
from napari_cvsuite.models.view_options import ViewOptions

__all__ = [
    "DEFAULT_MODEL",
    "EFFECTS",
    "JOBS",
    "MAPS",
    "REPLACEMENTS",
    "ContributionOptions",
    "DepthOptions",
    "FoldOptions",
    "FrequencyOptions",
    "InfluenceOptions",
    "LabelledOptions",
    "LengthOptions",
    "MapOptions",
    "PathOptions",
    "PruneOptions",
    "ScaleOptions",
    "TargetOptions",
    "WhatIfOptions",
    "effect_list",
    "path_list",
]

DEFAULT_MODEL = "cifar-vit"
EFFECTS = ("removed_final", "total_module", "total_layer", "total_head", "total_edge")
"""Interventions that change the logits of one image."""
REPLACEMENTS = ("zero", "mean", "other")
MAPS = ("share", "attention", "rollout", "relevance", "similarity", "token_norm")
_PATH = re.compile(r"embed|(?:msa|ffn)_\d+")


@dataclass(frozen=True)
class PathOptions(ViewOptions):
    """What a user can choose of the vision transformer and of what it sees."""

    model: str = Option(
        DEFAULT_MODEL, label="Model", help="Name of a vision transformer in the catalogue."
    )


@dataclass(frozen=True)
class TargetOptions(PathOptions):
    """Options of jobs that explain the logit of a class, or the difference of two."""

    target: str = Option(
        "",
        label="Class",
        help="A class by name or number, or CLASS-CLASS for this against that; empty takes the "
        "predicted class.",
    )


@dataclass(frozen=True)
class ContributionOptions(TargetOptions):
    """Options of the direct shares of all paths."""

    other_plane: int = Option(
        0,
        label="Other slice",
        help="Number of the slice of the other image, where two images are compared.",
        minimum=0,
        maximum=10**9,
        advanced=True,
    )


@dataclass(frozen=True)
class WhatIfOptions(TargetOptions):
    """Options of interventions on the paths of one image."""

    intervention: str = Option(
        "total_module",
        label="Intervention",
        help="removed_final leaves a path out of the final sum alone. total_module, total_layer "
        "and total_head replace what it writes for all later layers, too; total_edge hides what "
        "attention writes from all but the feed-forward network of its own layer.",
        choices=EFFECTS,
    )
    replacement: str = Option(
        "zero",
        label="Replacement",
        help="What is written instead: zero, the mean over other images, or what the path writes "
        "for another image.",
        choices=REPLACEMENTS,
    )
    off: str = Option(
        "",
        label="Paths",
        help="Paths that are switched off together, such as embed,msa_0,ffn_3; empty switches "
        "each off in turn.",
    )
    estimate: bool = Option(
        True,
        label="First-order estimate",
        help="Also estimate what leaving out each path would do, from one gradient a class.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen = path_list(self.off)
        if chosen and self.intervention not in ("removed_final", "total_module"):
            raise OptionError(
                f"{self.intervention} goes through all parts in turn; name no paths, or choose "
                "removed_final or total_module"
            )
        if self.intervention == "removed_final" and self.replacement != "zero":
            raise OptionError("removed_final leaves paths out, without any replacement; use zero")


@dataclass(frozen=True)
class MapOptions(TargetOptions):
    """Options of a map over the patches."""

    kind: str = Option(
        "share",
        label="Map",
        help="share: what a path draws from each patch for the class, exact and additive. "
        "attention, rollout: where the class token looks. relevance: attention weighed by its "
        "gradient. similarity: cosine of each patch and the class token. token_norm: lengths.",
        choices=MAPS,
    )
    path: str = Option(
        "",
        label="Path",
        help="Path of a share, such as msa_3; empty sums over all of them.",
    )
    layer: int = Option(
        -1,
        label="Layer",
        help="Layer of attention, similarity and token norms, from 0; -1 takes the last.",
        minimum=-1,
        maximum=1000,
    )
    head: int = Option(
        -1,
        label="Head",
        help="Head of a share or of attention, from 0; -1 takes all together.",
        minimum=-1,
        maximum=1000,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen = path_list(self.path)
        if len(chosen) > 1:
            raise OptionError(f"a map shows one path, or empty for all of them; got {self.path!r}")
        if self.kind == "share" and self.head >= 0 and not self.path.startswith("msa_"):
            raise OptionError("a head belongs to one path; name it, such as msa_3")


@dataclass(frozen=True)
class FrequencyOptions(PathOptions):
    """Options of the spatial frequencies of paths."""

    off: str = Option(
        "",
        label="Without",
        help="Paths that are left out of the second sum, such as embed,msa_0; empty compares "
        "nothing.",
    )
    limit: int = Option(
        1000,
        label="Images",
        help="Slices used at most.",
        minimum=1,
        maximum=1_000_000,
        advanced=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        path_list(self.off)


@dataclass(frozen=True)
class LabelledOptions(Options):
    """Options of jobs that measure over labelled images."""

    model: str = Option(
        DEFAULT_MODEL, label="Model", help="Name of a vision transformer in the catalogue."
    )
    limit: int = Option(
        1000,
        label="Images",
        help="Images used at most, as many of each class as there are.",
        minimum=2,
        maximum=1_000_000,
    )
    batch: int = Option(
        32, label="Batch", help="Images at a time.", minimum=1, maximum=4096, advanced=True
    )
    seed: int = Option(
        0,
        label="Seed",
        help="Of the choice of images, of how they are divided, and of the intervals.",
        minimum=0,
        maximum=2**31 - 1,
        advanced=True,
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
class FoldOptions(Options):
    """Options of a network without weights of paths that computes the same."""

    model: str = Option(
        DEFAULT_MODEL, label="Model", help="Name of a network with weights in its stream."
    )


@dataclass(frozen=True)
class LengthOptions(Options):
    """Options of the lengths of paths."""

    model: str = Option(
        DEFAULT_MODEL, label="Model", help="Name of a vision transformer in the catalogue."
    )


def path_list(text: str) -> tuple[str, ...]:
    """Read names of paths such as ``embed,msa_0``; each once.

    Raises
    ------
    OptionError
        One is none.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if not _PATH.fullmatch(name):
            raise OptionError(f"paths are embed, msa_0, ffn_0 and so on; got {name!r}")
    return tuple(dict.fromkeys(names))


def effect_list(text: str) -> tuple[str, ...]:
    """Read names of interventions; raises :class:`OptionError`."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    wrong = [name for name in names if name not in EFFECTS]
    if wrong or not names:
        raise OptionError(
            f"interventions are some of {', '.join(EFFECTS)}; got {wrong[0] if wrong else text!r}"
        )
    return names


def _job(name: str, run: str, options: str, title: str, help: str, batch: bool = False) -> JobSpec:
    return JobSpec(
        name=f"paths.{name}",
        run=f"napari_cvsuite.paths.{run}",
        options=f"napari_cvsuite.paths.options:{options}",
        title=title,
        help=help,
        job_class="batch" if batch else "interactive",
    )


JOBS = {
    "contributions": _job(
        "contributions",
        "contributions:run",
        "ContributionOptions",
        "Contributions",
        "Split the prediction of an image into the direct shares of its paths.",
    ),
    "whatif": _job(
        "whatif",
        "whatif:run",
        "WhatIfOptions",
        "What if",
        "Take paths away and see what the prediction becomes.",
    ),
    "map": _job(
        "map",
        "maps:run",
        "MapOptions",
        "Map",
        "Map what paths and the class token take from the patches.",
    ),
    "depth": _job(
        "depth",
        "depth:run",
        "TargetOptions",
        "Depth",
        "Read the prediction after each layer.",
    ),
    "depth_accuracy": _job(
        "depth_accuracy",
        "depth:accuracy",
        "DepthOptions",
        "Accuracy by depth",
        "Measure the prediction after each layer over labelled images.",
        batch=True,
    ),
    "influence": _job(
        "influence",
        "influence:run",
        "InfluenceOptions",
        "Influence",
        "Measure what accuracy loses without each path.",
        batch=True,
    ),
    "prune": _job(
        "prune",
        "pruning:run",
        "PruneOptions",
        "Prune",
        "Leave paths out of the final sum, with a check on held-out images.",
        batch=True,
    ),
    "scale": _job(
        "scale",
        "scaling:run",
        "ScaleOptions",
        "Scale",
        "Fit weights of the paths, with a check on held-out images.",
        batch=True,
    ),
    "fold": _job(
        "fold",
        "scaling:fold",
        "FoldOptions",
        "Fold",
        "Write weights in the stream into the layers themselves.",
    ),
    "frequency": _job(
        "frequency",
        "frequency:run",
        "FrequencyOptions",
        "Frequency",
        "Measure how coarse or fine what each path writes is.",
        batch=True,
    ),
    "lengths": _job(
        "lengths",
        "counting:run",
        "LengthOptions",
        "Lengths",
        "Count the paths of a network by length.",
    ),
}
