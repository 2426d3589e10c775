"""Maps of quality, differences and kept slices as napari layers; nothing of the image changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from napari.layers import Image, Layer
from napari.viewer import Viewer
from numpy.typing import NDArray

from napari_cvsuite.widgets.quality_job import LocalMap
from napari_cvsuite.widgets.regions import Selection
from napari_cvsuite.widgets.result_layers import Source

__all__ = ["KEPT", "Place", "add_map", "kept_layer", "kept_stack"]

KEPT = "napari_cvsuite_kept"
"""Where the metadata of a layer of kept slices name them."""
_LOOKS: dict[str, dict[str, Any]] = {
    "quality": {"colormap": "viridis", "opacity": 0.6},
    "difference": {"colormap": "inferno", "opacity": 1.0},
    "where": {"colormap": "magma", "opacity": 0.6},
}


@dataclass(frozen=True)
class Place:
    """Where a part of a layer lies, which may be gone when its map is ready.

    Parameters
    ----------
    source : Source
    columns : ndarray, shape (N, N)
        How far one step along each axis of the layer leads, before its affine.
    """

    source: Source
    columns: NDArray[np.float64]

    @classmethod
    def of(cls, layer: Layer, selection: Selection) -> Place:
        """Describe the selected part of `layer`."""
        start = np.asarray(selection.start, float)
        base = layer.affine.inverse(np.asarray(layer.data_to_world(start)))
        ends = [
            layer.affine.inverse(np.asarray(layer.data_to_world(start + unit)))
            for unit in np.eye(len(start))
        ]
        columns = np.stack([np.asarray(end) - base for end in ends], axis=1)
        return cls(Source.of(layer, selection), columns)

    def geometry(self, step: Sequence[float], origin: Sequence[float]) -> dict[str, Any]:
        """Return the transform of a layer whose values lie `step` apart from `origin` on.

        Parameters
        ----------
        step, origin : sequence of float
            In pixels of the part, along every axis.
        """
        given = self.source.geometry
        return given | {
            "scale": np.asarray(given["scale"]) * np.asarray(step),
            "translate": np.asarray(given["translate"]) + self.columns @ np.asarray(origin),
        }


def add_map(
    viewer: Viewer, one: LocalMap, place: Place, provenance: dict[str, Any], visible: bool
) -> Layer:
    """Add a map as an Image layer that lies over what it tells of."""
    look = _LOOKS[one.name.partition(" ")[0]]
    layer = Image(
        one.data,
        name=f"{place.source.name}: {one.name}",
        metadata={"napari_cvsuite": provenance},
        contrast_limits=one.limits,
        interpolation2d="linear" if one.smooth else "nearest",
        visible=visible,
        **look,
        **place.geometry(one.step, one.origin),
    )
    viewer.layers.append(layer)
    return layer


def kept_stack(data: Any, axes: Sequence[int], kept: Sequence[int]) -> da.Array:
    """Return the kept slices of an array as one stack, without reading them.

    Parameters
    ----------
    data : array
    axes : sequence of int
        Axes along which the slices follow one another, the last one fastest.
    kept : sequence of int
        Numbers of slices.
    """
    if not isinstance(data, da.Array):
        chunks = tuple(1 if axis in axes else side for axis, side in enumerate(data.shape))
        # Without a name made of the pixels, all of which would have to be read for it.
        data = da.from_array(data, chunks=chunks, name=False)
    first = da.moveaxis(data, list(axes), list(range(len(axes))))
    flat = first.reshape(-1, *first.shape[len(axes) :])
    return flat[list(kept)]


def kept_layer(layer: Image, axes: Sequence[int], kept: Sequence[int]) -> Image:
    """Return a layer that shows only the kept slices of another one."""
    data = kept_stack(layer.data[0] if layer.multiscale else layer.data, axes, kept)
    others = [axis for axis in range(layer.ndim) if axis not in axes]
    order = [axes[-1], *others]
    shown = Image(
        data,
        name=f"{layer.name}: kept slices",
        rgb=layer.rgb,
        scale=[layer.scale[axis] for axis in order],
        translate=[0.0, *(layer.translate[axis] for axis in others)],
        units=[layer.units[axis] for axis in order],
        contrast_limits=layer.contrast_limits,
        gamma=layer.gamma,
        metadata={KEPT: list(kept)},
    )
    if not layer.rgb:
        shown.colormap = layer.colormap
    return shown
