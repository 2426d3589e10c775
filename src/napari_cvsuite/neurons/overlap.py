"""How many pixels active units and labelled concepts share, counted over spooled images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.neurons.spool import Spool

__all__ = ["Concept", "Overlap", "Shifts", "count_overlap", "iou", "upsample"]

VALUES = 2**19
"""Values of one block of up-sampled maps: few enough for a processor's cache."""
SHIFTED = 2**24
"""Values of one block of shifted labels, whose products are faster the larger they are."""

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Concept:
    """One thing that pixels are labelled as.

    Parameters
    ----------
    value : int
        Its number in the label maps; positive.
    name : str
    group : int
        The label map in which it is looked for.
    """

    value: int
    name: str
    group: int


@dataclass(frozen=True)
class Shifts:
    """Random circular shifts of the label maps, drawn for every image on its own.

    Parameters
    ----------
    level : ndarray of int, shape (C,)
        The row of thresholds at which each concept is compared.
    count : int
    seed : int
    """

    level: NDArray[np.int64]
    count: int = 200
    seed: int = 0


@dataclass(frozen=True)
class Overlap:
    """Numbers of pixels, summed over the images that have a label.

    Parameters
    ----------
    pixels : int
        All pixels of these images.
    area : ndarray of int, shape (C,)
        Labelled as the concept.
    active : ndarray of int, shape (L, U)
        Where a unit is above its threshold.
    active_near : ndarray of int, shape (L, U, C)
        The same, only in images where it touches a pixel that is labelled in the concept's group.
    both : ndarray of int, shape (L, U, C)
        Active and labelled as the concept.
    shifted : ndarray of int, shape (S, U, C)
        Active and labelled after each random shift, at the level of the concept.
    """

    pixels: int
    area: Counts
    active: Counts
    active_near: Counts
    both: Counts
    shifted: Counts


def iou(both: Counts, active: Counts, area: Counts) -> NDArray[np.float64]:
    """Return intersection over union of areas; 0 where both areas are empty."""
    union = active + area - both
    return both / np.maximum(union, 1)


def count_overlap(
    spool: Spool,
    numbers: Sequence[int],
    concepts: Sequence[Concept],
    thresholds: NDArray[np.float64],
    context: Context,
    shifts: Shifts | None = None,
    side: int = 0,
    device: torch.device | str = "cpu",
) -> Overlap:
    """Count over the images that have a label; those without any are left out.

    Parameters
    ----------
    spool : Spool
    numbers : sequence of int
        Which of its images.
    concepts : sequence of Concept
    thresholds : ndarray of float64, shape (L, U)
        A unit is active where its up-sampled map is larger.
    context : Context
    shifts : Shifts, optional
        Also count with shifted labels.
    side : int
        Count on every n-th row and column only, n such that the shorter side of the labels keeps
        this many or a few more; 0 for all.
    device : torch.device or str
    """
    counter = _Counter(concepts, thresholds, shifts, side, device, context)
    for done, number in enumerate(numbers):
        context.progress(done, len(numbers), "comparing units with concepts")
        labels = spool.labels(number)
        if labels.any():
            counter.add(number, spool.activations(number), labels)
    return counter.result()


class _Counter:
    """The running sums."""

    def __init__(
        self,
        concepts: Sequence[Concept],
        thresholds: NDArray[np.float64],
        shifts: Shifts | None,
        side: int,
        device: torch.device | str,
        context: Context,
    ) -> None:
        self.values = np.array([one.value for one in concepts])
        self.group = np.array([one.group for one in concepts])
        self.thresholds, self.shifts, self.side, self.device = thresholds, shifts, side, device
        levels, units, named = *thresholds.shape, len(concepts)
        self.context = context
        self.pixels = 0
        self.area = np.zeros(named, np.int64)
        self.active = np.zeros((levels, units), np.int64)
        self.active_near = np.zeros((levels, units, named), np.int64)
        self.both = np.zeros((levels, units, named), np.int64)
        self.shifted = np.zeros((shifts.count if shifts else 0, units, named), np.int64)

    def result(self) -> Overlap:
        """Return the sums so far."""
        return Overlap(
            self.pixels, self.area, self.active, self.active_near, self.both, self.shifted
        )

    def add(self, number: int, activations: NDArray[Any], labels: NDArray[Any]) -> None:
        """Add an image."""
        size = (labels.shape[1], labels.shape[2])
        step = max(1, min(size) // self.side) if self.side else 1
        labels = labels[:, step // 2 :: step, step // 2 :: step]
        maps = torch.from_numpy(activations).to(self.device)
        lowest = torch.from_numpy(_rounded_down(self.thresholds, activations.dtype)).to(self.device)
        seen = [np.unique(one) for one in labels]
        pairs = enumerate(zip(self.values, self.group, strict=True))
        present = np.array([i for i, (value, group) in pairs if value in seen[group]], np.int64)
        planes = labels[self.group[present]] == self.values[present, None, None]
        columns = self._columns(
            np.concatenate([np.ones((1, *labels.shape[1:]), bool), labels > 0, planes]), maps.dtype
        )
        for level, units, on in _active(maps, lowest, size, step, VALUES):
            counts = (on @ columns).cpu().numpy().astype(np.int64)
            touched = counts[:, 1 : 1 + len(labels)] > 0
            self.active[level, units] += counts[:, 0]
            self.active_near[level, units] += counts[:, :1] * touched[:, self.group]
            self.both[level, units[:, None], present] += counts[:, 1 + len(labels) :]
        self.area[present] += planes.sum(axis=(1, 2))
        self.pixels += labels[0].size
        if self.shifts is not None:
            self._add_shifted(self.shifts, number, maps, lowest, planes, present)

    def _columns(self, planes: NDArray[np.bool_], kind: torch.dtype) -> Tensor:
        """Return planes as the columns of a matrix."""
        flat = torch.from_numpy(planes.reshape(len(planes), -1)).to(self.device)
        return flat.to(kind).T

    def _add_shifted(
        self,
        shifts: Shifts,
        number: int,
        maps: Tensor,
        lowest: Tensor,
        planes: NDArray[np.bool_],
        present: NDArray[np.int64],
    ) -> None:
        """Add an image with its labels shifted, in blocks of shifts that fit in memory."""
        size = (planes.shape[1], planes.shape[2])
        # Seeded by the number, so that the order and the batches of images change nothing.
        rng = np.random.default_rng((shifts.seed, number))
        drawn = rng.integers(0, size, (shifts.count, 2))
        for level in np.unique(shifts.level[present]):
            inside = shifts.level[present] == level
            here, same_level = present[inside], planes[inside]
            most = max(1, SHIFTED // same_level.size)
            for start in range(0, len(drawn), most):
                block = drawn[start : start + most]
                rolled = [np.roll(same_level, tuple(one), axis=(1, 2)) for one in block]
                columns = self._columns(np.concatenate(rolled), maps.dtype)
                where = np.arange(start, start + len(block))[:, None, None]
                row = lowest[level : level + 1]
                for _, units, on in _active(maps, row, size, 1, 8 * VALUES):
                    self.context.check()
                    counts = (on @ columns).cpu().numpy().astype(np.int64)
                    counts = counts.reshape(len(units), len(block), len(here)).swapaxes(0, 1)
                    self.shifted[where, units[:, None], here] += counts


def _active(
    maps: Tensor, thresholds: Tensor, size: tuple[int, int], step: int, values: int
) -> Iterator[tuple[int, NDArray[np.int64], Tensor]]:
    """Yield, in blocks, a level, units, and where they are active as 0 or 1, one row a unit.

    Up-sampling never exceeds a map's maximum, so units below their threshold everywhere are
    skipped: most of them at the usual thresholds.
    """
    peaks = maps.amax(dim=(1, 2))
    able = (peaks > thresholds.amin(dim=0)).nonzero()[:, 0]
    for units in torch.split(able, max(1, values * step**2 // (size[0] * size[1]))):
        large = upsample(maps[units], size, step).flatten(1)
        for level, row in enumerate(thresholds):
            live = peaks[units] > row[units]
            if bool(live.any()):
                chosen = units[live]
                shown = large if bool(live.all()) else large[live]
                # Written as numbers at once, which a product needs, instead of as booleans.
                on = torch.gt(shown, row[chosen, None], out=torch.empty_like(shown))
                yield level, chosen.cpu().numpy(), on


def upsample(maps: Tensor, size: tuple[int, int], step: int = 1) -> Tensor:
    """Enlarge maps bilinearly with half-pixel centres, ``align_corners=False``.

    By two products with the matrices of the interpolation along rows and columns, several times
    faster on a CPU than ``torch.nn.functional.interpolate``, which it equals up to rounding.

    Parameters
    ----------
    maps : Tensor of float, shape (n, h, w)
    size : tuple of two int
        Height and width of the enlarged maps.
    step : int
        Return only every `step`-th row and column, from number ``step // 2`` on.

    Returns
    -------
    Tensor, shape (n, *size) where `step` is 1
    """
    rows, columns = (
        _weights(maps.shape[1 + axis], size[axis], maps.dtype, maps.device)[step // 2 :: step]
        for axis in (0, 1)
    )
    return rows @ (maps @ columns.T)


@lru_cache(maxsize=8)
def _weights(before: int, after: int, kind: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix that interpolates `before` values to `after`."""
    eye = torch.eye(before, dtype=kind, device=device)[None]
    return F.interpolate(eye, size=after, mode="linear", align_corners=False)[0].T.contiguous()


def _rounded_down(thresholds: NDArray[np.float64], kind: np.dtype[Any]) -> NDArray[Any]:
    """Return thresholds in the type of the maps that select exactly the same values."""
    rounded = thresholds.astype(kind)
    return np.where(rounded > thresholds, np.nextafter(rounded, kind.type(-np.inf)), rounded)
