"""Tiles shown in the viewer as soon as they are computed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels
from napari.viewer import Viewer

from napari_cvsuite.widgets._compat import leave_brushes_out
from napari_cvsuite.widgets.result_layers import Source, class_colormap

if TYPE_CHECKING:
    from napari_cvsuite.segmentation.predict import TilePreview

__all__ = ["Preview"]

MAX_PIXELS = 1 << 28
REFRESH_S = 0.1


class Preview:
    """A Labels layer that fills while a job runs, and becomes its result or goes.

    It cannot be painted on: what is computed would replace it.

    Parameters
    ----------
    viewer : napari Viewer
    source : Source
        Where it lies.
    classes : int
        Number of classes with background.

    Attributes
    ----------
    brushes : list of callable
        Each gives the layer something back that painting on it needs.
    """

    def __init__(self, viewer: Viewer, source: Source, classes: int) -> None:
        self._viewer, self._source, self._classes = viewer, source, classes
        self._layer: Labels | None = None
        self.brushes: list[Callable[[], object]] = []
        self._shown = 0.0
        self._enabled = int(np.prod(source.selection.shape)) <= MAX_PIXELS

    def open(self) -> None:
        """Add the empty layer; quicker before the processor is busy than with the first tile."""
        if not self._enabled or self._layer is not None:
            return
        # Zeros are not touched before a tile is written, so even a large layer costs little.
        self._layer = Labels(
            np.zeros(self._source.selection.shape, np.uint8),
            name=f"{self._source.name}: in progress",
            opacity=0.5,
            colormap=class_colormap(self._classes),
            **self._source.geometry,
        )
        self._layer.editable = False
        self.brushes = leave_brushes_out(self._layer)
        self._viewer.add_layer(self._layer)

    def add(self, tile: TilePreview) -> None:
        """Show a finished tile (``index`` and ``classes``)."""
        self.open()
        layer = self._layer
        if layer is None or layer not in self._viewer.layers:
            # The image is too large for one, or the user closed it and does not want it.
            self._enabled = False
            return
        layer.data[tile.index] = tile.classes
        now = time.monotonic()
        if now - self._shown >= REFRESH_S:
            layer.refresh()
            self._shown = now

    def release(self) -> Labels | None:
        """Show no more tiles; return the layer, if there is one, to whoever has use for it."""
        layer, self._layer, self._enabled = self._layer, None, False
        return layer if layer in self._viewer.layers else None
