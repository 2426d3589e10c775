"""Activations and labels of many images, kept in a temporary file instead of in memory."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Spool", "SpoolError"]

CHUNK = 8 * 2**20
"""Bytes of activations that are read at once."""


class SpoolError(OSError):
    """The temporary file cannot be written; the message says what to do."""


class Spool:
    """A temporary file of activations and labels, one record an image.

    The file has no name where the system allows it, and goes when the ``with`` block is left, by
    whatever way, or when the process ends. Activations are kept as they are, float32 or float64:
    float16 would halve the file, but move thresholds by up to 2^-11 of their value, five times
    more than the 1e-4 to which this project's reference vectors hold them, and would overflow at
    65504. It is read by position, not mapped into memory, so that it never counts as memory of
    the process.

    Parameters
    ----------
    total : int
        Expected number of images; 0 if unknown. After the first image the space on the disk is
        compared with it.
    directory : Path, optional
        Where the file lies; the system's folder for temporary files if left out.

    Raises
    ------
    SpoolError
        The disk is full, or too small for `total` images.
    """

    def __init__(self, total: int = 0, directory: Path | None = None) -> None:
        self._total = total
        self._directory = directory or Path(tempfile.gettempdir())
        # Closed by `__exit__`.
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115
        self._places: list[tuple[tuple[int, tuple[int, ...], str], ...]] = []

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._file.close()
        except OSError:
            # A full disk has been reported by `append`; closing tries to write once more.
            if kind is None:
                raise

    def __len__(self) -> int:
        return len(self._places)

    def append(self, activations: NDArray[Any], labels: Sequence[NDArray[Any]]) -> None:
        """Write the record of an image.

        Parameters
        ----------
        activations : ndarray of float32 or float64, shape (U, h, w)
            Of the same shape and type for all images.
        labels : sequence of ndarray of int, shape (H, W)
            One map a group of concepts, at least one.
        """
        maps = np.stack(labels)
        maps = maps.astype(np.min_scalar_type(int(maps.max())))
        try:
            self._places.append((self._write(activations), self._write(maps)))
            if len(self) == 1:
                self._check_space(activations.nbytes + maps.nbytes)
        except OSError as error:
            raise SpoolError(
                f"the activations do not fit on the disk of {self._directory}: {error}; free "
                "space there, set TMPDIR to a folder on a larger disk, or take fewer images or an "
                "earlier layer of fewer values"
            ) from error

    def _write(self, array: NDArray[Any]) -> tuple[int, tuple[int, ...], str]:
        place = self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(array).data)
        self._file.flush()
        return place, array.shape, array.dtype.str

    def _check_space(self, one: int) -> None:
        """Refuse what will not fit before the network has run for long."""
        needed = (self._total - 1) * one
        free = shutil.disk_usage(self._directory).free
        if needed > free:
            raise OSError(f"{needed / 2**30:.1f} GiB are needed, {free / 2**30:.1f} GiB are free")

    def _read(self, place: tuple[int, tuple[int, ...], str]) -> NDArray[Any]:
        offset, shape, kind = place
        array = np.empty(shape, kind)
        self._file.seek(offset)
        self._file.readinto(array.reshape(-1).view(np.uint8).data)
        return array

    def activations(self, number: int) -> NDArray[Any]:
        """Return the activations of an image, shape (U, h, w)."""
        return self._read(self._places[number][0])

    def labels(self, number: int) -> NDArray[Any]:
        """Return the labels of an image, unsigned, shape (groups, H, W)."""
        return self._read(self._places[number][1])

    def chunks(self, numbers: Iterable[int]) -> Iterator[NDArray[Any]]:
        """Yield the activations of images, several at once, shape (n, U, h, w)."""
        held: list[NDArray[Any]] = []
        for number in numbers:
            held.append(self.activations(number))
            if sum(one.nbytes for one in held) >= CHUNK:
                yield np.stack(held)
                held = []
        if held:
            yield np.stack(held)
