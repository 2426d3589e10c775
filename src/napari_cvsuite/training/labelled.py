"""Labelled images for classifiers: a folder of classes, or a folder and a table."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture
from torch import Tensor

from napari_cvsuite.images import READERS, ImageError, cut_along, read, window_of
from napari_cvsuite.jobs.context import Context

__all__ = ["Labelled", "find_labelled", "hold_out", "read_labelled", "seen", "spread", "tensors"]

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Labelled:
    """Images of one size, in memory, with their classes.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, S, S, 3)
    labels : ndarray of int64, shape (N,)
    classes : tuple of str
    names : tuple of str
        Of the files, without their suffix; those of class folders are preceded by it.
    """

    images: UInt8
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, numbers: Sequence[int] | NDArray[np.int64]) -> Labelled:
        """Return some of the images."""
        chosen = np.asarray(numbers, np.int64)
        names = tuple(self.names[number] for number in chosen)
        return Labelled(self.images[chosen], self.labels[chosen], self.classes, names)


def find_labelled(
    folder: Path, table: Path | None = None, column: str = "label"
) -> list[tuple[Path, str]]:
    """Return the images of a folder with their labels, by name.

    Parameters
    ----------
    folder : Path
        Its subfolders are the classes; with a table, it holds the images themselves.
    table : Path, optional
        CSV file with the columns ``file`` and `column`; files it does not name are left out.
    column : str

    Raises
    ------
    ValueError
        There are fewer than two classes, or the table cannot be used; the message says why.
    """
    if table is not None:
        found = _of_table(folder, table, column)
    else:
        found = [
            (path, inner.name)
            for inner in sorted(p for p in folder.glob("*") if p.is_dir())
            for path in sorted(inner.iterdir())
            if path.suffix.lower() in READERS
        ]
    if len({label for _, label in found}) < 2:
        raise ValueError(
            f"{folder} holds images of fewer than two classes; put each class into a folder of its "
            "own, or give a table with the columns file and label"
        )
    return found


def _of_table(folder: Path, table: Path, column: str) -> list[tuple[Path, str]]:
    try:
        with table.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, ValueError) as error:
        raise ValueError(f"{table} cannot be read ({error}); give a CSV file") from error
    for needed in ("file", column):
        if not rows or needed not in rows[0]:
            raise ValueError(f"{table} has no column {needed!r}; correct its first line")
    found = sorted((folder / row["file"], row[column].strip()) for row in rows)
    missing = [path for path, _ in found if not path.is_file()]
    if missing:
        raise ValueError(f"{missing[0]}, which {table.name} names, does not exist; correct it")
    return found


def spread(found: Sequence[tuple[Path, str]], limit: int, seed: int) -> list[tuple[Path, str]]:
    """Return at most `limit` images, as many of each class as there are, in a random order."""
    order = np.random.default_rng(seed).permutation(len(found)).tolist()
    met: Counter[str] = Counter()
    ranked = []
    for number in order:
        label = found[number][1]
        ranked.append((met[label], number))
        met[label] += 1
    # The sort is stable: one image of each class, then the next one of each.
    ranked.sort(key=lambda one: one[0])
    return [found[number] for _, number in ranked[:limit]]


def seen(plane: UInt8, size: int) -> UInt8:
    """Return what a classifier of input `size` sees: shorter side to `size`, middle square.

    Shrinking averages, so that nothing folds over.

    Parameters
    ----------
    plane : ndarray of uint8, shape (H, W, 3)
    size : int
    """
    height, width = plane.shape[:2]
    scale = size / min(height, width)
    shape = (max(size, round(width * scale)), max(size, round(height * scale)))
    picture = Picture.fromarray(np.ascontiguousarray(plane))
    if picture.size != shape:
        picture = picture.resize(shape, Picture.Resampling.BILINEAR)
    left, top = (shape[0] - size) // 2, (shape[1] - size) // 2
    return np.asarray(picture)[top : top + size, left : left + size]


def read_labelled(
    found: Sequence[tuple[Path, str]], size: int, context: Context, classes: Sequence[str] = ()
) -> Labelled:
    """Read images and bring them to one size.

    Parameters
    ----------
    found : sequence of (Path, str)
        See :func:`find_labelled`.
    size : int
        Side in pixels; see :func:`seen`.
    context : Context
    classes : sequence of str
        In the order of a network's outputs; empty takes those found, sorted.

    Raises
    ------
    ImageError
        An image cannot be read.
    ValueError
        A label is none of `classes`.
    """
    known = tuple(classes) or tuple(sorted({label for _, label in found}))
    images = np.empty((len(found), size, size, 3), np.uint8)
    labels = np.empty(len(found), np.int64)
    for number, (path, label) in enumerate(found):
        if number % 100 == 0:
            context.progress(number, len(found), f"reading {path.name}")
        if label not in known:
            raise ValueError(
                f"{path.name} is labelled {label!r}, but the classes are {', '.join(known)}; "
                "rename it or choose another model"
            )
        try:
            image = cut_along(read(path), "auto").image
            plane = image.plane(next(image.planes()))
            pixels = window_of([plane], "auto").apply(plane)
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
        images[number] = seen(np.rint(255 * pixels).astype(np.uint8), size)
        labels[number] = known.index(label)
    names = tuple(
        path.stem if path.parent.name != label else f"{label}/{path.stem}" for path, label in found
    )
    return Labelled(images, labels, known, names)


def hold_out(data: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """Return the images to train on and, of each class, a share for validation.

    Raises
    ------
    ValueError
        A class has too few images for that.
    """
    rng = np.random.default_rng((seed, 2))
    held: list[int] = []
    for number, name in enumerate(data.classes):
        own = np.flatnonzero(data.labels == number)
        if not len(own):  # A class of the network that the images do not show.
            continue
        count = round(share * len(own)) if share else 0
        if share and not 0 < count < len(own):
            raise ValueError(
                f"class {name!r} has {len(own)} images; that is too few to hold out "
                f"{share:.0%} of them: add images or hold out another share"
            )
        held += rng.permutation(own)[:count].tolist()
    kept = np.setdiff1d(np.arange(len(data)), held)
    return data.part(kept), data.part(np.sort(np.array(held, np.int64)))


def tensors(images: UInt8) -> Tensor:
    """Return images ``N x H x W x 3`` of uint8 as float32 ``N x 3 x H x W`` in [0, 1]."""
    # Channels stay last in memory, with which convolutions are quicker on a CPU.
    return torch.from_numpy(images.astype(np.float32) / np.float32(255)).permute(0, 3, 1, 2)
