"""The channels of a layer: what they give for an image, and which patches they like most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images import Grid, Image
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.subject import opened, see
from napari_cvsuite.neurons.activations import activations
from napari_cvsuite.neurons.options import ActivationOptions
from napari_cvsuite.neurons.subject import layer_name

__all__ = ["Activated", "channel_of_montage", "montage", "run"]

GAP = 1
"""Empty cells between the maps of a montage."""


@dataclass(frozen=True)
class Activated:
    """What a layer gives for one plane.

    Parameters
    ----------
    layer : str
    channels : tuple of int
        Numbers of the channels, from 0.
    maps : ndarray of float32, shape (C, h, w)
    grid : Grid
        Where the values lie on the plane.
    provenance : dict
    """

    layer: str
    channels: tuple[int, ...]
    maps: NDArray[np.float32]
    grid: Grid
    provenance: dict[str, Any]

    def strongest(self) -> list[int]:
        """Return the channels in the order of their mean, the most active one first."""
        means = self.maps.mean(axis=(1, 2))
        return [self.channels[k] for k in np.argsort(-means, kind="stable")]


def run(image: Image, options: ActivationOptions, context: Context) -> Activated:
    """Return the activation of one channel of a layer, or of all of them.

    Parameters
    ----------
    image : Image
    options : ActivationOptions
    context : Context

    Raises
    ------
    ImageError, OptionError, ValueError
        The image cannot be used, or there is no such layer or channel.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    with opened(options, context) as subject:
        seen = see(image, subject, context)
        layer = layer_name(options.layer, subject)
        found = activations(subject.network, seen.tensor(subject.device), [layer])[layer][0]
        maps = found.float().cpu().numpy()
        channels = tuple(range(len(maps)))
        if options.channel >= len(maps):
            raise OptionError(
                f"layer {layer.removeprefix('model.')} has {len(maps)} channels, 0 to "
                f"{len(maps) - 1}; got {options.channel}"
            )
        if options.channel >= 0:
            channels, maps = (options.channel,), maps[options.channel][None]
        grid = seen.grid((maps.shape[1], maps.shape[2]))
        return Activated(
            layer.removeprefix("model."), channels, maps, grid, subject.provenance(seen)
        )


def montage(maps: NDArray[np.float32], columns: int = 0) -> NDArray[np.float32]:
    """Lay maps side by side, each scaled to its own largest value.

    Parameters
    ----------
    maps : ndarray, shape (C, h, w)
    columns : int
        Maps in a row; 0 makes the montage about square.

    Returns
    -------
    ndarray of float32, two axes
        In [0, 1]; NaN between the maps and where there is none.
    """
    count, height, width = maps.shape
    columns = columns or _columns(count)
    rows = -(-count // columns)
    out = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP), np.nan, np.float32)
    top = np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-30)
    for number, one in enumerate(np.maximum(maps, 0) / top):
        y, x = divmod(number, columns)
        y, x = y * (height + GAP), x * (width + GAP)
        out[y : y + height, x : x + width] = one
    return out


def channel_of_montage(
    place: Sequence[float], shape: tuple[int, int, int], columns: int = 0
) -> int | None:
    """Return which map of a montage lies at a row and column; None between maps."""
    count, height, width = shape
    columns = columns or _columns(count)
    y, x = round(place[0]), round(place[1])
    if y < 0 or x < 0 or y % (height + GAP) >= height or x % (width + GAP) >= width:
        return None
    row, column = y // (height + GAP), x // (width + GAP)
    number = row * columns + column
    return number if column < columns and number < count else None


def _columns(count: int) -> int:
    return int(np.ceil(np.sqrt(count)))
