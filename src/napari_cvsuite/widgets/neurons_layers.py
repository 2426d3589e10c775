"""What networks look at as napari layers; nothing of the image changes."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer, Shapes
from napari.utils.colormaps import Colormap
from napari.viewer import Viewer
from numpy.typing import NDArray

from napari_cvsuite.images import Grid
from napari_cvsuite.widgets import regions
from napari_cvsuite.widgets.quality_layers import Place

__all__ = [
    "GROWING",
    "SIGNED",
    "UNIT",
    "Spot",
    "add_image",
    "add_labels",
    "clicked",
    "height_of",
    "hide_earlier",
    "outline",
    "replace_image",
    "show_seen",
]

SIGNED = Colormap([[0.0, 0.0, 1.0, 1.0], [1.0] * 4, [1.0, 0.0, 0.0, 1.0]], name="blue white red")
"""Colours of signed maps: exactly white at 0 where the limits are symmetric."""
GROWING = "magma"
"""Colours of maps from 0 on."""
RESULT = "napari_cvsuite_neurons"
"""In the metadata of images that results are shown as."""
UNIT = "napari_cvsuite_unit"
"""In the metadata of masks of channels, which are no concepts of the user's."""
_GAP = 0.04
"""Between an image and what is put beside it, as a share of its width."""
_COLOUR = "#e69f00"
_SEEN = "seen by the network"
_STILL = 3
"""Pixels of the screen that a click may move without being a drag."""


@dataclass(frozen=True)
class Spot:
    """A plane of a layer, which may be gone when its results are ready.

    Parameters
    ----------
    place : Place
    height, width : int
        Of the plane.
    number : int
        Of the plane in its stack, the last axis running fastest.
    """

    place: Place
    height: int
    width: int
    number: int = 0

    @classmethod
    def of(cls, layer: Layer, viewer: Viewer) -> Spot:
        """Describe the plane of `layer` that the viewer shows."""
        return cls._made(layer, regions.current_plane(regions.whole(layer), layer, viewer))

    @classmethod
    def of_slice(cls, layer: Layer, number: int) -> Spot:
        """Describe one slice of `layer`, counted with the last axis running fastest."""
        whole = regions.whole(layer)
        start = [int(i) for i in np.unravel_index(number, whole.shape[:-2])]
        stop = [*(i + 1 for i in start), *whole.stop[-2:]]
        return cls._made(layer, regions.Selection((*start, 0, 0), tuple(stop)))

    @classmethod
    def _made(cls, layer: Layer, selection: regions.Selection) -> Spot:
        stack = regions.whole(layer).shape[:-2]
        number = int(np.ravel_multi_index(selection.start[:-2], stack)) if stack else 0
        height, width = selection.shape[-2:]
        return cls(Place.of(layer, selection), height, width, number)

    @property
    def name(self) -> str:
        """Name that the layer had."""
        return self.place.source.name

    @property
    def extra(self) -> int:
        """Number of axes besides y and x."""
        return len(self.place.source.selection.start) - 2

    def geometry(self, grid: Grid) -> dict[str, Any]:
        """Return the transform of a layer whose values lie on a grid of the plane."""
        ones, zeros = (1.0,) * self.extra, (0.0,) * self.extra
        return self.place.geometry((*ones, *grid.step), (*zeros, *grid.origin))

    def beside(self, shape: Sequence[int], height: float, number: int = 0) -> Grid:
        """Return a grid on which an array lies to the right of the image.

        Parameters
        ----------
        shape : sequence of int
            Of the array.
        height : float
            That it shall have, in pixels of the image.
        number : int
            How many arrays of that shape are there already.
        """
        step = height / shape[0]
        gap = _GAP * self.width
        left = self.width + gap + number * (shape[1] * step + gap) - 0.5
        top = (self.height - height) / 2 - 0.5
        return Grid((step, step), (top + step / 2, left + step / 2))


def height_of(grid: Grid, shape: Sequence[int]) -> float:
    """Return the height of an array on a grid, in pixels of the image."""
    return grid.step[0] * shape[0]


def add_image(
    viewer: Viewer,
    spot: Spot | None,
    name: str,
    data: NDArray[Any],
    grid: Grid,
    facts: dict[str, Any],
    **look: Any,
) -> Image:
    """Add an Image layer on a grid of a plane.

    Parameters
    ----------
    viewer : napari Viewer
    spot : Spot, optional
        None puts the layer where the axes begin.
    name : str
        Follows that of the image.
    data : ndarray, shape (h, w) or (h, w, 3)
    grid : Grid
    facts : dict
        What made it.
    **look
        Further arguments of the layer.
    """
    data, name, geometry = _laid(spot, name, data, grid)
    layer = Image(
        data,
        name=name,
        metadata={"napari_cvsuite": facts, RESULT: True},
        **look,
        **geometry,
    )
    viewer.layers.append(layer)
    return layer


def _laid(
    spot: Spot | None, name: str, data: NDArray[Any], grid: Grid
) -> tuple[NDArray[Any], str, dict[str, Any]]:
    """Return data, name and transform of a layer; colour is the last axis."""
    if spot is None:
        return data, name, {"scale": grid.step, "translate": grid.origin}
    shaped = data.reshape((1,) * spot.extra + data.shape)
    return shaped, f"{spot.name}: {name}", spot.geometry(grid)


def replace_image(
    layer: Image,
    spot: Spot | None,
    name: str,
    data: NDArray[Any],
    grid: Grid,
    facts: dict[str, Any],
    limits: tuple[float, float] | None = None,
) -> None:
    """Show another array in a layer of ours; see :func:`add_image`.

    Parameters
    ----------
    layer : Image
        With as many axes.
    limits : tuple of float, optional
        Of the colours.
    """
    data, name, geometry = _laid(spot, name, data, grid)
    layer.data = data
    for key, value in geometry.items():
        setattr(layer, key, value)
    layer.name, layer.visible = name, True
    layer.metadata = {"napari_cvsuite": facts, RESULT: True}
    if limits is not None:
        layer.contrast_limits_range = limits
        layer.contrast_limits = limits


def hide_earlier(viewer: Viewer) -> None:
    """Hide the images of earlier results: a map over an attacked image would mislead."""
    for layer in viewer.layers:
        if RESULT in layer.metadata and layer.visible:
            layer.visible = False


def add_labels(
    viewer: Viewer,
    spot: Spot,
    name: str,
    data: NDArray[Any],
    grid: Grid,
    facts: dict[str, Any],
    **look: Any,
) -> Labels:
    """Add a new Labels layer on a grid of a plane; see :func:`add_image`."""
    layer = Labels(
        data.reshape((1,) * spot.extra + data.shape),
        name=f"{spot.name}: {name}",
        metadata={"napari_cvsuite": facts, UNIT: True},
        opacity=0.5,
        **look,
        **spot.geometry(grid),
    )
    viewer.layers.append(layer)
    return layer


def outline(
    viewer: Viewer, spot: Spot, name: str, box: Sequence[float], reuse: Layer | None
) -> Shapes:
    """Draw a box as a Shapes layer, in the one that is there already if there is one.

    Parameters
    ----------
    viewer : napari Viewer
    spot : Spot
    name : str
        Follows that of the image.
    box : sequence of float
        Top, left, height and width in pixels, edges at whole numbers.
    reuse : Shapes, optional
        A layer of ours, which may be gone, or hidden: then it stays so.
    """
    top, left, height, width = box
    corners = np.zeros((4, spot.extra + 2))
    corners[:, -2:] = np.array([top, left]) - 0.5
    corners[1:3, -1] += width
    corners[2:, -2] += height
    geometry = spot.geometry(Grid((1.0, 1.0), (0.0, 0.0)))
    facts = {"box": [float(value) for value in box]}
    if isinstance(reuse, Shapes) and reuse in viewer.layers and reuse.ndim == corners.shape[1]:
        # A layer that goes makes napari collect all garbage, which stops the window.
        reuse.data = [corners]
        for key, value in geometry.items():
            setattr(reuse, key, value)
        reuse.name, reuse.metadata = f"{spot.name}: {name}", {"napari_cvsuite": facts}
        return reuse
    layer = Shapes(
        [corners],
        shape_type="rectangle",
        name=f"{spot.name}: {name}",
        face_color="transparent",
        edge_color=_COLOUR,
        edge_width=max(0.5, 0.004 * spot.width),
        metadata={"napari_cvsuite": facts},
        **geometry,
    )
    layer.editable = False
    active = viewer.layers.selection.active
    viewer.layers.append(layer)
    # Nobody works in the outline, and a montage has to stay the layer that hears of clicks.
    if active in viewer.layers:
        viewer.layers.selection.active = active
    return layer


def show_seen(viewer: Viewer, spot: Spot, seen: Mapping[str, float], reuse: Layer | None) -> Layer:
    """Outline what part of an image was seen; return that layer.

    Parameters
    ----------
    viewer : napari Viewer
    spot : Spot
    seen : mapping
        ``top``, ``left``, ``height`` and ``width`` in pixels.
    reuse : Shapes, optional
        The outline of an earlier look.
    """
    part = [seen[key] for key in ("top", "left", "height", "width")]
    return outline(viewer, spot, _SEEN, part, reuse)


def clicked(event: Any) -> Generator[None, None, bool]:
    """Follow the mouse until its button is up, and return whether it was a click, not a drag.

    Parameters
    ----------
    event : napari mouse event
        Of the press; napari changes it as the mouse goes on.
    """
    start = np.asarray(event.pos)
    yield
    while event.type == "mouse_move":
        yield
    return bool(np.abs(np.asarray(event.pos) - start).max() <= _STILL)
