"""Which part of an image a classifier sees: choices that the docks on classifiers share."""

from __future__ import annotations

from enum import Enum
from typing import Any

from napari.layers import Image as ImageLayer
from napari.layers import Layer, Shapes
from napari.viewer import Viewer

from napari_cvsuite.widgets import regions
from napari_cvsuite.widgets.pickers import LayerPicker

__all__ = ["RegionPicker", "View", "is_image"]


class View(Enum):
    """Parts of an image that a network can see, besides a box."""

    CENTRE = "middle square"
    WHOLE = "whole image"
    CURRENT = "current view"


def is_image(layer: Layer) -> bool:
    """Return whether a layer is an image to look into; results of ours are none."""
    return isinstance(layer, ImageLayer) and "napari_cvsuite" not in layer.metadata


def _is_box(layer: Layer) -> bool:
    return isinstance(layer, Shapes) and "napari_cvsuite" not in layer.metadata


class RegionPicker(LayerPicker):
    """A :class:`View`, or a Shapes layer with a box.

    Parameters
    ----------
    viewer : napari Viewer
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__(viewer, _is_box, last=lambda: tuple(View))
        self.choose(View.CENTRE)
        self.setToolTip(
            "What the network sees: a square, or the square around the (selected) box of a Shapes "
            "layer. The whole image is squeezed into a square."
        )

    def options(self, layer: Layer) -> dict[str, Any]:
        """Return ``view`` and ``region`` of a job's options.

        Raises
        ------
        ImageError
            The box or the view lies outside the image.
        """
        shapes, other = self.layer(), self.other()
        if shapes is None and other is not View.CURRENT:
            return {"view": "whole" if other is View.WHOLE else "centre"}
        if isinstance(shapes, Shapes):
            box = regions.shapes_box(layer, shapes)
        else:
            box = regions.current_view(layer)
        region = ",".join(map(str, (*box.start[-2:], *box.shape[-2:])))
        return {"view": "region", "region": region}

    def state(self) -> str:
        """Return what is kept between sessions."""
        view = self.other()
        return str(view.value if view is not None else View.CENTRE.value)

    def restore(self, state: object) -> None:
        """Choose what was kept; what is unknown is passed over."""
        for view in View:
            if view.value == state:
                self.choose(view)
