"""Read image files; the suffix chooses the reader, so that further formats can be added."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_cvsuite.images.image import Image, ImageError

__all__ = ["LAZY_BYTES", "READERS", "expand", "find_images", "read"]

LAZY_BYTES = 256 << 20
"""Compressed TIFFs with more bytes of pixels are decoded part by part, smaller ones at once."""


def _read_picture(path: Path) -> Image:
    from PIL import Image as Picture

    with warnings.catch_warnings():
        warnings.simplefilter("error", Picture.DecompressionBombWarning)
        with _opened(path) as opened:
            picture: Picture.Image = opened
            if picture.mode == "P":
                picture = picture.convert("RGB")
            elif picture.mode in ("1", "LA", "CMYK", "YCbCr"):
                picture = picture.convert("L" if picture.mode in ("1", "LA") else "RGB")
            array = np.asarray(picture)
    return Image.from_array(array, rgb=array.ndim == 3, name=path.stem)


def _opened(path: Path) -> Any:
    from PIL import Image as Picture

    try:
        return Picture.open(path)
    except (Picture.DecompressionBombWarning, Picture.DecompressionBombError) as error:
        raise ImageError(
            f"the picture is too large for {path.suffix} files, which can only be read whole "
            f"({error}); save it as TIFF or zarr, which are read part by part"
        ) from error


def _read_tiff(path: Path) -> Image:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        axes = series.axes.lower().replace("s", "c").replace("i", "z").replace("q", "z")
        shape = series.shape
        try:
            data: Any = tifffile.memmap(path, mode="r")
            whole = data.shape == shape
        # Compressed files cannot be mapped.
        except ValueError:
            whole = False
        if not whole:
            data = _in_parts(path) if series.nbytes > LAZY_BYTES else series.asarray()
    keep = [i for i, axis in enumerate(axes) if axis in "tzcyx" or shape[i] > 1]
    axes = "".join(axes[i] for i in keep)
    data = data.reshape([shape[i] for i in keep])
    known = set(axes) <= set("tzcyx") and len(set(axes)) == len(axes) and "yx" in axes
    return Image.from_array(data, axes=axes if known else None, name=path.stem)


def _in_parts(path: Path) -> Any:
    """Return the first series as an array that decodes what is asked of it."""
    import dask.array
    import tifffile
    import zarr

    tiff = tifffile.TiffFile(path)
    stored = zarr.open(tiff.series[0].aszarr(level=0), mode="r")
    # The file stays open for as long as the array lives.
    weakref.finalize(stored, tiff.close)
    if not isinstance(stored, zarr.Array):
        raise ImageError("its first series is no array; save it as a plain TIFF or as zarr")
    return dask.array.from_array(stored, chunks=stored.chunks)


def _read_npy(path: Path) -> Image:
    return Image.from_array(np.load(path, mmap_mode="r", allow_pickle=False), name=path.stem)


def _read_zarr(path: Path) -> Image:
    import zarr

    node = zarr.open(path, mode="r")
    if not isinstance(node, zarr.Array):
        raise ImageError(f"{path} is a zarr group; give the path of one array in it")
    return Image.from_array(node, name=path.stem)


READERS: dict[str, Callable[[Path], Image]] = {
    ".png": _read_picture,
    ".jpg": _read_picture,
    ".jpeg": _read_picture,
    ".bmp": _read_picture,
    ".tif": _read_tiff,
    ".tiff": _read_tiff,
    ".npy": _read_npy,
    ".zarr": _read_zarr,
}
"""Readers by suffix."""


def find_images(folder: Path) -> list[Path]:
    """Return the image files in a folder, by name.

    Raises
    ------
    ImageError
        There is none.
    """
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in READERS)
    if not found:
        raise ImageError(f"{folder} holds no image ({', '.join(READERS)}); choose another folder")
    return found


def expand(paths: Sequence[Path]) -> list[Path]:
    """Return the files meant: those given, and the images in folders that are given.

    Raises
    ------
    ImageError
        A folder holds no image.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir() or path.suffix.lower() in READERS:
            found.append(path)
            continue
        found += find_images(path)
    return found


def read(path: str | Path) -> Image:
    """Read an image file.

    Raises
    ------
    ImageError
        The file is missing, of an unknown kind, or damaged; the message says what to do.
    """
    path = Path(path)
    if not path.exists():
        raise ImageError(f"{path} does not exist; check the name and the folder")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ImageError(
            f"{path.name}: files of kind {path.suffix or '(none)'} are not known; "
            f"convert it to one of {', '.join(sorted(READERS))}"
        )
    try:
        return reader(path)
    except ImageError as error:
        raise ImageError(f"{path.name}: {error}") from error
    # Decoders raise what they like on damaged files (struct.error, SyntaxError, OSError ...).
    except Exception as error:
        raise ImageError(
            f"{path.name} cannot be read ({type(error).__name__}: {error}); "
            "the file may be damaged: copy it again or save it anew"
        ) from error
