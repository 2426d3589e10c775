"""The parts of many images that excite the channels of a layer most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_cvsuite.images import Image, read
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.planes import Planes
from napari_cvsuite.models.subject import Subject, opened, see_plane
from napari_cvsuite.models.view import Box
from napari_cvsuite.neurons.channels import boxes, channels, patches
from napari_cvsuite.neurons.fields import receptive_field
from napari_cvsuite.neurons.options import PatchOptions
from napari_cvsuite.neurons.subject import layer_name

__all__ = ["Favourite", "Favourites", "run"]

MOST_PICTURES = 64
"""Channels whose patches are cut out."""
SIDE = 48
"""Of a patch, in pixels."""


@dataclass(frozen=True)
class Favourite:
    """One patch.

    Parameters
    ----------
    channel, rank : int
        Channel from 0; place in its list, from 1.
    image : str
        Name of the image, or its path.
    item, slice : int
        Number of the image, and of the slice in it.
    activation : float
    top, left, height, width : float
        What the cell sees of the slice, in its pixels.
    """

    channel: int
    rank: int
    image: str
    item: int
    slice: int
    activation: float
    top: float
    left: float
    height: float
    width: float


@dataclass(frozen=True)
class Favourites:
    """Outcome over many images.

    Parameters
    ----------
    layer : str
    rows : tuple of Favourite
        By channel, then by rank.
    channels : tuple of int
        Channels whose patches are cut out.
    pictures : ndarray of float32, shape (C, K, S, S, 3)
        These patches, as the network sees them, in [0, 1].
    n : int
        Number of slices.
    provenance : dict
    """

    layer: str
    rows: tuple[Favourite, ...]
    channels: tuple[int, ...]
    pictures: NDArray[np.float32]
    n: int
    provenance: dict[str, Any]

    def table(self) -> list[dict[str, Any]]:
        """Return the rows as plain data."""
        return [asdict(row) for row in self.rows]


class _Slices:
    """All slices of all images as the network sees them, one in memory at a time."""

    def __init__(self, images: Sequence[Image | Path], subject: Subject, context: Context) -> None:
        self._images, self._subject, self._context = images, subject, context
        self._open: tuple[int, Planes] | None = None
        self.places: list[tuple[int, int]] = []
        self.boxes: list[Box] = []

    def _planes(self, item: int) -> Planes:
        if self._open is None or self._open[0] != item:
            one = self._images[item]
            image = read(one) if isinstance(one, Path) else one
            self._open = item, Planes(image, self._subject.options, self._context.check)
        return self._open[1]

    def __iter__(self) -> Iterator[Tensor]:
        for item in range(len(self._images)):
            self._context.progress(item, len(self._images), "looking for patches")
            planes = self._planes(item)
            for number in range(len(planes.indices())):
                seen = see_plane(planes, number, self._subject)
                self.places.append((item, number))
                self.boxes.append(seen.box)
                yield seen.tensor()[0]

    def __getitem__(self, number: int) -> Tensor:
        item, place = self.places[number]
        return see_plane(self._planes(item), place, self._subject).tensor()[0]


def run(images: Sequence[Image | Path], options: PatchOptions, context: Context) -> Favourites:
    """Find the patches that excite each channel of a layer most, at most one of a slice.

    Parameters
    ----------
    images : sequence of Image or Path
        All their slices are looked at; files are read one at a time.
    options : PatchOptions
    context : Context

    Raises
    ------
    ImageError, OptionError, ValueError
        An image cannot be used, or there is no such layer or channel.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    quiet = Context(context.device, context.job_class, context.token, log=context.log)
    with opened(options, context) as subject:
        layer = layer_name(options.layer, subject)
        slices = _Slices(images, subject, context)
        found = channels(subject.network, layer, slices, options.top, quiet)
        if options.channel >= len(found.mean):
            raise OptionError(
                f"layer {layer.removeprefix('model.')} has {len(found.mean)} channels, 0 to "
                f"{len(found.mean) - 1}; got {options.channel}"
            )
        field = receptive_field(subject.network, layer)
        chosen = range(len(found.mean)) if options.channel < 0 else (options.channel,)
        size = (subject.size, subject.size)
        where = boxes(found.top, field, size)
        rows = [
            _row(
                channel,
                rank,
                found.top.index[channel, rank],
                where[channel, rank],
                found.top.value[channel, rank],
                slices,
                images,
                subject.size,
            )
            for channel in chosen
            for rank in range(found.top.index.shape[1])
        ]
        shown = tuple(chosen[:MOST_PICTURES])
        cut = patches(slices, found.top, field, shown, context, SIDE)
        pictures = cut.permute(0, 1, 3, 4, 2).contiguous().numpy()
        layer = layer.removeprefix("model.")
        return Favourites(
            layer, tuple(rows), shown, pictures, len(slices.places), subject.provenance()
        )


def _row(
    channel: int,
    rank: int,
    number: int,
    where: NDArray[np.int64],
    value: float,
    slices: _Slices,
    images: Sequence[Image | Path],
    size: int,
) -> Favourite:
    (item, place), box = slices.places[number], slices.boxes[number]
    one = images[item]
    high, wide = box.height / size, box.width / size
    top, left, bottom, right = (float(edge) for edge in where)
    return Favourite(
        channel,
        rank + 1,
        str(one) if isinstance(one, Path) else one.name,
        item,
        place,
        float(value),
        box.top + top * high,
        box.left + left * wide,
        (bottom - top) * high,
        (right - left) * wide,
    )
