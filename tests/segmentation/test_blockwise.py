"""Labelling in blocks is labelling the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_cvsuite.segmentation import blockwise
from napari_cvsuite.segmentation.blockwise import BlockResult, label_blocks
from napari_cvsuite.segmentation.objects import (
    fill_class_holes,
    label_objects,
    object_table,
    rows_of,
)


def _blobs(seed: int, height: int, width: int, smooth: float, classes: int) -> NDArray[np.uint8]:
    """Random class map; `smooth` 0 is noise, more gives ever larger blobs."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(classes, height, width))
    smoothed = [ndimage.gaussian_filter(one, smooth) for one in noise]
    scores = np.stack([np.full((height, width), 0.1 * np.std(smoothed)), *smoothed])
    return scores.argmax(axis=0).astype(np.uint8)


def _blockwise(classes: NDArray[np.uint8], **options: object) -> tuple[NDArray, BlockResult]:
    labels = np.full(classes.shape, 77, np.int32)
    return labels, label_blocks(classes, labels, **options)


MAPS = st.builds(
    _blobs,
    st.integers(0, 10_000),
    st.integers(1, 70),
    st.integers(1, 60),
    st.sampled_from([0.0, 0.7, 1.5, 3.0]),
    st.integers(1, 3),
)


@settings(max_examples=150, deadline=None)
@given(
    MAPS,
    st.sampled_from(["none", "components"]),
    st.sampled_from([0, 1, 5, 40]),
    st.booleans(),
    st.sampled_from([1, 60, 333, 10_000]),
)
# Background within a class within another: it becomes an object of the outer one.
@example(_blobs(3, 67, 56, 1.5, 3), "components", 0, True, 1)
def test_blocks_equal_the_whole(
    classes: NDArray[np.uint8], method: str, min_size: int, fill: bool, block: int
) -> None:
    whole = label_objects(classes, method, min_size, fill)
    labels, found = _blockwise(
        classes, method=method, min_size=min_size, fill_holes=fill, block=block, scale=(2.0, 0.5)
    )
    assert np.array_equal(labels, whole)
    table = object_table(whole, fill_class_holes(classes) if fill else classes, (2.0, 0.5))
    assert len(table) == len(found.columns["index"])
    for row, expected in zip(rows_of(found.columns), table, strict=True):
        assert row == pytest.approx(expected, abs=1e-6)


@settings(max_examples=80, deadline=None)
@given(MAPS, st.sampled_from([0, 1, 5, 40]), st.booleans(), st.sampled_from([1, 200, 10_000]))
# A pixel between two peaks of one height.
@example(_blobs(335, 51, 60, 1.5, 3), 0, False, 1)
def test_split_objects_are_those_of_the_whole(
    classes: NDArray[np.uint8], min_size: int, fill: bool, block: int
) -> None:
    whole = label_objects(classes, "watershed", min_size, fill)
    with pytest.MonkeyPatch.context() as patch:
        # Small enough that most parts cross seams, and the larger ones go alone.
        patch.setattr(blockwise, "BLOCK_SIDE", 8)
        labels, found = _blockwise(
            classes, method="watershed", min_size=min_size, fill_holes=fill, block=block
        )
    assert found.unsplit == 0
    # Equal up to the order of the numbers: pairs of numbers match one to one.
    pairs = np.unique(np.stack([labels.ravel(), whole.ravel()], axis=1), axis=0)
    assert len(pairs) == len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1]))
    rename = dict(pairs.tolist())
    assert rename.get(0, 0) == 0
    filled = fill_class_holes(classes) if fill else classes
    table = {row["index"]: row for row in object_table(whole, filled)}
    assert len(table) == len(found.columns["index"]) == labels.max()
    for row in rows_of(found.columns):
        expected = table[rename[row["index"]]]
        assert row == pytest.approx({**expected, "index": row["index"]}, abs=1e-6)


def test_a_row_of_discs_on_the_seams_is_counted_once() -> None:
    y, x = np.mgrid[:200, :300]
    classes = np.zeros((200, 300), np.uint8)
    for cy in (40, 90, 140):
        for cx in range(20, 290, 17):
            classes |= (((y - cy) ** 2 + (x - cx) ** 2) <= 100).astype(np.uint8)
    # Bands end at every tenth row; the discs touch in chains of sixteen.
    _, joined = _blockwise(classes, block=3000)
    _, split = _blockwise(classes, block=3000, method="watershed")
    assert len(joined.columns["index"]) == 3
    assert len(split.columns["index"]) == 3 * len(range(20, 290, 17))


def test_parts_too_large_to_split_stay_whole_and_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blockwise, "LARGEST_PART", 700)
    y, x = np.mgrid[:60, :80]
    classes = np.zeros((60, 80), np.uint8)
    for cy, cx in ((20, 20), (20, 37), (45, 60)):
        classes |= (((y - cy) ** 2 + (x - cx) ** 2) <= 100).astype(np.uint8)
    classes[50:52, 2:4] = 1
    labels, found = _blockwise(classes, method="watershed", min_size=5, block=800)
    assert found.unsplit == 1
    assert labels[20, 20] == labels[20, 37] != labels[45, 60]
    assert labels[50, 2] == 0 and set(np.unique(labels)) == {0, 1, 2}
    assert sorted(found.columns["index"]) == [1, 2]
    assert found.columns["area"].sum() == (classes > 0).sum() - 4


def test_scratch_file_is_removed(tmp_path: Path) -> None:
    ring = np.zeros((30, 30), np.uint8)
    ring[5:25, 5:25] = 1
    ring[8:22, 8:22] = 0
    labels, found = _blockwise(ring, fill_holes=True, folder=tmp_path, block=100)
    assert found.columns["area"].tolist() == [400.0] and labels[15, 15] == 1
    assert list(tmp_path.iterdir()) == []
