"""What a classifier sees of an image: which part, which pixels, and where results lie."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.models.plane_options import PlaneOptions
from napari_cvsuite.models.planes import Planes
from napari_cvsuite.models.view import Box, look, view_box


def _planes(array: object, **options: object) -> Planes:
    return Planes(Image.from_array(array), PlaneOptions(**options))  # type: ignore[arg-type]


def test_the_middle_square_is_that_of_training() -> None:
    # Shorter side to 256, middle 224: 7/8 of the shorter side.
    assert view_box((512, 1024), "centre", crop=224 / 256) == Box(32, 288, 448, 448)
    assert view_box((8, 20), "whole") == Box(0, 0, 8, 20)


def test_a_region_becomes_a_square_inside_the_plane() -> None:
    assert view_box((100, 200), "region", "10,20,30,50") == Box(0, 20, 50, 50)
    assert view_box((100, 200), "region", "90,190,10,10") == Box(90, 190, 10, 10)
    assert view_box((100, 200), "region", "0,0,100,200") == Box(0, 50, 100, 100)
    for wrong in ("", "1,2,3", "a,b,c,d", "0,0,0,5", "nan,0,5,5"):
        with pytest.raises(ImageError, match="top,left,height,width"):
            view_box((100, 200), "region", wrong)


@given(st.integers(1, 90), st.integers(1, 90), st.floats(0.3, 1.0), st.integers(1, 40))
def test_any_size_is_seen(height: int, width: int, crop: float, size: int) -> None:
    planes = _planes(np.full((height, width), 51, np.uint8))
    for view in ("centre", "whole"):
        seen = look(planes, {}, view_box(planes.shape, view, crop=crop), size)
        assert seen.shape == (size, size, 3)
        assert seen == pytest.approx(0.2)


def test_huge_planes_are_averaged_and_read_in_parts() -> None:
    asked: list[tuple[int, ...]] = []

    def read(block_info: dict[int, dict[str, list[tuple[int, int]]]]) -> np.ndarray:
        (top, bottom), (left, right) = block_info[None]["array-location"]  # type: ignore[index]
        asked.append((top, left))
        ramp = np.arange(left, right, dtype=np.uint16) // 100
        return np.broadcast_to(ramp, (bottom - top, right - left))

    data = da.map_blocks(
        read, chunks=((500,) * 8, (500,) * 8), dtype=np.uint16, meta=np.zeros((0, 0), np.uint16)
    )
    planes = _planes(data, intensity="fixed", low=0.0, high=40.0)
    asked.clear()
    seen = look(planes, {}, Box(0, 0, 1000, 4000), 10)
    assert max(asked)[0] < 1000
    assert seen[:, :, 0] == pytest.approx(
        np.tile((np.arange(10) * 4 + 1.5) / 40, (10, 1)), abs=0.02
    )


def test_what_is_not_finite_does_not_spread() -> None:
    pixels = np.full((400, 400), 0.5, np.float32)
    pixels[::2, ::2] = np.nan
    planes = _planes(pixels, intensity="type")
    seen = look(planes, {}, view_box(planes.shape, "whole"), 10)
    assert seen == pytest.approx(0.5)


@pytest.mark.parametrize("per", ["stack", "slice"])
def test_8_bits_keep_their_range_however_large(per: str) -> None:
    planes = _planes(np.full((3, 800, 800), 51, np.uint8), per=per)
    seen = look(planes, {"z": 1}, view_box(planes.shape, "whole"), 16)
    assert seen == pytest.approx(0.2)


def test_results_lie_over_what_was_seen() -> None:
    grid = Box(10, 20, 40, 80).grid((4, 4))
    # Cells of 10 x 20 pixels, the first around 10 to 20 and 20 to 40.
    assert grid.step == (10, 20) and grid.origin == (14.5, 29.5)
