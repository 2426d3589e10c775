"""Which part of a layer a job works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Layer, Shapes
from napari.viewer import Viewer
from numpy.typing import NDArray

from napari_cvsuite.images import Image, ImageError

__all__ = [
    "Selection",
    "covered",
    "crop",
    "current_plane",
    "current_view",
    "go_to",
    "matching",
    "shapes_box",
    "whole",
]


@dataclass(frozen=True)
class Selection:
    """A box of pixels, one entry for each axis besides colour.

    Parameters
    ----------
    start, stop : tuple of int
        First index, and the one after the last.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of pixels along each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Index of the box."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))


def _shape(layer: Layer) -> tuple[int, ...]:
    data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    shape = tuple(int(side) for side in data.shape)
    return shape[:-1] if getattr(layer, "rgb", False) else shape


def whole(layer: Layer) -> Selection:
    """Select all pixels of an Image or Labels layer."""
    shape = _shape(layer)
    return Selection((0,) * len(shape), shape)


def current_plane(
    selection: Selection, layer: Layer, viewer: Viewer, axes: Sequence[int] | None = None
) -> Selection:
    """Reduce a selection to the plane that the sliders show.

    Parameters
    ----------
    selection : Selection
    layer : napari Layer
    viewer : napari Viewer
    axes : sequence of int, optional
        Axes along which it becomes one pixel long; default all but the last two.
    """
    here = layer.world_to_data(viewer.dims.point[-layer.ndim :])
    start, stop = list(selection.start), list(selection.stop)
    for axis in range(len(start) - 2) if axes is None else axes:
        index = int(np.clip(round(float(here[axis])), 0, stop[axis] - 1))
        start[axis], stop[axis] = index, index + 1
    return Selection(tuple(start), tuple(stop))


def go_to(viewer: Viewer, layer: Layer, place: Mapping[int, int]) -> None:
    """Select a layer and set the sliders on some positions in it.

    Parameters
    ----------
    viewer : napari Viewer
    layer : napari Layer
        Of that viewer.
    place : mapping of int to int
        Index along each axis of the layer that is to move.
    """
    viewer.layers.selection.active = layer
    point = list(viewer.dims.point)
    here = list(layer.world_to_data(point[-layer.ndim :]))
    for axis, index in place.items():
        here[axis] = index
    point[-layer.ndim :] = layer.data_to_world(here)
    viewer.dims.point = tuple(float(v) for v in point)


def _within(layer: Layer, low: NDArray[Any], high: NDArray[Any], what: str) -> Selection:
    """Select, of all planes, the pixels whose centre lies between two points."""
    everything = whole(layer)
    side = np.array(everything.stop[-2:])
    first = np.clip(np.floor(np.asarray(low)[-2:] + 0.5), 0, side).astype(int)
    last = np.clip(np.floor(np.asarray(high)[-2:] + 0.5), 0, side).astype(int)
    if (last <= first).any():
        raise ImageError(f"{what} lies outside the image; move it onto the image")
    return Selection(
        (*everything.start[:-2], *map(int, first)), (*everything.stop[:-2], *map(int, last))
    )


def current_view(layer: Layer) -> Selection:
    """Select what the canvas shows of a layer.

    Raises
    ------
    ImageError
        The canvas shows nothing of it.
    """
    corners = np.asarray(layer.corner_pixels, float)
    if getattr(layer, "multiscale", False):
        corners = corners * np.asarray(layer.downsample_factors)[layer.data_level]
    return _within(layer, corners[0], corners[1], "the current view")


def shapes_box(layer: Layer, shapes: Shapes) -> Selection:
    """Select the bounding box of the selected shapes, of all where none is selected.

    Raises
    ------
    ImageError
        There is no shape, or it lies outside the image.
    """
    chosen = sorted(shapes.selected_data) or range(len(shapes.data))
    corners = [np.asarray(shapes.data[index], float) for index in chosen]
    if not corners:
        raise ImageError(f"the layer {shapes.name!r} has no shape; draw a rectangle on the image")
    points = np.concatenate(corners)
    inside = np.zeros((len(points), layer.ndim))
    shared = min(layer.ndim, points.shape[1])
    for row, point in enumerate(points):
        world = np.asarray(shapes.data_to_world(point))
        full = np.zeros(layer.ndim)
        full[-shared:] = world[-shared:]
        inside[row] = layer.world_to_data(full)
    what = f"the box in {shapes.name!r}"
    return _within(layer, inside.min(axis=0), inside.max(axis=0), what)


def covered(layer: Layer, other: Layer) -> Selection | None:
    """Return the part of a layer that another one lies on, pixel on pixel; None if it does not."""
    everything, shape = whole(layer), whole(other).shape
    if len(shape) != len(everything.shape):
        return None
    ends = [(0.0,) * len(shape), tuple(map(float, shape))]
    first, last = (np.asarray(layer.world_to_data(other.data_to_world(end))) for end in ends)
    start, stop = np.rint(first).astype(int), np.rint(last).astype(int)
    apart = max(np.abs(first - start).max(), np.abs(last - stop).max())
    inside = (start >= 0).all() and (stop <= everything.stop).all()
    if apart > 0.01 or not inside or tuple(stop - start) != shape:
        return None
    return Selection(tuple(map(int, start)), tuple(map(int, stop)))


def crop(image: Image, selection: Selection) -> Image:
    """Return the selected part of an image; lazy arrays stay lazy where they can."""
    if all(a == 0 for a in selection.start) and _spatial(image) == selection.stop:
        return image
    at = list(selection.slices)
    for axis, letter in enumerate(image.axes):
        if letter == "c":
            at.insert(axis, slice(None))
    return Image(
        image.data[tuple(at)],
        image.axes,
        image.scale,
        image.translate,
        image.units,
        image.name,
        image.metadata,
    )


def _spatial(image: Image) -> tuple[int, ...]:
    return tuple(image.size(axis) for axis in image.axes if axis != "c")


def matching(reference: Layer, selection: Selection, image: Selection) -> Image:
    """Return the part of a reference that belongs to a part of an image.

    Parameters
    ----------
    reference : napari Layer
        Of the size of the image or another one, with one plane or as many.
    selection : Selection
        The part of the image.
    image : Selection
        The whole image.
    """
    everything = whole(reference)
    start, stop = list(everything.start), list(everything.stop)
    ratio = np.divide(everything.stop[-2:], image.stop[-2:])
    for i in (-2, -1):
        start[i] = int(np.floor(selection.start[i] * ratio[i]))
        stop[i] = max(start[i] + 1, int(np.ceil(selection.stop[i] * ratio[i])))
    if everything.stop[:-2] == image.stop[:-2]:
        # As many planes: each has its own.
        start[:-2], stop[:-2] = selection.start[:-2], selection.stop[:-2]
    return crop(Image.from_layer(reference), Selection(tuple(start), tuple(stop)))
