"""Segment an image, plane by plane, with a model of the catalogue."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import rgb2hed

from napari_cvsuite import __version__
from napari_cvsuite.images import Image, ImageError, finite_range, minmax, to_three_channels
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.models.device import choose_device, choose_precision
from napari_cvsuite.models.store import default_store
from napari_cvsuite.segmentation.objects import label_objects, object_table
from napari_cvsuite.segmentation.options import PredictOptions
from napari_cvsuite.segmentation.plane import predict_probabilities

__all__ = ["SegmentResult", "run", "uncertainty"]


@dataclass(frozen=True)
class SegmentResult:
    """Outcome for one image; arrays have its stack axes first, then y and x.

    Parameters
    ----------
    classes : ndarray of uint8, shape (..., H, W)
        Most probable class.
    objects : ndarray of int32, shape (..., H, W)
        Object numbers, from 1 on in every plane; 0 is background.
    probabilities : ndarray of float16, shape (..., K, H, W)
        Softmax over the classes.
    uncertainty : ndarray of float16, shape (..., H, W)
        Entropy of the probabilities divided by ``log K``: 0 certain, 1 a toss-up.
    table : list of dict
        One row an object; see :func:`napari_cvsuite.segmentation.objects.object_table`.
    axes : str
        Axes of ``classes``.
    provenance : dict
        Model, weights hash, options, version, device, precision, tile and seconds.
    """

    classes: NDArray[np.uint8]
    objects: NDArray[np.int32]
    probabilities: NDArray[np.float16]
    uncertainty: NDArray[np.float16]
    table: list[dict[str, float]]
    axes: str
    provenance: dict[str, Any]


def uncertainty(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Entropy of ``K x H x W`` probabilities divided by ``log K``, in [0, 1]."""
    p = np.clip(probabilities, 1e-7, 1.0)
    entropy = -(p * np.log(p)).sum(axis=0) / np.log(max(len(p), 2))
    bounded: NDArray[np.float32] = np.clip(entropy, 0.0, 1.0).astype(np.float32)
    return bounded


def _flips(
    predict: Callable[[NDArray[np.float32]], NDArray[np.float32]], image: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Mean prediction over the eight flips and quarter turns."""
    total: NDArray[np.float32] | None = None
    for mirrored in (False, True):
        for turns in range(4):
            view = np.rot90(image[:, ::-1] if mirrored else image, turns, axes=(0, 1))
            part = np.rot90(predict(np.ascontiguousarray(view)), -turns, axes=(1, 2))
            part = part[:, :, ::-1] if mirrored else part
            total = part.copy() if total is None else total + part
    assert total is not None
    mean: NDArray[np.float32] = (total / 8).astype(np.float32)
    return mean


def _separate_stain(plane: NDArray[Any], stain: str) -> NDArray[Any]:
    """Return the plane, or the density of one stain in it.

    Colour deconvolution of Ruifrok and Johnston (2001); the outermost 1 % and 0.5 % of the
    densities are clipped, since single dark specks would compress all others.
    """
    if stain == "none":
        return plane
    if plane.ndim != 3 or plane.shape[2] not in (3, 4):
        raise ImageError(f"stain {stain!r} needs an RGB image; choose 'none' for others")
    rgb = to_three_channels(plane)
    top = np.iinfo(plane.dtype).max if plane.dtype.kind in "ui" else max(float(rgb.max()), 1e-12)
    density = rgb2hed(np.clip(rgb / top, 0.0, 1.0))[..., 0]
    return np.clip(density, *np.percentile(density, [1.0, 99.5]))


def run(image: Image, options: PredictOptions, context: Context) -> SegmentResult:
    """Segment every plane of an image.

    Parameters
    ----------
    image : Image
        Any dtype; grayscale, RGB(A) or up to three channels. Every plane is scaled to [-1, 1] by
        its own smallest and largest finite value.
    options : PredictOptions
    context : Context

    Raises
    ------
    ImageError
        The image holds nothing that can be segmented; the message says why.
    WeightsError, UnknownModelError, DeviceError
        The model or device is not to be had; the message says what to do.
    Cancelled
    """
    started = time.monotonic()
    card = Catalogue().get(options.model)
    device = choose_device(context.device)
    precision = choose_precision(device, options.precision)
    tile = options.tile or card.input.tile
    planes: list[NDArray[np.float32]] = []
    context.progress(0, image.n_planes, f"loading {card.name}")
    with default_store().lease(card, device, precision) as model, torch.inference_mode():

        def predict(array: NDArray[np.float32]) -> NDArray[np.float32]:
            return predict_probabilities(
                model,
                array,
                tile,
                options.halo,
                device,
                precision,
                context.check,
                card.input.scale,
            )

        for done, index in enumerate(image.planes()):
            context.progress(done, image.n_planes, f"segmenting plane {done + 1}")
            plane = to_three_channels(_separate_stain(image.plane(index, None), options.stain))
            scaled = minmax(plane, *finite_range(plane))
            planes.append(_flips(predict, scaled) if options.tta else predict(scaled))
    context.check()
    provenance = {
        "model": card.name,
        "weights_sha256": card.weights.sha256,
        "options": asdict(options),
        "version": __version__,
        "device": device,
        "precision": precision,
        "tile": tile,
        "threads": torch.get_num_threads(),
    }
    result = _assemble(image, planes, options, provenance, context)
    provenance["seconds"] = round(time.monotonic() - started, 3)
    return result


def _assemble(
    image: Image,
    planes: list[NDArray[np.float32]],
    options: PredictOptions,
    provenance: dict[str, Any],
    context: Context,
) -> SegmentResult:
    classes, objects, rows = [], [], []
    for number, probabilities in enumerate(planes):
        context.check()
        best = probabilities.argmax(axis=0).astype(np.uint8)
        parts = label_objects(best, options.objects, options.min_size, options.fill_holes)
        classes.append(best)
        objects.append(parts)
        for row in object_table(parts, best, image.pixel_size):
            rows.append({"plane": float(number), **row} if len(planes) > 1 else row)
    shape = tuple(image.size(axis) for axis in image.stack_axes)

    def stack(parts: list[NDArray[Any]], dtype: Any) -> NDArray[Any]:
        joined = np.stack([part.astype(dtype) for part in parts])
        return joined.reshape(shape + joined.shape[1:])

    return SegmentResult(
        classes=stack(classes, np.uint8),
        objects=stack(objects, np.int32),
        probabilities=stack(planes, np.float16),
        uncertainty=stack([uncertainty(plane) for plane in planes], np.float16),
        table=rows,
        axes="".join(image.stack_axes) + "yx",
        provenance=provenance,
    )
