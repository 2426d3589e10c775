"""From a segmentation result to what layers show; runs on the worker thread, knows no Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.jobs.request import InputReference, Request
from napari_cvsuite.segmentation.options import PredictOptions
from napari_cvsuite.widgets.result_layers import Prepared

if TYPE_CHECKING:
    from napari_cvsuite.segmentation.predict import SegmentResult

__all__ = ["number_through", "prepare"]

MAP_PIXELS = 1 << 26
"""Above this many pixels the maps stay away: they would take gigabytes."""


def number_through(
    objects: NDArray[np.int32], rows: list[dict[str, float]]
) -> tuple[NDArray[np.int32], list[dict[str, float]]]:
    """Give the objects of every plane of a stack numbers of their own.

    Parameters
    ----------
    objects : ndarray of int32, shape (..., H, W)
        Numbered from 1 on in every plane.
    rows : list of dict
        Their table, with ``plane`` (counted through the stack) where there are several.

    Returns
    -------
    objects, rows
        New ones; the ``index`` of a row is the number of its object.
    """
    planes = objects.reshape(-1, *objects.shape[-2:])
    if len(planes) == 1:
        return objects, rows
    before = np.concatenate([[0], np.cumsum([plane.max(initial=0) for plane in planes])[:-1]])
    shifted = np.where(planes > 0, planes + before[:, None, None], 0).astype(np.int32)
    numbered = [{**row, "index": row["index"] + float(before[int(row["plane"])])} for row in rows]
    return shifted.reshape(objects.shape), numbered


def prepare(
    result: SegmentResult,
    classes: tuple[str, ...],
    options: PredictOptions,
    layer: str,
    show: str = "automatic",
) -> Prepared:
    """Return the arrays and the table that layers are made from.

    Parameters
    ----------
    result : SegmentResult
    classes : tuple of str
        Names of the classes, background first.
    options : PredictOptions
    layer : str
        Name of the layer it was computed from.
    show : {"automatic", "objects", "classes"}
        What the Labels layer holds; automatic shows objects where there is one foreground class.
    """
    wanted = show
    if show == "automatic":
        wanted = "objects" if len(classes) <= 2 and options.objects != "none" else "classes"
    objects, rows = number_through(result.objects, result.table)
    request = Request("segmentation.predict", options, (InputReference("layer", layer),))
    maps: dict[str, NDArray[np.float32]] = {}
    if result.classes.size <= MAP_PIXELS:
        background = np.take(result.probabilities, 0, axis=-3).astype(np.float32)
        maps = {
            "probability": 1.0 - background,
            "uncertainty": result.uncertainty.astype(np.float32),
        }
    provenance: dict[str, Any] = {**result.provenance, "request": request.to_dict()}
    return Prepared(
        labels=objects if wanted == "objects" else result.classes,
        kind="objects" if wanted == "objects" else "classes",
        rows=rows,
        maps=maps,
        classes=classes,
        provenance=provenance,
    )
