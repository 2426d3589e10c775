"""What the report on the paths of a transformer holds, section by section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.paths.frequency import Frequencies
from napari_cvsuite.paths.influence import Effect, Influence
from napari_cvsuite.paths.pruning import Pruned
from napari_cvsuite.paths.scaling import Scaled
from napari_cvsuite.paths.study_result import KindRow, Study
from napari_cvsuite.reports.intervals import Interval

__all__ = [
    "CheckPart",
    "Filter",
    "FrequencyPart",
    "InfluencePart",
    "PruningPart",
    "ScalePart",
    "StudyPart",
    "Studies",
    "points",
]


def points(change: Interval) -> str:
    """Return a change of accuracy in words."""
    return f"{100 * change.value:+.2f} points [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"


@dataclass(frozen=True)
class CheckPart:
    """How far sums of shares are from what they add up to, over images and classes.

    Parameters
    ----------
    images : int
    largest : float
        Largest magnitude of what the shares of the paths add up to.
    paths : float
        Largest difference of the sum over all paths and the constant.
    heads, sources : float
        That of the shares of attention paths to the sum over their heads, and over their source
        tokens, each with the output bias.
    parts : float
        That of the logits of the network, run part by part, to its own.
    unit : {"logits", "pre_logits"}
        What the shares add up to.
    """

    images: int
    largest: float
    paths: float
    heads: float
    sources: float
    parts: float
    unit: str

    def in_words(self) -> str:
        """Return one sentence."""
        return (
            f"Over {self.images} images the shares of all paths miss the {self.unit} by "
            f"{self.paths:.1e} at most; the largest of these is {self.largest:.1f}."
        )


@dataclass(frozen=True)
class InfluencePart:
    """What each path is worth over labelled images.

    Parameters
    ----------
    zero, mean : Influence
        By what is written instead of a path. The first has all interventions, the second those
        that have a replacement.
    frequent : float
        Share of the most frequent class: the accuracy of a constant answer.
    """

    zero: Influence
    mean: Influence
    frequent: float

    def effects(self, intervention: str, replacement: str = "zero") -> dict[str, Effect]:
        """Return the effects of an intervention by path or layer."""
        found = self.zero if replacement == "zero" else self.mean
        return {one.path: one for one in found.effects if one.intervention == intervention}

    def early(self) -> tuple[str, ...]:
        """Return the module paths of the first half of the layers, short ones."""
        layers = (len(self.zero.names) - 1) // 2
        return self.zero.names[1 : 1 + 2 * max(1, layers // 2)]

    def in_words(self) -> str:
        """Return one sentence."""
        rate = self.zero.accuracy
        return (
            f"The network names {rate.value:.1%} of {rate.n} images rightly. Left out of the final "
            f"sum alone, {_costliest(self.effects('removed_final'))}; replaced by its mean "
            f"throughout, {_costliest(self.effects('total_module', 'mean'))}."
        )


def _costliest(effects: Mapping[str, Effect]) -> str:
    """Return in words without which path accuracy falls most."""
    change = {name: 100 * one.accuracy.value for name, one in effects.items()}
    worst = min(change, key=lambda name: change[name])
    if change[worst] >= 0:
        return "no path costs accuracy"
    return f"{worst} costs most, {-change[worst]:.2f} points"


@dataclass(frozen=True)
class PruningPart:
    """Paths left out of the final sum, greedily and layer by layer from the embedding on."""

    greedy: Pruned
    from_layer: Pruned

    def in_words(self) -> str:
        """Return one sentence."""
        found = self.greedy
        names = ", ".join(found.removed) or "nothing"
        return (
            f"Greedy pruning leaves out {names}; on held-out images accuracy changes by "
            f"{points(found.held_out_change)}."
        )


@dataclass(frozen=True)
class ScalePart:
    """Weights of the paths in the final sum, fitted to the trained network."""

    scalar: Scaled
    channel: Scaled

    @property
    def named(self) -> tuple[tuple[str, Scaled], ...]:
        """Both with their names."""
        return ("one a path", self.scalar), ("one a path and channel", self.channel)

    def in_words(self) -> str:
        """Return one sentence."""
        found = "; ".join(f"{name}, by {points(one.held_out_change)}" for name, one in self.named)
        return f"On held-out images fitted weights change accuracy: {found}."


@dataclass(frozen=True)
class Filter:
    """What a change of the final sum does to its frequencies.

    Parameters
    ----------
    name : str
    curve : ndarray of float32, shape (F,)
        Log amplitudes of the changed sum, relative to DC.
    change : Interval
        Of the upper half of the frequencies against the whole sum, the mean over images with its
        95 % interval by the bootstrap over these.
    changed : bool
        Whether the sum was changed at all.
    """

    name: str
    curve: NDArray[np.float32]
    change: Interval
    changed: bool

    @property
    def kind(self) -> str:
        """High-pass or low-pass, or neither."""
        if not self.changed:
            return "changes nothing"
        if self.change.low > 0:
            return "high-pass"
        return "low-pass" if self.change.high < 0 else "neither"


@dataclass(frozen=True)
class FrequencyPart:
    """Frequencies of all paths and of the sum, and what combining the paths anew does to these.

    Parameters
    ----------
    curves : Frequencies
    filters : tuple of Filter
        Pruning, and both fits of weights.
    """

    curves: Frequencies
    filters: tuple[Filter, ...]

    def in_words(self) -> str:
        """Return one sentence."""
        names, finer = self.curves.names, self.curves.finer()
        kinds = {
            kind: [one for name, one in zip(names, finer, strict=True) if name.startswith(kind)]
            for kind in ("msa", "ffn")
        }
        filters = "; ".join(f"{one.name}: {one.kind}" for one in self.filters)
        return (
            f"{sum(kinds['msa'])} of {len(kinds['msa'])} attention paths and {sum(kinds['ffn'])} "
            f"of {len(kinds['ffn'])} feed-forward paths are finer than the sum. As a filter of "
            f"the sum: {filters}."
        )


@dataclass(frozen=True)
class StudyPart:
    """A study of deep transformers with its means over seeds."""

    study: Study
    rows: tuple[KindRow, ...]

    def row(self, variant: str, layers: int) -> KindRow | None:
        """Return the row of one kind of network, if there is one."""
        found = [one for one in self.rows if (one.variant, one.layers) == (variant, layers)]
        return found[0] if found else None


@dataclass(frozen=True)
class Studies:
    """All studies of a report."""

    parts: tuple[StudyPart, ...]

    def in_words(self) -> str:
        """Return one sentence."""
        named = "; ".join(
            f"{len(one.study.runs)} networks of up to {one.study.deepest} layers on "
            f"{one.study.name}"
            for one in self.parts
        )
        return f"These are other networks than the one above: {named}."
