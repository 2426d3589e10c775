"""Run a segmentation network on one plane, whole or in blended tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.images import Tile, blend_rows, plan_tiles

__all__ = [
    "flips_mean",
    "forward",
    "predict_bands",
    "predict_classes",
    "predict_probabilities",
    "usable_halo",
    "working_tile",
]

Array = NDArray[np.float32]
WHOLE = 1.5
"""Planes up to this many tile sides are seen whole: tiling them would cost context and time."""


def _resize(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """Resize ``B x C x H x W``, averaging where it shrinks."""
    if tuple(x.shape[2:]) == shape:
        return x
    return F.interpolate(x, size=shape, mode="bilinear", align_corners=False, antialias=True)


def forward(model: nn.Module, image: Array, device: str, precision: str, scale: float) -> Array:
    """Return the probabilities of one part, ``K x H x W``.

    Parameters
    ----------
    model : nn.Module
        Returns (logits, embedding); in eval mode and on `device`.
    image : ndarray of float32, shape (H, W, 3)
        In [-1, 1].
    device, precision : str
    scale : float
        Pixels that the network sees for each pixel of the image.
    """
    height, width = image.shape[:2]
    x = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(device)
    x = _resize(x, (max(1, round(height * scale)), max(1, round(width * scale))))
    dtype = getattr(torch, precision)
    with torch.autocast(device.partition(":")[0], dtype, enabled=dtype != torch.float32):
        logits = model(x)[0].float()
    if logits.shape[1] == 1:
        p = logits.sigmoid()
        p = torch.cat([1 - p, p], dim=1)
    else:
        p = logits.softmax(dim=1)
    return _resize(p, (height, width))[0].cpu().numpy()


def working_tile(shape: tuple[int, int], tile: int) -> int:
    """Return the side of the tiles of a plane: that asked for, or one that holds it whole."""
    longest = max(shape)
    return -(-longest // 32) * 32 if longest <= WHOLE * tile else tile


def flips_mean(predict: Callable[[Array], Array], image: Array) -> Array:
    """Mean prediction over the eight flips and quarter turns.

    Parameters
    ----------
    predict : callable
        ``H x W x 3`` -> ``K x H x W``.
    image : ndarray of float32, shape (H, W, 3)
    """
    total: Array | None = None
    for mirrored in (False, True):
        for turns in range(4):
            view = np.rot90(image[:, ::-1] if mirrored else image, turns, axes=(0, 1))
            part = np.rot90(predict(np.ascontiguousarray(view)), -turns, axes=(1, 2))
            part = part[:, :, ::-1] if mirrored else part
            total = part.copy() if total is None else total + part
    assert total is not None
    mean: Array = (total / 8).astype(np.float32)
    return mean


def predict_bands(
    shape: tuple[int, int],
    tile: int,
    halo: int,
    compute: Callable[[Tile], Array],
) -> Iterator[tuple[int, Array]]:
    """Yield a plane's probabilities in bands of rows, from top to bottom.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the plane.
    tile : int
        From :func:`working_tile`.
    halo : int
        Half the overlap of neighbouring tiles; at most a quarter of a tile is used.
    compute : callable
        Tile -> probabilities, ``K x height x width``.
    """
    halo = usable_halo(tile, halo)
    return blend_rows(shape, plan_tiles(shape, tile, halo), halo, compute)


def usable_halo(tile: int, halo: int) -> int:
    """Return `halo`, or as much of it as leaves half of a tile to count."""
    return min(halo, tile // 4)


def predict_probabilities(
    model: nn.Module,
    image: Array,
    tile: int,
    halo: int = 32,
    device: str = "cpu",
    precision: str = "float32",
    check: Callable[[], None] | None = None,
    scale: float = 1.0,
) -> Array:
    """Return class probabilities, ``K x H x W`` float32.

    Parameters
    ----------
    model : nn.Module
        Returns (logits, embedding); in eval mode and on `device`.
    image : ndarray of float32, shape (H, W, 3)
        Scaled to [-1, 1] once for the whole image.
    tile : int
        Side of the tiles where the plane is larger than 1.5 tiles, in pixels of the image.
    halo : int
        Half the overlap of neighbouring tiles; at most a quarter of a tile is used.
    check : callable, optional
        Called between tiles; raises to stop.
    scale : float
        Pixels that the network sees for each pixel of the image.
    """
    height, width = image.shape[:2]

    def compute(part: Tile) -> Array:
        if check is not None:
            check()
        region = image[part.y : part.y + part.height, part.x : part.x + part.width]
        return forward(model, region, device, precision, scale)

    bands = predict_bands((height, width), working_tile((height, width), tile), halo, compute)
    return np.concatenate([band for _, band in bands], axis=1)


def predict_classes(
    model: nn.Module,
    image: Array,
    tile: int,
    check: Callable[[], None] | None = None,
    scale: float = 1.0,
) -> NDArray[np.int64]:
    """Return the most probable class of every pixel, ``H x W`` int64."""
    device = str(next(model.parameters()).device)
    found = predict_probabilities(model, image, tile, device=device, check=check, scale=scale)
    return found.argmax(axis=0)
