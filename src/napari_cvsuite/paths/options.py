"""Options of the jobs that take a vision transformer apart into paths. Loads no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from napari_cvsuite.jobs.options import Option, OptionError
from napari_cvsuite.models.view_options import ViewOptions
from napari_cvsuite.paths.jobs import JOBS

__all__ = [
    "DEFAULT_MODEL",
    "EFFECTS",
    "INTERVENTIONS",
    "JOBS",
    "MAPS",
    "REPLACEMENTS",
    "ContributionOptions",
    "FrequencyOptions",
    "MapOptions",
    "PathOptions",
    "TargetOptions",
    "MOST_WEIGHT",
    "WhatIfOptions",
    "path_list",
    "weight_list",
]

DEFAULT_MODEL = "cifar-vit"
EFFECTS = ("removed_final", "total_module", "total_layer", "total_head", "total_edge")
"""Interventions that change the logits of one image."""
INTERVENTIONS = {
    "direct": "What the path writes into the class, as a share of the sum; nothing is recomputed.",
    "removed_final": "The path is left out of the sum that the classifier reads; later layers "
    "still see it.",
    "total_edge": "What attention writes is kept from the stream, but the feed-forward network of "
    "its layer still sees it; everything later is recomputed.",
    "total_module": "The path writes something else everywhere; all that follows is recomputed.",
    "total_layer": "Both paths of a layer write something else everywhere; all that follows is "
    "recomputed.",
    "total_head": "One attention head writes something else everywhere; the output bias stays, "
    "and all that follows is recomputed.",
    "attribution_patching": "First-order estimate of the total effect: what the path writes times "
    "the gradient of the class.",
}
"""What can be done to a path, and what the number then means, in a line each."""
REPLACEMENTS = ("zero", "mean", "other")
MOST_WEIGHT = 2.0
"""Largest weight of a path."""
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
    weights: str = Option(
        "",
        label="Weights",
        help="Paths that are weighed together with these, such as msa_0=0.5,ffn_3=2; from 0, "
        "which is off, to 2.",
        advanced=True,
    )
    estimate: bool = Option(
        True,
        label="First-order estimate",
        help="Also estimate what leaving out each path would do, from one gradient a class.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.changes and self.intervention not in ("removed_final", "total_module"):
            raise OptionError(
                f"{self.intervention} goes through all parts in turn; name no paths, or choose "
                "removed_final or total_module"
            )
        if self.intervention == "removed_final" and self.replacement != "zero":
            raise OptionError("removed_final leaves paths out, without any replacement; use zero")

    @property
    def changes(self) -> dict[str, float]:
        """Weights of the paths that are changed together, by name; 0 is off."""
        off, weighed = path_list(self.off), weight_list(self.weights)
        both = [name for name in off if name in weighed]
        if both:
            raise OptionError(f"{both[0]} is switched off and weighed; name it once")
        return dict.fromkeys(off, 0.0) | weighed


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


def weight_list(text: str) -> dict[str, float]:
    """Read weights of paths such as ``msa_0=0.5,ffn_3=2``.

    Raises
    ------
    OptionError
        One is none, or lies outside of 0 to :data:`MOST_WEIGHT`.
    """
    found: dict[str, float] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, _, value = part.partition("=")
        (path,) = path_list(name) or ("",)
        try:
            weight = float(value)
        except ValueError:
            weight = -1.0
        if not path or not 0 <= weight <= MOST_WEIGHT:
            raise OptionError(
                f"weights are paths with a number from 0 to {MOST_WEIGHT:g}, such as msa_0=0.5; "
                f"got {part!r}"
            )
        if path in found:
            raise OptionError(f"{path} has two weights; name it once")
        found[path] = weight
    return found
