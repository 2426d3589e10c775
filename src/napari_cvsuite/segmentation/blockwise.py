"""Objects of planes too large for memory: labelled block by block, joined at the seams.

The result is that of :func:`napari_cvsuite.segmentation.objects.label_objects` on the whole
plane. Connected parts are numbered in bands of rows and joined with a union over the pixels that
meet at a seam. Splitting works on whole parts, each in the block that holds its first row and
column, so a seam neither splits an object nor doubles it; only parts whose bounding box exceeds
`LARGEST_PART` pixels are left unsplit, and counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage import measure as skimage_measure

from napari_cvsuite.images import scratch_array
from napari_cvsuite.segmentation.measures import Columns, Extents, Sums, measure, object_columns
from napari_cvsuite.segmentation.objects import REACH, check_method, split_touching
from napari_cvsuite.segmentation.source import BLOCK_PIXELS, row_blocks

__all__ = ["LARGEST_PART", "BlockResult", "label_blocks"]

LARGEST_PART = 8_000_000
"""Pixels of the box of the largest part that is split; splitting takes over 100 bytes each."""
BLOCK_SIDE = 1024
"""Side of the blocks for splitting; they grow to hold the parts that begin in them."""

Report = Callable[[str], None]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class BlockResult:
    """What :func:`label_blocks` found.

    Parameters
    ----------
    columns : dict of ndarray
        The object table; see :func:`napari_cvsuite.segmentation.objects.object_table`.
    unsplit : int
        Parts too large to be split.
    """

    columns: Columns
    unsplit: int


@dataclass
class _Pieces:
    """Parts as the bands see them; those that touch a seam may belong together."""

    sums: list[Sums] = field(default_factory=list)
    open_rows: list[Extents] = field(default_factory=list)
    convex: list[tuple[Integers, Integers]] = field(default_factory=list)
    pairs: list[Integers] = field(default_factory=list)
    count: int = 0


def label_blocks(
    classes: NDArray[np.uint8],
    labels: NDArray[np.int32],
    method: str = "components",
    min_size: int = 0,
    fill_holes: bool = False,
    scale: tuple[float, float] = (1.0, 1.0),
    folder: Path | None = None,
    report: Report = lambda message: None,
    block: int = BLOCK_PIXELS,
) -> BlockResult:
    """Number the objects of a class map and measure them.

    Parameters
    ----------
    classes : array of uint8, shape (H, W)
        Class map, such as a memory map; 0 is background. Not changed.
    labels : array of int32, shape (H, W)
        Filled with object numbers from 1 on, without gaps; such as a memory map.
    method, min_size, fill_holes
        See :func:`napari_cvsuite.segmentation.objects.label_objects`.
    scale : tuple of float
        Pixel height and width.
    folder : Path, optional
        Where a temporary file of one byte a pixel may go (for `fill_holes`); by default the
        system's folder for temporary files.
    report : callable
        Told what is being done; may raise to stop.
    block : int
        Pixels worked on at a time.

    Raises
    ------
    ValueError
        Unknown method.
    ImageError
        No space for the temporary file.
    """
    check_method(method)
    shape = (classes.shape[0], classes.shape[1])
    bands = list(row_blocks(shape, block))
    if fill_holes:
        with scratch_array(folder or Path(tempfile.gettempdir()), shape, np.uint8) as filled:
            _fill_holes(classes, filled, bands, report)
            return label_blocks(filled, labels, method, min_size, False, scale, None, report, block)
    pieces = _find_pieces(classes, labels, bands, method, min_size, report)
    root = _roots(pieces, method)
    parts = Sums.joined(pieces.sums)
    parts = parts.merged(root[parts.number])
    if method != "watershed":
        return BlockResult(_finish(labels, pieces, root, parts, min_size, scale, bands), 0)
    split = _split(classes, labels, root, parts, min_size, report)
    whole = _finish(labels, pieces, root, split.left, min_size, scale, bands, split.count)
    columns = object_columns(Sums.joined(split.sums), _joined(split.convex), scale)
    merged = {key: np.concatenate([columns[key], whole[key]]) for key in columns}
    return BlockResult(merged, len(split.left.number))


def _joined(parts: list[Integers]) -> Integers:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _fill_holes(
    classes: NDArray[np.uint8], filled: NDArray[np.uint8], bands: list[slice], report: Report
) -> None:
    """Copy `classes`, with the background that a class encloses given to that class."""
    present = np.zeros(256, bool)
    for rows in bands:
        filled[rows] = classes[rows]
        present |= np.bincount(classes[rows].ravel(), minlength=256) > 0
    for value in (np.flatnonzero(present[1:]) + 1).tolist():
        outside = _outside(classes, value, bands, report)
        first = 0
        for rows in bands:
            part, count = ndimage.label(classes[rows] != value)
            hole = ~outside[first : first + count + 1]
            hole[0] = False
            band = filled[rows]
            band[hole[part] & (classes[rows] == 0)] = value
            first += count


def _outside(
    classes: NDArray[np.uint8], value: int, bands: list[slice], report: Report
) -> NDArray[np.bool_]:
    """Whether each 4-connected part of what is not `value` reaches the edge of the plane.

    Parts are numbered through all bands from 1 on.
    """
    pairs, at_edge, total = [], [], 0
    above: NDArray[Any] = np.zeros(0)
    for rows in bands:
        report("filling holes")
        part, count = ndimage.label(classes[rows] != value)
        numbers = np.where(part > 0, part.astype(np.int64) + total, 0)
        ends = [numbers[:, 0], numbers[:, -1]]
        if rows.start == 0:
            ends.append(numbers[0])
        else:
            pairs.append(np.stack([above, numbers[0]], axis=1)[(above > 0) & (numbers[0] > 0)])
        if rows.stop == classes.shape[0]:
            ends.append(numbers[-1])
        at_edge.append(np.unique(np.concatenate(ends)))
        above = numbers[-1]
        total += count
    root = _union(pairs, total)
    reached = np.zeros(total + 1, bool)
    reached[root[np.concatenate(at_edge)]] = True
    reached[0] = False
    return reached[root]


def _union(pairs: list[Integers], total: int) -> Integers:
    """Return, for every number up to `total`, the smallest one it is connected to."""
    root = np.arange(total + 1)
    joined = np.concatenate([np.zeros((0, 2), np.int64), *pairs])
    if len(joined):
        nodes, inverse = np.unique(joined, return_inverse=True)
        ends = inverse.reshape(joined.shape)
        graph = coo_array((np.ones(len(ends), bool), ends.T), shape=(len(nodes),) * 2)
        _, group = connected_components(graph, directed=False)
        # The nodes rise, so the first of a group is its smallest.
        _, first = np.unique(group, return_index=True)
        root[nodes] = nodes[first[group]]
    return root


def _find_pieces(
    classes: NDArray[np.uint8],
    labels: NDArray[np.int32],
    bands: list[slice],
    method: str,
    min_size: int,
    report: Report,
) -> _Pieces:
    """Number the parts of each band, rising from band to band, and measure them."""
    pieces = _Pieces()
    for number, rows in enumerate(bands):
        report(f"finding objects: band {number + 1} of {len(bands)}")
        band = classes[rows]
        if method == "none":
            part = band.astype(np.int32)
        else:
            part = skimage_measure.label(band, background=0, connectivity=2)
        count = int(part.max(initial=0))
        part[part > 0] += pieces.count
        if method != "none" and rows.start > 0:
            above = slice(rows.start - 1, rows.start + 1)
            pieces.pairs.append(_meeting(classes[above], labels[rows.start - 1], part[0]))
        labels[rows] = part
        sums, extents = measure(part, band, rows.start)
        seams = [part[0]] * (rows.start > 0) + [part[-1]] * (rows.stop < len(classes))
        is_open = np.zeros(pieces.count + count + 1, bool)
        is_open[np.concatenate([np.zeros(0, np.int64), *seams])] = True
        is_open[0] = False
        if method == "none":
            is_open[:] = True
        # What is complete and too small is forgotten at once, or noise would fill the memory.
        keep = is_open.copy()
        keep[sums.number] |= sums.total[:, 0] >= min_size
        pieces.sums.append(sums[keep[sums.number]])
        pieces.open_rows.append(extents.of_numbers(is_open))
        pieces.convex.append(extents.of_numbers(keep & ~is_open).convex_pixels())
        pieces.count += count
    return pieces


def _meeting(
    classes: NDArray[np.uint8], above: NDArray[np.integer], below: NDArray[np.integer]
) -> Integers:
    """Pairs of numbers of one class that touch across a seam, also at a corner."""
    width = len(above)
    found = []
    for shift in (-1, 0, 1):
        a = slice(max(0, -shift), width - max(0, shift))
        b = slice(max(0, shift), width - max(0, -shift))
        touch = (classes[0, a] == classes[1, b]) & (classes[0, a] > 0)
        found.append(np.stack([above[a][touch], below[b][touch]], axis=1))
    pairs: Integers = np.unique(np.concatenate(found).astype(np.int64), axis=0)
    return pairs


def _roots(pieces: _Pieces, method: str) -> Integers:
    if method != "none":
        return _union(pieces.pairs, pieces.count)
    root = np.arange(pieces.count + 1)
    first: dict[int, int] = {}
    for sums in pieces.sums:
        for number, value in zip(sums.number.tolist(), sums.value.tolist(), strict=True):
            root[number] = first.setdefault(value, number)
    return root


def _finish(
    labels: NDArray[np.int32],
    pieces: _Pieces,
    root: Integers,
    parts: Sums,
    min_size: int,
    scale: tuple[float, float],
    bands: list[slice],
    before: int = 0,
) -> Columns:
    """Give `parts` their final numbers, after `before`, in `labels`; return their table.

    Negative labels are final numbers already.
    """
    parts = parts[parts.total[:, 0] >= max(min_size, 1)]
    # The order of label_objects: by class, then by first pixel, as the pieces are numbered.
    parts = parts[np.lexsort((parts.number, parts.value))]
    final = np.zeros(len(root), np.int32)
    final[parts.number] = np.arange(len(parts.number)) + before + 1
    table = final[root]
    for rows in bands:
        band = labels[rows]
        labels[rows] = np.where(band < 0, -band, table[np.maximum(band, 0)])
    convex = np.zeros(len(root), np.int64)
    for numbers, counts in pieces.convex:
        convex[numbers] = counts
    rows_of = [np.concatenate([getattr(e, key) for e in pieces.open_rows]) for key in _EXTENT]
    open_parts = Extents.of(root[rows_of[0]], *rows_of[1:])
    numbers, counts = open_parts.of_numbers(final > 0).convex_pixels()
    convex[numbers] = counts
    numbered = Sums(final[parts.number].astype(np.int64), parts.value, parts.total, parts.box)
    return object_columns(numbered, convex[parts.number], scale)


_EXTENT = ("number", "y", "left", "right")


@dataclass
class _Split:
    """Objects that parts were split into, with their final numbers, and the parts left whole."""

    left: Sums
    sums: list[Sums] = field(default_factory=list)
    convex: list[Integers] = field(default_factory=list)
    count: int = 0


def _split(
    classes: NDArray[np.uint8],
    labels: NDArray[np.int32],
    root: Integers,
    parts: Sums,
    min_size: int,
    report: Report,
) -> _Split:
    """Split all parts but the largest; their pixels in `labels` get the final numbers, negative."""
    height, width = (parts.box[:, 2:] - parts.box[:, :2]).T
    too_large = height * width > LARGEST_PART
    alone = ~too_large & (np.maximum(height, width) > BLOCK_SIDE)
    split = _Split(parts[too_large])
    groups = [[index] for index in np.flatnonzero(alone).tolist()]
    common = np.flatnonzero(~too_large & ~alone)
    block = parts.box[common, :2] // BLOCK_SIDE
    _, which = np.unique(block, axis=0, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    cuts = np.flatnonzero(np.diff(which.ravel()[order])) + 1
    groups += [group.tolist() for group in np.split(common[order], cuts) if len(group)]
    number_of_part = np.zeros(len(root), np.int64)
    number_of_part[parts.number] = np.arange(1, len(parts.number) + 1)
    part_of_piece = number_of_part[root]
    for number, group in enumerate(groups):
        report(f"splitting objects: block {number + 1} of {len(groups)}")
        _split_group(classes, labels, part_of_piece, parts[group], np.array(group), min_size, split)
    return split


def _split_group(
    classes: NDArray[np.uint8],
    labels: NDArray[np.int32],
    part_of_piece: Integers,
    parts: Sums,
    indices: Integers,
    min_size: int,
    split: _Split,
) -> None:
    top, left = np.maximum(parts.box[:, :2].min(axis=0) - REACH, 0)
    bottom, right = parts.box[:, 2:].max(axis=0) + REACH
    region = (slice(top, bottom), slice(left, right))
    inside = np.asarray(classes[region])
    pieces = np.asarray(labels[region])
    wanted = np.zeros(int(part_of_piece.max(initial=0)) + 1, np.int32)
    wanted[indices + 1] = np.arange(1, len(indices) + 1)
    # Pixels of other groups may bear final, negative numbers already.
    part = wanted[part_of_piece[np.maximum(pieces, 0)]]
    for value in np.unique(parts.value):
        own = np.where(inside == value, part, 0)
        found = split_touching(inside == value, own)
        sums, extents = measure(found, inside, int(top), int(left))
        keep = sums.total[:, 0] >= max(min_size, 1)
        final = np.zeros(int(found.max(initial=0)) + 1, np.int32)
        final[sums.number[keep]] = np.arange(1, int(keep.sum()) + 1) + split.count
        target = labels[region]
        # Dropped ones get 0, which no later group takes for one of its pieces.
        target[own > 0] = -final[found[own > 0]]
        _, convex = extents.of_numbers(final > 0).convex_pixels()
        kept = sums[keep]
        split.sums.append(Sums(final[kept.number].astype(np.int64), *_but_number(kept)))
        split.convex.append(convex)
        split.count += int(keep.sum())


def _but_number(sums: Sums) -> tuple[Integers, NDArray[np.float64], Integers]:
    return sums.value, sums.total, sums.box
