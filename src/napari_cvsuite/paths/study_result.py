"""Studies of deep transformers, and comparisons over their seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import t as student

from napari_cvsuite.paths.study_measure import Measured
from napari_cvsuite.paths.study_options import PLAIN
from napari_cvsuite.reports.intervals import Interval

__all__ = [
    "KIND",
    "KindRow",
    "Seeds",
    "Study",
    "Trained",
    "accuracy",
    "difference",
    "kind_rows",
    "seeds_of",
    "short_paths",
]

KIND = "study of vision transformers"
"""By which a file is known."""


@dataclass(frozen=True)
class Trained:
    """A network of a study.

    Parameters
    ----------
    variant : str
        See :data:`napari_cvsuite.paths.study_options.VARIANTS`.
    layers, seed : int
    parameters : int
        Weights of the network.
    trained_on, held_out : int
        Numbers of images.
    score : float
        Mean recall on the held-out part, which chose the epoch.
    seconds : float
        Of training and measuring together.
    measured : Measured
    """

    variant: str
    layers: int
    seed: int
    parameters: int
    trained_on: int
    held_out: int
    score: float
    seconds: float
    measured: Measured


@dataclass(frozen=True)
class Study:
    """Transformers of several depths, trained in several ways, with several seeds.

    Parameters
    ----------
    name : str
        Of the data.
    data : dict
        Folders, numbers of images, classes and hashes of the training and the test images.
    options : dict
        Of the study.
    complete : bool
        Whether all networks of the plan are there.
    runs : tuple of Trained
    command : str
    date, version : str
    made_on : dict
        Device, precision, threads and versions.
    kind : str
        :data:`KIND`.
    """

    name: str
    data: dict[str, Any]
    options: dict[str, Any]
    complete: bool
    runs: tuple[Trained, ...]
    command: str
    date: str
    version: str
    made_on: dict[str, Any]
    kind: str = field(default=KIND)

    def of(self, variant: str, layers: int) -> tuple[Trained, ...]:
        """Return the networks of one kind, by seed."""
        found = [one for one in self.runs if (one.variant, one.layers) == (variant, layers)]
        return tuple(sorted(found, key=lambda one: one.seed))

    @property
    def depths(self) -> tuple[int, ...]:
        """Depths of the plain networks."""
        return tuple(sorted({one.layers for one in self.runs if one.variant == PLAIN}))

    @property
    def deepest(self) -> int:
        """Largest of these depths; 0 where there is none."""
        return max(self.depths, default=0)

    @property
    def variants(self) -> tuple[str, ...]:
        """Variants beside the plain one, in the order of training."""
        names = dict.fromkeys(one.variant for one in self.runs if one.variant != PLAIN)
        return tuple(names)

    @property
    def kinds(self) -> tuple[tuple[str, int], ...]:
        """Variant and depth of all kinds of networks."""
        plain = [(PLAIN, depth) for depth in self.depths]
        others = dict.fromkeys((r.variant, r.layers) for r in self.runs if r.variant != PLAIN)
        return (*plain, *others)


@dataclass(frozen=True)
class Seeds:
    """A number of several seeds.

    Parameters
    ----------
    seeds : tuple of int
    values : tuple of float
        One a seed.
    mean : Interval
        With Student's interval of 95 % for the mean over seeds; of one seed it has no limits.
    deviation : float
        Of the values, with n - 1; of one seed none.
    """

    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: Interval
    deviation: float


@dataclass(frozen=True)
class KindRow:
    """Networks of one kind over their seeds, all on the test images.

    Parameters
    ----------
    variant : str
    layers : int
    accuracy, short : Seeds
        Accuracy of the networks, and of their short paths; see :func:`short_paths`.
    accuracy_gain, short_gain : Seeds or None
        The same minus that of plain networks of the largest depth and the same seed; none for
        plain networks.
    pruning, scale_scalar, scale_channel : Seeds
        Change of accuracy by greedy pruning, and by weights fitted to the trained network.
    growth : Seeds
        Mean length of the patch tokens after the last layer, over that before the first.
    """

    variant: str
    layers: int
    accuracy: Seeds
    accuracy_gain: Seeds | None
    short: Seeds
    short_gain: Seeds | None
    pruning: Seeds
    scale_scalar: Seeds
    scale_channel: Seeds
    growth: Seeds


def seeds_of(values: Mapping[int, float]) -> Seeds:
    """Return the mean of the values of some seeds, with its interval.

    Parameters
    ----------
    values : mapping of int to float
        By seed; of none the mean is NaN.
    """
    seeds = tuple(sorted(values))
    found = np.array([values[seed] for seed in seeds], np.float64)
    mean = float(found.mean()) if len(found) else math.nan
    if len(found) < 2:
        return Seeds(seeds, tuple(found.tolist()), Interval(mean, math.nan, math.nan), math.nan)
    deviation = float(found.std(ddof=1))
    half = float(student.ppf(0.975, len(found) - 1)) * deviation / math.sqrt(len(found))
    interval = Interval(mean, mean - half, mean + half)
    return Seeds(seeds, tuple(found.tolist()), interval, deviation)


def difference(
    runs: Sequence[Trained], others: Sequence[Trained], value: Callable[[Trained], float]
) -> Seeds:
    """Return a number of some networks minus that of others with the same seed."""
    before = {one.seed: value(one) for one in others}
    return seeds_of({one.seed: value(one) - before[one.seed] for one in runs if one.seed in before})


def accuracy(run: Trained) -> float:
    """Return the accuracy of a network on the test images."""
    return run.measured.accuracy.value


def short_paths(run: Trained) -> float:
    """Return the mean accuracy of a network's classifier on the sums of its short paths.

    Those are sums up to the depths that self-distillation teaches: from a third of the layers to
    all but one; NaN where there is none.
    """
    third = -(-run.layers // 3)
    lens = run.measured.lens[third : run.layers]
    return float(np.mean(lens)) if lens else math.nan


def kind_rows(study: Study) -> tuple[KindRow, ...]:
    """Return a row for each kind of network of a study."""
    return tuple(_kind_row(study, variant, layers) for variant, layers in study.kinds)


def _kind_row(study: Study, variant: str, layers: int) -> KindRow:
    runs, plain = study.of(variant, layers), study.of(PLAIN, study.deepest)

    def over(value: Callable[[Trained], float]) -> Seeds:
        return seeds_of({one.seed: value(one) for one in runs})

    def gain(value: Callable[[Trained], float]) -> Seeds | None:
        return None if variant == PLAIN else difference(runs, plain, value)

    return KindRow(
        variant,
        layers,
        over(accuracy),
        gain(accuracy),
        over(short_paths),
        gain(short_paths),
        over(lambda one: one.measured.pruned.change.value),
        over(lambda one: one.measured.scaled["scalar"].change.value),
        over(lambda one: one.measured.scaled["channel"].change.value),
        over(lambda one: one.measured.stream[-1] / one.measured.stream[0]),
    )
