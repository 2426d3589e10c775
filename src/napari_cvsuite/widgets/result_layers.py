"""Results of a segmentation as napari layers, with undo and without loss of painted labels."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from napari.viewer import Viewer
from numpy.typing import NDArray

from napari_cvsuite.widgets.regions import Selection

__all__ = [
    "Mode",
    "Prepared",
    "Source",
    "UndoTooLarge",
    "class_colormap",
    "new_labels",
    "new_map",
    "write_labels",
]

Mode = Literal["new layer", "replace", "fill empty only"]
READ_PIXELS, WRITE_PIXELS = 1 << 22, 1 << 18
"""Pixels that are compared, and that are changed for undo, in about 40 ms."""
# Okabe and Ito's colours: distinct for colour-blind eyes, and the same class always has the same.
_COLOURS = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
    "#999999",
)


class UndoTooLarge(ValueError):
    """Undoing the change would take more memory than allowed."""


@dataclass(frozen=True)
class Source:
    """What a result must know of the layer it came from, which may be gone by then.

    Parameters
    ----------
    name : str
    selection : Selection
    geometry : mapping
        Keyword arguments of a layer that lies exactly over the selection.
    """

    name: str
    selection: Selection
    geometry: dict[str, Any]

    @classmethod
    def of(cls, layer: Layer, selection: Selection) -> Source:
        """Describe the selected part of `layer`."""
        # Only the affine comes after the translation in napari's chain of transforms.
        corner = layer.affine.inverse(np.asarray(layer.data_to_world(selection.start)))
        geometry = {
            "scale": layer.scale,
            "rotate": layer.rotate,
            "shear": layer.shear,
            "translate": corner,
            "affine": layer.affine,
            "units": layer.units,
            "axis_labels": layer.axis_labels,
        }
        return cls(str(layer.name), selection, geometry)


@dataclass(frozen=True)
class Prepared:
    """A result ready for layers, made on the worker thread.

    Parameters
    ----------
    labels : ndarray of int
        Objects or classes, of the shape of the selection.
    kind : {"objects", "classes"}
    rows : list of dict
        The object table; ``index`` is unique over all planes.
    maps : dict
        Name -> float32 array of the shape of the selection, in [0, 1].
    classes : tuple of str
    provenance : dict

    Attributes
    ----------
    features : DataFrame or None
        What a Labels layer shows of an object under the mouse.
    """

    labels: NDArray[Any]
    kind: Literal["objects", "classes"]
    rows: list[dict[str, float]]
    maps: dict[str, NDArray[np.float32]]
    classes: tuple[str, ...]
    provenance: dict[str, Any] = field(default_factory=dict)
    features: pd.DataFrame | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", self._features())

    def _features(self) -> pd.DataFrame | None:
        if self.kind != "objects" or not self.rows:
            return None
        table = pd.DataFrame(self.rows)
        names = dict(enumerate(self.classes))
        table["class"] = [names.get(int(value), str(int(value))) for value in table["class"]]
        return table.astype({"index": int})


def class_colormap(count: int) -> DirectLabelColormap:
    """Return fixed colours for classes 1 to ``count - 1``; background is clear."""
    colours: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
    colours |= {i: _COLOURS[(i - 1) % len(_COLOURS)] for i in range(1, count)}
    return DirectLabelColormap(color_dict=colours)


def new_labels(
    viewer: Viewer, prepared: Prepared, source: Source, reuse: Labels | None = None
) -> Labels:
    """Add a Labels layer over the selection, or turn `reuse`, which lies there, into it.

    napari collects all garbage when a layer goes, which stops the window for a third of a second
    once torch is loaded; so the layer of a preview had better stay.
    """
    name, metadata = f"{source.name}: {prepared.kind}", {"napari_cvsuite": prepared.provenance}
    if reuse is None or reuse not in viewer.layers:
        layer = Labels(
            prepared.labels,
            name=name,
            metadata=metadata,
            features=prepared.features,
            **source.geometry,
        )
        if prepared.kind == "classes":
            layer.colormap = class_colormap(len(prepared.classes))
        viewer.add_layer(layer)
        return layer
    # While it is hidden napari does not compute the colours of all pixels anew with every line.
    reuse.visible = False
    usual = Labels(np.zeros((1, 1), np.uint8))
    classes = prepared.kind == "classes"
    reuse.colormap = class_colormap(len(prepared.classes)) if classes else usual.colormap
    reuse.opacity, reuse.editable = usual.opacity, True
    reuse.name, reuse.metadata, reuse.features = name, metadata, prepared.features
    reuse.data = prepared.labels
    reuse.visible = True
    return reuse


def new_map(
    viewer: Viewer, name: str, prepared: Prepared, source: Source, below: Layer | None = None
) -> Layer:
    """Add one of the maps as a hidden Image layer over the selection, under the layer `below`."""
    layer = Image(
        prepared.maps[name],
        name=f"{source.name}: {name}",
        metadata={"napari_cvsuite": prepared.provenance},
        contrast_limits=(0.0, 1.0),
        colormap="magma" if name == "uncertainty" else "viridis",
        opacity=0.7,
        visible=False,
        **source.geometry,
    )
    layers = viewer.layers
    layers.insert(layers.index(below) if below in layers else len(layers), layer)
    return layer


def write_labels(
    layer: Labels, prepared: Prepared, selection: Selection, mode: Mode, budget: int
) -> Generator[None, None, int]:
    """Write into a Labels layer as one step that can be undone, piece by piece.

    Parameters
    ----------
    layer : napari Labels
        Of the shape of the image.
    prepared : Prepared
    selection : Selection
    mode : {"replace", "fill empty only"}
        Whether labels in the selection are replaced or only background is filled.
    budget : int
        Bytes that undoing may take.

    Yields
    ------
    None
        After every piece, which takes a few hundredths of a second.

    Returns
    -------
    int
        Number of pixels changed.

    Raises
    ------
    UndoTooLarge
        It would take more; nothing was changed.
    ValueError
        The layer cannot hold the label numbers or has another shape; nothing was changed.
    """
    if any(b > side for b, side in zip(selection.stop, layer.data.shape, strict=True)):
        raise ValueError(f"the layer {layer.name!r} has another shape than the image now")
    before = 0
    if prepared.kind == "objects":
        # New numbers follow those in the layer, so that no two objects share one.
        for piece in _pieces(layer.data.shape, READ_PIXELS):
            before = max(before, int(np.max(layer.data[piece])))
            yield
    largest = int(prepared.labels.max(initial=0))
    largest += before if largest else 0
    if largest > np.iinfo(layer.data.dtype).max:
        raise ValueError(
            f"the layer {layer.name!r} of type {layer.data.dtype} cannot hold label "
            f"{largest}; convert it or choose a new layer"
        )

    def change(piece: tuple[slice, ...]) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """Return which pixels of a piece change, and the new values of all."""
        there = np.asarray(layer.data[selection.slices][piece])
        values = prepared.labels[piece]
        if before:
            values = np.where(values > 0, values.astype(np.int64) + before, 0)
        changed = values != there
        return changed & (there == 0) if mode == "fill empty only" else changed, values

    count = 0
    for piece in _pieces(selection.shape, READ_PIXELS):
        count += int(np.count_nonzero(change(piece)[0]))
        yield
    # napari keeps the index of every pixel along every axis, its value before and after.
    if count * (8 * layer.ndim + 2 * layer.data.dtype.itemsize) > budget:
        raise UndoTooLarge(f"undoing {count} pixels would take too much memory")
    with layer.block_history():
        for piece in _pieces(selection.shape, WRITE_PIXELS):
            changed, values = change(piece)
            if changed.any():
                corner = (a + part.start for a, part in zip(selection.start, piece, strict=True))
                at = tuple(axis + a for axis, a in zip(np.nonzero(changed), corner, strict=True))
                layer.data_setitem(at, values[changed].astype(layer.data.dtype))
                yield
    return count


def _pieces(shape: tuple[int, ...], most: int) -> Iterator[tuple[slice, ...]]:
    """Cut an array into pieces of no more than so many pixels."""
    below = math.prod(shape[1:])
    if below > most and len(shape) > 1:
        for i in range(shape[0]):
            yield from ((slice(i, i + 1), *piece) for piece in _pieces(shape[1:], most))
        return
    step = max(1, most // max(1, below))
    for i in range(0, shape[0], step):
        yield (slice(i, min(i + step, shape[0])), *(slice(0, side) for side in shape[1:]))
