"""Overlaps of units and concepts against direct counting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.neurons import overlap as module
from napari_cvsuite.neurons.overlap import Concept, Shifts, count_overlap, iou, upsample
from napari_cvsuite.neurons.spool import Spool


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("before", "after"), [((3, 4), (10, 9)), ((5, 5), (5, 5)), ((7, 6), (3, 2))]
)
def test_enlarging_is_torchs(
    kind: torch.dtype, before: tuple[int, int], after: tuple[int, int]
) -> None:
    maps = torch.randn(6, *before, dtype=kind)
    want = F.interpolate(maps[None], size=after, mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(upsample(maps, after), want, rtol=1e-5, atol=1e-6)


def test_areas_without_pixels_have_no_overlap() -> None:
    zero, two = np.array([0, 0, 1]), np.array([0, 2, 2])
    assert iou(zero, two, two).tolist() == [0.0, 0.0, 1 / 3]


def test_counts_are_those_of_the_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    images, units, side = 5, 7, 8
    maps = rng.standard_normal((images, units, side, side)).astype(np.float32)
    labels = rng.integers(0, 4, (images, 2, side, side)) * (rng.random((images, 2, 1, 1)) < 0.7)
    labels[2] = 0
    concepts = [Concept(1, "a", 0), Concept(3, "b", 1), Concept(9, "absent", 1)]
    thresholds = np.quantile(maps, [0.9, 0.6], axis=(0, 2, 3))
    shifts = Shifts(np.array([1, 0, 0]), 6, seed=3)
    # Blocks of two units and of few shifts.
    monkeypatch.setattr(module, "VALUES", 2 * side * side)
    monkeypatch.setattr(module, "SHIFTED", 4 * side * side)
    with Spool() as spool:
        for one, marked in zip(maps, labels, strict=True):
            spool.append(one, list(marked))
        found = count_overlap(spool, range(images), concepts, thresholds, Context(), shifts)
    # Labels as large as the maps need no enlarging. The image without labels does not count.
    on = (maps > thresholds[:, None, :, None, None])[:, [0, 1, 3, 4]]
    kept = labels[[0, 1, 3, 4]]
    assert found.pixels == 4 * side * side
    assert np.array_equal(found.active, on.sum(axis=(1, 3, 4)))
    for index, one in enumerate(concepts):
        group = kept[:, one.group]
        planes = group == one.value
        assert found.area[index] == planes.sum()
        assert np.array_equal(found.both[..., index], (on & planes[:, None]).sum(axis=(1, 3, 4)))
        touched = (on & (group > 0)[:, None]).any(axis=(3, 4))
        near = (on.sum(axis=(3, 4)) * touched).sum(axis=1)
        assert np.array_equal(found.active_near[..., index], near)
        want = np.zeros((6, units))
        for number, mask, plane in zip([0, 1, 3, 4], on[shifts.level[index]], planes, strict=True):
            drawn = np.random.default_rng((3, number)).integers(0, (side, side), (6, 2))
            for row, move in enumerate(drawn):
                want[row] += (mask & np.roll(plane, tuple(move), (0, 1))).sum(axis=(1, 2))
        assert np.array_equal(found.shifted[..., index], want)


def test_a_coarse_count_takes_some_rows_and_columns() -> None:
    rng = np.random.default_rng(6)
    maps = rng.standard_normal((3, 4, 5, 7)).astype(np.float32)
    labels = rng.integers(0, 3, (3, 21, 30))
    thresholds = np.quantile(maps, [0.7], axis=(0, 2, 3))
    concepts = [Concept(1, "a", 0), Concept(2, "b", 0)]
    with Spool() as spool:
        for one, marked in zip(maps, labels, strict=True):
            spool.append(one, [marked])
        found = count_overlap(spool, range(3), concepts, thresholds, Context(), side=7)
    # 21 // 7 = 3: the middle of every 3 x 3 pixels.
    large = upsample(torch.from_numpy(maps).flatten(0, 1), (21, 30)).reshape(3, 4, 21, 30)
    on = (large.numpy() > thresholds[0][None, :, None, None])[:, :, 1::3, 1::3]
    kept = labels[:, 1::3, 1::3]
    assert found.pixels == 3 * 7 * 10
    assert np.array_equal(found.active[0], on.sum(axis=(0, 2, 3)))
    for index, value in enumerate((1, 2)):
        assert found.area[index] == (kept == value).sum()
        both = (on & (kept == value)[:, None]).sum(axis=(0, 2, 3))
        assert np.array_equal(found.both[0, :, index], both)


def test_a_threshold_between_two_floats_keeps_the_larger() -> None:
    above = np.nextafter(np.float32(1), np.float32(2))
    # Nearer to the upper float, to which it would be rounded.
    threshold = 1 + 0.75 * (float(above) - 1)
    maps = np.array([[[1, above]]], np.float32)
    with Spool() as spool:
        spool.append(maps, [np.ones((1, 2), int)])
        found = count_overlap(spool, [0], [Concept(1, "a", 0)], np.array([[threshold]]), Context())
    assert found.both.item() == 1
