"""Segment an image larger than memory, from file to file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images import Image, cut_along, open_tiff, scratch_array
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.segmentation.blockwise import BlockResult, label_blocks
from napari_cvsuite.segmentation.measures import Columns
from napari_cvsuite.segmentation.objects import rows_of
from napari_cvsuite.segmentation.options import PredictOptions
from napari_cvsuite.segmentation.predictor import Bands, Predictor, skipped_planes
from napari_cvsuite.segmentation.source import row_blocks

__all__ = ["LARGE_PIXELS", "Outputs", "StreamResult", "segment_stream"]

LARGE_PIXELS = 64_000_000
"""Files with more pixels (over all planes) are streamed; smaller ones are held in memory."""
CHUNK = 10_000
"""Rows of the object table turned into dictionaries at a time."""


@dataclass(frozen=True)
class Outputs:
    """Files to write.

    Parameters
    ----------
    labels : Path
        Class map, uint8.
    probabilities : Path, optional
        Class probabilities, float32; K x 4 bytes a pixel.
    """

    labels: Path
    probabilities: Path | None = None


@dataclass(frozen=True, eq=False)
class StreamResult:
    """What is known of an image once its maps are on disk.

    Parameters
    ----------
    tables : list of dict of ndarray
        Columns of the object table, one for each plane.
    counts : ndarray of int64, shape (256,)
        Pixels of each class.
    provenance : dict
        As in :class:`napari_cvsuite.segmentation.predict.SegmentResult`; also ``unsplit``, the
        number of connected parts too large to be split into objects.
    """

    tables: list[Columns]
    counts: NDArray[np.int64]
    provenance: dict[str, Any]

    @property
    def n_objects(self) -> int:
        """Number of objects in all planes."""
        return sum(len(table["index"]) for table in self.tables)

    def rows(self) -> Iterator[dict[str, float]]:
        """Yield the object table, one dictionary an object."""
        for number, table in enumerate(self.tables):
            for start in range(0, len(table["index"]), CHUNK):
                part = {key: values[start : start + CHUNK] for key, values in table.items()}
                for row in rows_of(part):
                    yield {"plane": float(number), **row} if len(self.tables) > 1 else row


def segment_stream(
    image: Image, options: PredictOptions, context: Context, outputs: Outputs
) -> StreamResult:
    """Segment an image plane by plane and band by band, holding neither it nor its results.

    Classes, objects and probabilities are those of
    :func:`napari_cvsuite.segmentation.predict.run`. Beside the outputs it needs 4 bytes a pixel
    of one plane on disk (5 with ``fill_holes``), in a hidden folder that is removed.

    Parameters
    ----------
    image : Image
        Lazy data, such as a memory map or a zarr array.
    options : PredictOptions
    context : Context
    outputs : Outputs
        Each appears when it is complete.

    Raises
    ------
    ImageError
        The image cannot be used or a result not be written; the message says what to do.
    WeightsError, UnknownModelError, DeviceError, MemoryExhausted, Cancelled
    """
    started = time.monotonic()
    card = Catalogue().get(options.model)
    cut = cut_along(image, options.axis)
    flat = cut.image
    skipped = skipped_planes(options, flat)
    predictor = Predictor(card, options, cut, context)
    shape = tuple(image.size(axis) for axis in cut.axes)
    counts = np.zeros(256, np.int64)
    tables: list[Columns] = []
    unsplit = 0
    with ExitStack() as files:
        classes = files.enter_context(open_tiff(outputs.labels, shape, np.uint8))
        maps: NDArray[np.float32] | None = None
        if outputs.probabilities is not None:
            inner = (*shape[:-2], max(len(card.classes), 2), *shape[-2:])
            maps = files.enter_context(open_tiff(outputs.probabilities, inner, np.float32))
        for number, index in enumerate(flat.planes()):
            # Views into the files, with the plane's rows and columns as their axes.
            at = cut.index(index, slice(None), slice(None))
            wanted = None if maps is None else _probability_view(maps, at)
            if number not in skipped:
                predictor.predict(number, index, partial(_write, classes[at], wanted))
            elif wanted is not None:
                # Background, for certain; the class map of a new file is background as it is.
                wanted[0] = 1
            report = partial(_report, context, predictor, number)
            found = _label(classes[at], options, flat.pixel_size, outputs.labels.parent, report)
            counts += _count(classes[at])
            tables.append(found.columns)
            unsplit += found.unsplit
    if unsplit:
        context.warn(
            f"{unsplit} connected part(s) of {image.name} are too large to be split into objects "
            "and count as one each"
        )
    seconds = {"seconds": round(time.monotonic() - started, 3), "unsplit": unsplit}
    return StreamResult(tables, counts, predictor.provenance() | seconds)


def _probability_view(
    maps: NDArray[np.float32], at: tuple[int | slice, ...]
) -> NDArray[np.float32]:
    """Return one plane of ``... x K x H x W`` probabilities as ``K x rows x columns``."""
    classes_axis = sum(isinstance(one, slice) for one in at[:-2])
    return np.moveaxis(maps[(*at[:-2], slice(None), *at[-2:])], classes_axis, 0)


def _write(classes: NDArray[np.uint8], maps: NDArray[np.float32] | None, bands: Bands) -> None:
    for row, band in bands:
        rows = slice(row, row + band.shape[1])
        classes[rows] = band.argmax(axis=0)
        if maps is not None:
            maps[:, rows] = band


def _report(context: Context, predictor: Predictor, number: int, message: str) -> None:
    """Report work that follows the tiles of a plane; raises if the job is cancelled."""
    done = (number + 1) * predictor.tiles_per_plane
    context.progress(done, predictor.n_tiles, message)


def _label(
    classes: NDArray[np.uint8],
    options: PredictOptions,
    pixel_size: tuple[float, float],
    folder: Path,
    report: Callable[[str], None],
) -> BlockResult:
    with scratch_array(folder, classes.shape, np.int32) as labels:
        return label_blocks(
            classes,
            labels,
            options.objects,
            options.min_size,
            options.fill_holes,
            pixel_size,
            folder,
            report,
        )


def _count(classes: NDArray[np.uint8]) -> NDArray[np.int64]:
    shape = (classes.shape[0], classes.shape[1])
    bands = (np.bincount(classes[rows].ravel(), minlength=256) for rows in row_blocks(shape))
    total: NDArray[np.int64] = np.sum(list(bands), axis=0)
    return total
