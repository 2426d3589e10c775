"""Where values lie that are coarser, or finer, than the pixels they tell of."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Grid"]


@dataclass(frozen=True)
class Grid:
    """Where the values of a map lie on a plane, in its pixels.

    Parameters
    ----------
    step : tuple of float
        Distance of neighbouring values along y and x.
    origin : tuple of float
        Position of the first value: the centre of what it tells of, where pixel centres are
        whole numbers.
    """

    step: tuple[float, float]
    origin: tuple[float, float]
