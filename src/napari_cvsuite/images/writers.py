"""Write results as TIFF, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images.image import ImageError

__all__ = ["write_labels", "write_probability"]


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


def _write(path: Path, array: NDArray[Any]) -> None:
    import tifffile

    partial = path.with_name(path.name + ".partial")
    try:
        tifffile.imwrite(
            partial, array, compression="zlib", photometric="minisblack", bigtiff=array.nbytes > 2e9
        )
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ImageError(
            f"cannot write {path} ({error.strerror or error}); free some space or choose "
            "another folder"
        ) from error
