"""Overlapping tiles, and their smooth blending row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tile", "blend_rows", "plan_tiles"]

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Tile:
    """A rectangle of the image: ``[y, y + height) x [x, x + width)``."""

    y: int
    x: int
    height: int
    width: int


def _starts(side: int, tile: int, halo: int) -> list[int]:
    if side <= tile:
        return [0]
    count = -(-(side - 2 * halo) // (tile - 2 * halo))
    return [round(i * (side - tile) / (count - 1)) for i in range(count)]


def plan_tiles(shape: tuple[int, int], tile: int, halo: int) -> list[Tile]:
    """Cover an image with tiles that overlap by at least ``2 * halo``, row by row.

    Parameters
    ----------
    shape : tuple of int
        Height and width.
    tile : int
        Side of the tiles; a smaller image has smaller tiles.
    halo : int
        Context around the part of a tile that counts.

    Raises
    ------
    ValueError
        The halo leaves nothing of a tile.
    """
    if halo < 0 or 2 * halo >= tile:
        raise ValueError(f"halo {halo} must be less than half of the tile {tile}")
    height, width = shape
    return [
        Tile(y, x, min(tile, height), min(tile, width))
        for y in _starts(height, tile, halo)
        for x in _starts(width, tile, halo)
    ]


def _window(start: int, length: int, side: int, halo: int) -> Array:
    """Weight along one side: zero for half a halo at inner borders, then a raised cosine."""
    weight = np.ones(length, np.float32)
    dead = -(-halo // 2)
    rise = max(2 * halo - 2 * dead, 0)
    ramp = np.zeros(min(dead + rise, length), np.float32)
    steps = np.arange(len(ramp) - dead)
    ramp[dead:] = 0.5 - 0.5 * np.cos(np.pi * (steps + 1) / (rise + 1))
    if start > 0:
        weight[: len(ramp)] *= ramp
    if start + length < side:
        weight[length - len(ramp) :] *= ramp[::-1]
    return weight


def blend_rows(
    shape: tuple[int, int],
    tiles: list[Tile],
    halo: int,
    compute: Callable[[Tile], Array],
) -> Iterator[tuple[int, Array]]:
    """Compute tiles one by one and yield the blended rows as soon as they are final.

    An operator whose receptive field reaches no further than half a halo gives the same result
    as on the whole image, up to rounding. Memory is one band of tile height.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the image.
    tiles : list of Tile
        From :func:`plan_tiles` with the same `halo`.
    compute : callable
        Tile -> array ``K x height x width``.

    Yields
    ------
    row : int
        First row of the band.
    band : ndarray of float32, shape (K, rows, W)
    """
    height, width = shape
    if len(tiles) == 1:
        yield 0, compute(tiles[0])
        return
    starts = sorted({tile.y for tile in tiles})
    total: Array | None = None
    weight = np.zeros((0, width), np.float32)
    for number, y in enumerate(starts):
        row = [tile for tile in tiles if tile.y == y]
        for tile in row:
            part = compute(tile)
            if total is None:
                total = np.zeros((len(part), tile.height, width), np.float32)
                weight = np.zeros((tile.height, width), np.float32)
            window = np.outer(
                _window(tile.y, tile.height, height, halo),
                _window(tile.x, tile.width, width, halo),
            )
            total[:, :, tile.x : tile.x + tile.width] += part * window
            weight[:, tile.x : tile.x + tile.width] += window
        assert total is not None
        done = (starts[number + 1] - y) if number + 1 < len(starts) else row[0].height
        yield y, (total[:, :done] / np.maximum(weight[:done], 1e-12)).astype(np.float32)
        # The rows that the next row of tiles adds to move to the top; below is empty again.
        total = np.concatenate([total[:, done:], np.zeros_like(total[:, :done])], axis=1)
        weight = np.concatenate([weight[done:], np.zeros_like(weight[:done])])
