from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from napari_cvsuite.images import (
    ImageError,
    open_tiff,
    read,
    readers,
    replacing,
    scratch_array,
    write_labels,
    write_probability,
)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".bmp"])
def test_gray_round_trip(tmp_path: Path, suffix: str) -> None:
    array = np.arange(48, dtype=np.uint8).reshape(6, 8)
    path = tmp_path / f"a{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, array)
    elif suffix == ".npy":
        np.save(path, array)
    else:
        Picture.fromarray(array).save(path)
    image = read(path)
    assert image.axes == "yx" and image.name == "a"
    assert np.array_equal(image.plane(), array)


def test_palette_and_16_bit_png(tmp_path: Path) -> None:
    colour = np.zeros((8, 9, 3), np.uint8)
    colour[:4] = (200, 10, 30)
    Picture.fromarray(colour).convert("P").save(tmp_path / "p.png")
    assert read(tmp_path / "p.png").axes == "yxc"
    deep = np.full((6, 7), 40_000, np.uint16)
    Picture.fromarray(deep).save(tmp_path / "d.png")
    assert int(read(tmp_path / "d.png").plane().max()) == 40_000


def test_stack_and_colour_tiff(tmp_path: Path) -> None:
    stack = np.zeros((4, 16, 17), np.uint16)
    tifffile.imwrite(tmp_path / "s.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    assert read(tmp_path / "s.tif").axes == "zyx"
    tifffile.imwrite(
        tmp_path / "c.tif", np.zeros((16, 17, 3), "u1"), photometric="rgb", compression="zlib"
    )
    assert read(tmp_path / "c.tif").axes == "yxc"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".npy", ".zarr"])
@pytest.mark.parametrize("content", [b"", b"not an image at all", b"\x89PNG\r\n\x1a\n\0\0"])
def test_damaged_files_are_named_with_a_remedy(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"broken.*damaged"):
        read(path)


def test_missing_and_unknown_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        read(tmp_path / "none.png")
    (tmp_path / "a.xyz").touch()
    with pytest.raises(ImageError, match="convert it"):
        read(tmp_path / "a.xyz")


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ImageError):
        read(tmp_path / "o.npy")


@pytest.mark.parametrize(("top", "dtype"), [(1, "u1"), (255, "u1"), (256, "u2"), (70_000, "u4")])
def test_labels_take_the_smallest_type(tmp_path: Path, top: int, dtype: str) -> None:
    labels = np.zeros((5, 6), np.int64)
    labels[2, 3] = top
    write_labels(tmp_path / "l.tif", labels)
    back = tifffile.imread(tmp_path / "l.tif")
    assert back.dtype == np.dtype(dtype) and np.array_equal(back, labels)


def test_unwritable_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="another folder"):
        write_probability(tmp_path / "none" / "p.tif", np.zeros((2, 3, 3), np.float32))
    with pytest.raises(ImageError, match="negative"):
        write_labels(tmp_path / "l.tif", np.full((2, 2), -1))
    assert list(tmp_path.iterdir()) == []


def test_a_picture_too_large_to_be_read_whole_names_other_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Picture.fromarray(np.zeros((100, 100), "u1")).save(tmp_path / "a.png")
    monkeypatch.setattr(Picture, "MAX_IMAGE_PIXELS", 6000)
    with pytest.raises(ImageError, match="TIFF or zarr"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("compression", ["zlib", None])
def test_large_tiff_is_read_part_by_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str | None
) -> None:
    monkeypatch.setattr(readers, "LAZY_BYTES", 0)
    array = np.random.default_rng(0).integers(0, 255, (60, 40, 3), dtype="u1")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, photometric="rgb", compression=compression, rowsperstrip=7)
    image = read(path)
    assert isinstance(image.data, np.memmap) or hasattr(image.data, "dask")
    assert image.axes == "yxc"
    part = image.plane({}, None, slice(10, 31), slice(5, 9))
    assert np.array_equal(part, array[10:31, 5:9])


def test_open_tiff_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with open_tiff(path, (2, 30, 40), np.uint8) as array:
        assert not path.exists()
        array[1, 3] = 7
    back = tifffile.imread(path)
    assert back.shape == (2, 30, 40) and back.sum() == 7 * 40
    with pytest.raises(KeyError), open_tiff(path, (5, 5), np.uint8):
        raise KeyError
    assert tifffile.imread(path).shape == (2, 30, 40)
    assert list(tmp_path.iterdir()) == [path]


def test_scratch_array_is_zero_and_goes(tmp_path: Path) -> None:
    with scratch_array(tmp_path, (20, 30), np.int32) as array:
        assert array.shape == (20, 30) and not array.any()
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    with (
        pytest.raises(ImageError, match="another folder"),
        scratch_array(tmp_path / "none", (2, 2), np.int32),
    ):
        pass


def test_replacing_keeps_the_old_file_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ImageError, match="free some space"), replacing(path) as partial:
        partial.write_text("new")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
    with replacing(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]
