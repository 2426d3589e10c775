"""Maps of local quality."""

from __future__ import annotations

import numpy as np
import pytest

import napari_cvsuite
from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.jobs import Context
from napari_cvsuite.quality import map as quality_map
from napari_cvsuite.quality.map import grid_of, run
from napari_cvsuite.quality.options import MapOptions, ScoreOptions
from napari_cvsuite.quality.score import run as score

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 255, (96, 160), np.uint8)


def test_windows_cover_the_plane_evenly() -> None:
    tiles, grid = grid_of((100, 64), 64, 20)
    assert [row[0].y for row in tiles] == [0, 18, 36] and len(tiles[0]) == 1
    assert grid.step == (18, 64) and grid.origin == (31.5, 31.5)
    last = tiles[-1][-1]
    assert (last.y + last.height, last.x + last.width) == (100, 64)
    tiles, grid = grid_of((40, 50), 192, 64)
    assert len(tiles) == len(tiles[0]) == 1 and (tiles[0][0].height, tiles[0][0].width) == (40, 50)
    assert grid.origin == (19.5, 24.5)


def test_values_are_the_scores_of_the_windows(tiny_quality_model: str) -> None:
    options = MapOptions(model=tiny_quality_model, window=64, step=32, attention=True)
    found = run(Image.from_array(IMAGE), options, Context())
    assert found.scores.shape == (2, 4) and found.axes == "yx"
    for y, x in ((0, 0), (1, 3)):
        part = IMAGE[32 * y : 32 * y + 64, 32 * x : 32 * x + 64]
        row = score(Image.from_array(part), ScoreOptions(model=tiny_quality_model), Context())
        assert found.scores[y, x] == pytest.approx(row.rows[0].score, abs=2e-5)
    assert len(found.attention) == 5
    for one, grid in zip(found.attention, found.attention_grids, strict=True):
        assert one.mean() == pytest.approx(1, abs=1e-5) and (one >= 0).all()
        cells = np.array(one.shape) * grid.step
        np.testing.assert_allclose(cells, IMAGE.shape)


def test_stacks_keep_their_axes_and_flat_windows_are_unknown(tiny_quality_model: str) -> None:
    stack = np.stack([IMAGE, IMAGE])
    stack[1, :, :96] = 7
    options = MapOptions(model=tiny_quality_model, window=64, step=32)
    found = run(Image.from_array(stack), options, Context())
    assert found.scores.shape == (2, 2, 4) and found.axes == "zyx"
    assert np.isnan(found.scores[1, :, :2]).all() and np.isfinite(found.scores[1, :, 2:]).all()
    with pytest.raises(ImageError, match="nothing to judge"):
        run(Image.from_array(np.zeros((64, 64), np.uint8)), options, Context())


def test_too_many_windows_are_refused(
    tiny_quality_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality_map, "MOST_WINDOWS", 5)
    options = MapOptions(model=tiny_quality_model, window=64, step=32)
    with pytest.raises(ImageError, match="8 windows are too many"):
        run(Image.from_array(IMAGE), options, Context())


def test_a_reference_is_cut_the_same_way(tiny_comparing_model: str) -> None:
    other = np.ascontiguousarray(IMAGE[:, ::-1])
    found = napari_cvsuite.quality_map(
        IMAGE, other, model=tiny_comparing_model, window=64, step=32, device="cpu"
    )
    row = score(
        Image.from_array(IMAGE[32:, 64:128]),
        ScoreOptions(model=tiny_comparing_model),
        Context(),
        Image.from_array(np.ascontiguousarray(other[32:, 64:128])),
    )
    assert found.scores[1, 2] == pytest.approx(row.rows[0].score, abs=2e-5)
