"""Map of local quality: scores of overlapping windows, and where the network looked."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images import Grid, Image, ImageError, Tile
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.planes import Pixels
from napari_cvsuite.quality.options import MapOptions
from napari_cvsuite.quality.score import provenance, sources
from napari_cvsuite.quality.scorer import Scorer

__all__ = ["QualityMap", "grid_of", "run"]

MOST_WINDOWS = 1_000_000


@dataclass(frozen=True)
class QualityMap:
    """Outcome for one image.

    Parameters
    ----------
    scores : ndarray of float32, shape (stack axes..., h, w)
        Score of each window; NaN where there is nothing to judge.
    grid : Grid
    attention : tuple of ndarray of float32, shape (stack axes..., h, w)
        Where the network looked in the whole plane, from fine to coarse scale; 1 is the mean.
        Empty unless asked for.
    attention_grids : tuple of Grid
    axes : str
        Stack axes, then those along the rows and columns of the planes.
    provenance : dict
        See :class:`napari_cvsuite.quality.score.ScoreResult`.
    """

    scores: NDArray[np.float32]
    grid: Grid
    attention: tuple[NDArray[np.float32], ...]
    attention_grids: tuple[Grid, ...]
    axes: str
    provenance: dict[str, Any]


def grid_of(shape: tuple[int, int], window: int, step: int) -> tuple[list[list[Tile]], Grid]:
    """Place windows evenly, at most `step` apart, so that they cover a plane.

    Parameters
    ----------
    shape : tuple of int
        Height and width.
    window, step : int
        In pixels; a smaller plane has one smaller window.

    Returns
    -------
    windows : list of list of Tile
        Row by row.
    grid : Grid
    """
    sides = [min(window, extent) for extent in shape]
    counts = [-(-(extent - side) // step) + 1 for extent, side in zip(shape, sides, strict=True)]
    starts = [
        np.linspace(0, extent - side, count).round().astype(int)
        for extent, side, count in zip(shape, sides, counts, strict=True)
    ]
    tiles = [[Tile(int(y), int(x), *sides) for x in starts[1]] for y in starts[0]]
    steps = [
        (extent - side) / (count - 1) if count > 1 else float(extent)
        for extent, side, count in zip(shape, sides, counts, strict=True)
    ]
    origin = [(side - 1) / 2 for side in sides]
    return tiles, Grid((steps[0], steps[1]), (origin[0], origin[1]))


def run(
    image: Image, options: MapOptions, context: Context, reference: Image | None = None
) -> QualityMap:
    """Score overlapping windows of every plane.

    Parameters
    ----------
    image : Image
    options : MapOptions
    context : Context
    reference : Image, optional
        For models that compare.

    Raises
    ------
    ImageError
        As :func:`napari_cvsuite.quality.score.run`, or there would be too many windows.
    WeightsError, UnknownModelError, CardError, DeviceError, MemoryExhausted, Cancelled
    """
    started = time.monotonic()
    options = options.resolved(reference is not None)
    scorer = Scorer(options, context, reference is not None)
    planes, references = sources(image, reference if scorer.compares else None, options, context)
    tiles, grid = grid_of(planes.shape, options.window, options.step)
    shape, flat = (len(tiles), len(tiles[0])), [tile for row in tiles for tile in row]
    indices = planes.indices()
    total = len(indices) * len(flat)
    if total > MOST_WINDOWS:
        raise ImageError(f"{total} windows are too many to score; take a larger step or a part")
    scores = np.full((len(indices), *shape), np.nan, np.float32)
    looked: list[list[Pixels]] = []
    for number, index in enumerate(indices):
        pixels, other = planes.read(index), references.at(number)
        before = number * len(flat)

        def done(count: int, before: int = before) -> None:
            context.progress(before + count, total, f"window {before + count} of {total}")

        # Windows without any contrast have no quality to speak of.
        seen = [tile for tile in flat if np.ptp(_part(pixels, tile))]
        found = iter(scorer.score_windows(pixels, seen, other, done))
        kept = set(seen)
        scores[number] = np.reshape([next(found) if t in kept else np.nan for t in flat], shape)
        if options.attention:
            looked.append(scorer.attention(pixels, other))
    if np.isnan(scores).all():
        raise ImageError("there is nothing to judge: all pixels are equal; choose another image")
    stack = tuple(planes.image.size(axis) for axis in planes.image.stack_axes)
    levels = [np.stack(one).reshape(*stack, *one[0].shape) for one in zip(*looked, strict=True)]
    return QualityMap(
        scores.reshape(*stack, *shape),
        grid,
        tuple(levels),
        tuple(_cells(planes.shape, one.shape[-2:]) for one in levels),
        "".join(planes.image.stack_axes) + "yx",
        provenance(scorer, planes) | {"seconds": round(time.monotonic() - started, 3)},
    )


def _part(pixels: Pixels, tile: Tile) -> Pixels:
    return pixels[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]


def _cells(shape: tuple[int, int], cells: tuple[int, ...]) -> Grid:
    """Return the grid of cells that divide a plane."""
    step = (shape[0] / cells[0], shape[1] / cells[1])
    return Grid(step, ((step[0] - 1) / 2, (step[1] - 1) / 2))
