from __future__ import annotations

from collections.abc import Iterator

import dask.array as da
import numpy as np
import pytest
from skimage.color import hed2rgb

from napari_cvsuite.images import Image, ImageError, finite_range, minmax, to_three_channels
from napari_cvsuite.segmentation import source
from napari_cvsuite.segmentation.source import PlaneSource, row_blocks

RNG = np.random.default_rng(0)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(source, "BLOCK_PIXELS", 100)
    monkeypatch.setattr(row_blocks, "__defaults__", (100,))
    yield


PICTURES = {
    "gray": RNG.integers(0, 60_000, (41, 30)).astype(np.uint16),
    "rgb": RNG.integers(0, 255, (41, 30, 3), dtype=np.uint8),
    "two": RNG.uniform(3, 9, (41, 30, 2)),
    "nan": np.where(RNG.random((41, 30)) > 0.8, np.nan, RNG.normal(size=(41, 30))),
    "inf": np.where(RNG.random((41, 30, 3)) > 0.9, np.inf, RNG.normal(size=(41, 30, 3)) * 1e35),
    "first rows empty": np.where(np.arange(41)[:, None] < 20, np.nan, np.eye(41, 30)),
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.usefixtures("small_blocks")
def test_parts_are_those_of_the_scaled_whole(name: str, lazy: bool) -> None:
    array = PICTURES[name]
    image = Image.from_array(da.from_array(array, chunks=7) if lazy else array, "yxc"[: array.ndim])
    plane = PlaneSource(image, {})
    three = to_three_channels(array)
    whole = minmax(three, *finite_range(three))
    assert plane.shape == (41, 30)
    for y, x, height, width in [(0, 0, 41, 30), (3, 4, 10, 5), (38, 0, 3, 30), (0, 29, 1, 1)]:
        part = plane.read(y, x, height, width)
        assert np.array_equal(part, whole[y : y + height, x : x + width])


@pytest.mark.usefixtures("small_blocks")
def test_only_the_rows_asked_for_are_read() -> None:
    asked: list[tuple[slice, ...]] = []

    class Spy:
        shape, dtype, ndim = (1000, 50), np.dtype("u1"), 2

        def __getitem__(self, at: tuple[slice, ...]) -> np.ndarray:
            asked.append(at)
            return np.zeros(self.shape, "u1")[at]

    plane = PlaneSource(Image(Spy(), "yx"), {})
    asked.clear()
    plane.read(500, 0, 20, 10)
    plane.read(500, 40, 20, 10)
    assert asked == [(slice(500, 520), slice(None))]


def test_a_disk_that_fails_is_named() -> None:
    class Broken:
        shape, dtype, ndim = (10, 10), np.dtype("u1"), 2

        def __getitem__(self, at: object) -> np.ndarray:
            raise OSError(5, "Input/output error")

    with pytest.raises(ImageError, match=r"scan cannot be read.*connection"):
        PlaneSource(Image(Broken(), "yx", name="scan"), {})


def test_rows_are_covered_once() -> None:
    rows = np.concatenate([np.arange(r.start, r.stop) for r in row_blocks((103, 7), 70)])
    assert np.array_equal(rows, np.arange(103))


def test_stain_separation_sees_blue_and_not_brown() -> None:
    density = np.zeros((40, 40, 3))
    density[:20, :, 0] = 0.1
    density[10:30, :, 2] = 0.1
    rgb = np.rint(255 * hed2rgb(density)).astype(np.uint8)
    stain = PlaneSource(Image.from_array(rgb), {}, stain="hematoxylin").read(0, 0, 40, 40)
    assert np.array_equal(stain[..., 0], stain[..., 2])
    assert stain[:20].min() > 0.7 and stain[20:].max() < -0.7
