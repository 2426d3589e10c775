"""Segment an image, plane by plane, with a model of the catalogue."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images import Image, ImageError, cut_along
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.segmentation.blockwise import label_blocks
from napari_cvsuite.segmentation.objects import (
    fill_class_holes,
    label_objects,
    object_table,
    rows_of,
)
from napari_cvsuite.segmentation.options import MOST_PIXELS, PredictOptions
from napari_cvsuite.segmentation.predictor import Bands, Predictor, TilePreview, skipped_planes

__all__ = ["MOST_PIXELS", "SegmentResult", "TilePreview", "run", "uncertainty"]

WHOLE_LABELLING = 16_000_000
"""Larger planes are labelled in blocks, which takes far less memory and gives the same objects."""


@dataclass(frozen=True)
class SegmentResult:
    """Outcome for one image; arrays have its stack axes first, then y and x, in its own order.

    Parameters
    ----------
    classes : ndarray of uint8, shape (..., H, W)
        Most probable class.
    objects : ndarray of int32, shape (..., H, W)
        Object numbers, from 1 on in every plane that was cut; 0 is background.
    probabilities : ndarray of float16, shape (..., K, H, W)
        Softmax over the classes.
    uncertainty : ndarray of float16, shape (..., H, W)
        Entropy of the probabilities divided by ``log K``: 0 certain, 1 a toss-up.
    table : list of dict
        One row an object; see :func:`napari_cvsuite.segmentation.objects.object_table`. Of a
        stack it starts with ``plane``, the number of the plane from 0 on; ``centroid_y`` and
        ``centroid_x`` run along the plane's rows and columns.
    axes : str
        Axes of ``classes``.
    provenance : dict
        Model, weights hash, options, version, device, precision, tile, halo, seconds and, as
        ``ladder``, what was changed because memory ran out.
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


def run(image: Image, options: PredictOptions, context: Context) -> SegmentResult:
    """Segment every plane of an image.

    Every finished tile is reported through ``context.progress`` with a :class:`TilePreview`.

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
        The image holds nothing that can be segmented, or more pixels than `MOST_PIXELS`; the
        message says what to do.
    WeightsError, UnknownModelError, DeviceError, MemoryExhausted
        The model or device is not to be had, or too small; the message says what to do.
    Cancelled
    """
    started = time.monotonic()
    card = Catalogue().get(options.model)
    cut = cut_along(image, options.axis)
    flat = cut.image
    shape = (flat.n_planes, flat.size("y"), flat.size("x"))
    if np.prod(shape, dtype=np.int64) > MOST_PIXELS:
        raise ImageError(
            f"an image of {np.prod(shape, dtype=np.int64) / 1e6:.0f} million pixels is too large "
            f"to hold its results in memory (most: {MOST_PIXELS / 1e6:.0f} million); segment a "
            "part of it, or save it as TIFF or zarr and use the command napari-cvsuite segment, "
            "which works from file to file"
        )
    skipped = skipped_planes(options, flat)
    predictor = Predictor(card, options, cut, context)
    maps = _Maps(shape)
    for number, index in enumerate(flat.planes()):
        if number in skipped:
            continue
        predictor.predict(number, index, partial(maps.fill, number))
        done = (number + 1) * predictor.tiles_per_plane
        context.progress(done, predictor.n_tiles, "finding objects")
        maps.find_objects(number, options, flat.pixel_size)
    # Planes that are left out are background, for certain.
    maps.probabilities[sorted(skipped), 0] = 1
    stack = tuple(flat.size(axis) for axis in flat.stack_axes)

    def restored(array: NDArray[Any], inner: int = 0) -> NDArray[Any]:
        return cut.restore(array.reshape(stack + array.shape[1:]), inner)

    return SegmentResult(
        classes=restored(maps.classes),
        objects=restored(maps.objects),
        probabilities=restored(maps.probabilities, inner=1),
        uncertainty=restored(maps.uncertainty),
        table=maps.table,
        axes=cut.axes,
        provenance=predictor.provenance() | {"seconds": round(time.monotonic() - started, 3)},
    )


class _Maps:
    """The results of all planes; ``probabilities`` exists from the first band on."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.classes = np.zeros(shape, np.uint8)
        self.objects = np.zeros(shape, np.int32)
        self.uncertainty = np.zeros(shape, np.float16)
        self.probabilities = np.zeros((0,), np.float16)
        self.table: list[dict[str, float]] = []

    def fill(self, number: int, bands: Bands) -> None:
        for row, band in bands:
            if not self.probabilities.size:
                count, height, width = self.classes.shape
                self.probabilities = np.zeros((count, len(band), height, width), np.float16)
            rows = slice(row, row + band.shape[1])
            self.classes[number, rows] = band.argmax(axis=0)
            self.uncertainty[number, rows] = uncertainty(band)
            self.probabilities[number, :, rows] = band

    def find_objects(
        self, number: int, options: PredictOptions, pixel_size: tuple[float, float]
    ) -> None:
        classes = self.classes[number]
        if classes.size > WHOLE_LABELLING:
            found = label_blocks(
                classes,
                self.objects[number],
                options.objects,
                options.min_size,
                options.fill_holes,
                pixel_size,
            )
            rows = rows_of(found.columns)
        else:
            filled = fill_class_holes(classes) if options.fill_holes else classes
            parts = label_objects(filled, options.objects, options.min_size)
            self.objects[number] = parts
            rows = object_table(parts, filled, pixel_size)
        for row in rows:
            one = {"plane": float(number), **row} if len(self.classes) > 1 else row
            self.table.append(one)
