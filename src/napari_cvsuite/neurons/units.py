"""What dissection found: a table of units and concepts, and two such tables compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.neurons.overlap import Concept

__all__ = ["CUT", "Comparison", "Dissection", "compare"]

CUT = 0.04
"""IoU from which on a unit is a detector in the paper."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Dissection:
    """Units of a layer against concepts.

    Parameters
    ----------
    layer : str
    concepts : tuple of Concept, C of them
    groups : tuple of str
        Names of the groups, in the order of :attr:`Concept.group`.
    mode : {"paper", "plain"}
        Which IoU labels the units.
    cut : float
        IoU from which on a unit is a detector.
    q : ndarray of float64, shape (C,)
        Share of positions above the threshold; that chosen for each concept.
    threshold : ndarray of float64, shape (U, C)
        The activation above which a unit is active.
    on : ndarray of float64, shape (U, C)
        Share of pixels at which the enlarged map is active, over images that have a label. It is
        below q, as enlarging lowers peaks.
    area : ndarray of float64, shape (C,)
        Share of pixels labelled as the concept.
    iou_paper, iou_plain : ndarray of float64, shape (U, C)
        In [0, 1].
    p, p_family : ndarray of float64, shape (U, C), or None
        Of one unit, and of any unit of the layer: the chance that a concept shifted at random
        reaches the IoU of plain mode. Definition of this project.
    """

    layer: str
    concepts: tuple[Concept, ...]
    groups: tuple[str, ...]
    mode: str
    cut: float
    q: Floats
    threshold: Floats
    on: Floats
    area: Floats
    iou_paper: Floats
    iou_plain: Floats
    p: Floats | None = None
    p_family: Floats | None = None

    @property
    def iou(self) -> Floats:
        """IoU of the mode, shape (U, C)."""
        return self.iou_paper if self.mode == "paper" else self.iou_plain

    @property
    def chance(self) -> Floats:
        """IoU that independent masks of these shares have in plain mode, shape (U, C).

        p a / (p + a - p a) for shares p of active and a of labelled pixels. Definition of this
        project.
        """
        met = self.on * self.area
        return _ratio(met, self.on + self.area - met)

    @property
    def ceiling(self) -> Floats:
        """Largest IoU that shares allow in plain mode, min(p, a) / max(p, a), shape (U, C)."""
        return _ratio(np.minimum(self.on, self.area), np.maximum(self.on, self.area))

    @property
    def best(self) -> NDArray[np.int64]:
        """Concept of largest IoU of each unit, an index of `concepts`, shape (U,)."""
        return self.iou.argmax(axis=1)

    @property
    def detectors(self) -> NDArray[np.bool_]:
        """Which units are detectors, shape (U,)."""
        return self.iou.max(axis=1) >= self.cut

    @property
    def labels(self) -> list[str]:
        """Concept of each unit, empty where it is no detector."""
        pairs = zip(self.best, self.detectors, strict=True)
        return [self.concepts[best].name if detects else "" for best, detects in pairs]

    @property
    def unique_concepts(self) -> tuple[str, ...]:
        """Concepts that have a detector, in the order of `concepts`."""
        return tuple(self.concepts[index].name for index in np.unique(self.best[self.detectors]))

    @property
    def detectors_of_groups(self) -> dict[str, int]:
        """Number of detectors in each group of concepts."""
        met = Counter(self.concepts[index].group for index in self.best[self.detectors])
        return {name: met[number] for number, name in enumerate(self.groups)}

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each unit and concept, channels counted from 0.

        ``detector`` is true in the row of the concept that labels a detector.
        """
        table: list[dict[str, Any]] = []
        iou, chance, ceiling = self.iou, self.chance, self.ceiling
        best, detects = self.best, self.detectors
        for unit in range(len(iou)):
            for index, concept in enumerate(self.concepts):
                row = {
                    "channel": unit,
                    "concept": concept.name,
                    "group": self.groups[concept.group],
                    "iou": float(iou[unit, index]),
                    "chance": float(chance[unit, index]),
                    "ceiling": float(ceiling[unit, index]),
                    "on": float(self.on[unit, index]),
                    "area": float(self.area[index]),
                    "q": float(self.q[index]),
                    "threshold": float(self.threshold[unit, index]),
                    "detector": bool(detects[unit] and best[unit] == index),
                }
                if self.p is not None and self.p_family is not None:
                    row["p"] = float(self.p[unit, index])
                    row["p_family"] = float(self.p_family[unit, index])
                table.append(row)
        return table


def _ratio(above: Floats, below: Floats) -> Floats:
    """Divide, 0 where both are 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


@dataclass(frozen=True)
class Comparison:
    """What changed from a network S to a network R.

    Parameters
    ----------
    gained, lost, kept : tuple of str
        Concepts that have a detector in R only, in S only, in both.
    detectors : tuple of two float
        Share of the units of S and of R that are detectors.
    groups : dict of str to tuple of two float
        Share of the units of S and of R that detect a concept of the group.
    """

    gained: tuple[str, ...]
    lost: tuple[str, ...]
    kept: tuple[str, ...]
    detectors: tuple[float, float]
    groups: dict[str, tuple[float, float]]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each concept that has a detector in S or R."""
        states = (("gained", self.gained), ("lost", self.lost), ("kept", self.kept))
        return [{"concept": name, "change": state} for state, found in states for name in found]


def compare(S: Dissection, R: Dissection) -> Comparison:
    """Compare the dissections of a standard network S and a robust network R.

    Shares of units are compared, so the layers may have different numbers of channels.

    Raises
    ------
    ValueError
        They were not dissected in the same way, with the same concepts.
    """
    named = [{(c.name, one.groups[c.group]) for c in one.concepts} for one in (S, R)]
    if named[0] != named[1] or (S.mode, S.cut) != (R.mode, R.cut):
        raise ValueError("S and R differ in concepts, mode or cut; dissect both on the same images")
    before, after = S.unique_concepts, R.unique_concepts
    units = len(S.iou), len(R.iou)
    counts = S.detectors_of_groups, R.detectors_of_groups
    return Comparison(
        gained=tuple(name for name in after if name not in before),
        lost=tuple(name for name in before if name not in after),
        kept=tuple(name for name in before if name in after),
        detectors=(float(S.detectors.mean()), float(R.detectors.mean())),
        groups={n: (counts[0][n] / units[0], counts[1][n] / units[1]) for n in S.groups},
    )
