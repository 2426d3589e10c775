"""Write results, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_cvsuite.images.image import ImageError

__all__ = ["open_tiff", "replacing", "scratch_array", "write_labels", "write_probability"]


def write_labels(path: Path, labels: NDArray[Any]) -> None:
    """Write labels in the smallest unsigned type that holds them.

    Parameters
    ----------
    path : Path
    labels : ndarray of int, shape (..., H, W)

    Raises
    ------
    ImageError
        The file cannot be written (no space, no permission), or a label is negative.
    """
    if labels.size and labels.min() < 0:
        raise ImageError(f"{path.name}: labels must not be negative; found {labels.min()}")
    top = int(labels.max(initial=0))
    _write(path, labels.astype(np.min_scalar_type(top)))


def write_probability(path: Path, probabilities: NDArray[np.float32]) -> None:
    """Write probabilities, shape (..., K, H, W), as float32.

    Raises
    ------
    ImageError
        The file cannot be written.
    """
    _write(path, probabilities.astype(np.float32))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lend the name of a partial file that takes the place of `path` when the block ends.

    After an error the partial file is gone and `path` as it was.

    Raises
    ------
    ImageError
        In place of an OSError: no space, no permission, no such folder.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        # Also after an error of another kind, or a cancelled job.
        _remove(partial)


@contextmanager
def open_tiff(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> Iterator[NDArray[Any]]:
    """Lend an array whose pixels are those of a TIFF file, for results too large for memory.

    The file is uncompressed; it appears under its name when the block ends without an error.

    Raises
    ------
    ImageError
        The file cannot be written; its whole space is claimed at the start.
    """
    import tifffile

    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    with replacing(path) as partial:
        array = tifffile.memmap(
            partial, shape=shape, dtype=dtype, photometric="minisblack", bigtiff=size > 2e9
        )
        _claim(partial)
        yield array
        array.flush()
        del array


@contextmanager
def scratch_array(folder: Path, shape: tuple[int, ...], dtype: DTypeLike) -> Iterator[NDArray[Any]]:
    """Lend an array of zeros that lives in a temporary file in `folder`, not in memory.

    Raises
    ------
    ImageError
        There is no space for it.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".scratch-", dir=folder) as inside:
            file = Path(inside) / "array"
            array = np.memmap(file, dtype, "w+", shape=shape)
            _claim(file)
            yield array
            # Windows removes no file that is still mapped.
            del array
    except OSError as error:
        raise _refusal(folder, error) from error


def _claim(path: Path) -> None:
    """Claim the disk space of a sparse file: a full disk would kill a process that maps it."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, path.stat().st_size)


def _refusal(path: Path, error: OSError) -> ImageError:
    return ImageError(
        f"cannot write {path} ({error.strerror or error}); free some space or choose another folder"
    )


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        # Where the folder itself cannot be used there is nothing of ours to remove.
        if path.exists():
            raise _refusal(path, error) from error


def _write(path: Path, array: NDArray[Any]) -> None:
    import tifffile

    with replacing(path) as partial:
        tifffile.imwrite(
            partial, array, compression="zlib", photometric="minisblack", bigtiff=array.nbytes > 2e9
        )
