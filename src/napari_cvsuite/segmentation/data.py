"""Training data: pairs of image and mask files, and seeded random crops of them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_cvsuite.images import finite_range, minmax, read, to_three_channels

__all__ = [
    "IGNORE",
    "CropDataset",
    "Pair",
    "find_pairs",
    "group_of",
    "group_weights",
    "load_image",
    "load_mask",
]

IGNORE = -100
"""Target value of pixels that no loss and no metric counts."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """One training example on disk."""

    name: str
    image: Path
    mask: Path


def find_pairs(images: Path, masks: Path, names: Sequence[str] | None = None) -> list[Pair]:
    """Match the files of two folders by stem.

    Parameters
    ----------
    images, masks : Path
        Folders; masks without an image and images without a mask are left out.
    names : sequence of str, optional
        Stems to use; default all.

    Raises
    ------
    ValueError
        A folder is missing, or no pair was found, or a wanted name has none.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder; give the folder with the files")
    mask_of = {p.stem: p for p in sorted(masks.iterdir()) if p.is_file()}
    image_of = {p.stem: p for p in sorted(images.iterdir()) if p.is_file()}
    wanted = sorted(mask_of.keys() & image_of.keys()) if names is None else list(names)
    missing = [n for n in wanted if n not in mask_of or n not in image_of]
    if missing:
        raise ValueError(f"no image and mask called {missing[0]!r} ({len(missing)} missing in all)")
    if not wanted:
        raise ValueError(f"no file in {images} has a mask of the same name in {masks}")
    return [Pair(n, image_of[n], mask_of[n]) for n in wanted]


def group_of(pairs: Sequence[Pair], table: Path, column: str) -> list[str]:
    """Return the group of every pair from a CSV file.

    Parameters
    ----------
    table : Path
        CSV file whose first column holds the names (stems) of the pairs.
    column : str
        Column with the group.

    Raises
    ------
    ValueError
        The column is missing, or a pair has no row.
    """
    with table.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    if not rows or column not in rows[0]:
        raise ValueError(f"{table} has no column {column!r}")
    first = next(iter(rows[0]))
    known = {Path(row[first]).stem: row[column] for row in rows}
    try:
        return [known[pair.name] for pair in pairs]
    except KeyError as error:
        raise ValueError(f"{table} has no row for {error.args[0]!r}") from error


def group_weights(pairs: Sequence[Pair], table: Path, column: str) -> NDArray[np.float64]:
    """Sampling weights that give rare groups more turns: 1 / sqrt(size of the group).

    See :func:`group_of` for the parameters and errors.
    """
    groups = group_of(pairs, table, column)
    size = Counter(groups)
    weights = np.array([size[group] ** -0.5 for group in groups])
    return weights / weights.sum()


def load_image(path: Path) -> Array:
    """Read a 2D image as H x W x 3 float32 in [-1, 1] (min-max over the whole image)."""
    image = read(path)
    plane = to_three_channels(image.plane({axis: 0 for axis in image.stack_axes}))
    return minmax(plane, *finite_range(plane))


def load_mask(path: Path, classes: int, ignore: int = -1) -> NDArray[np.int64]:
    """Read a mask as H x W int64 class indices.

    For two classes any value above half of the maximum is foreground (so 0/1 and 0/255 both
    work); for more, values are the classes themselves and `ignore` becomes :data:`IGNORE`.

    Raises
    ------
    ValueError
        A value lies outside ``0 .. classes - 1``.
    """
    image = read(path)
    data = np.asarray(image.plane({axis: 0 for axis in image.stack_axes}))
    mask = (data[..., 0] if data.ndim == 3 else data).astype(np.int64)
    void = mask == ignore
    if classes == 2:
        top = int(mask.max(initial=0))
        mask = (2 * mask > top).astype(np.int64) if top else mask
    mask[void] = IGNORE
    if mask.max(initial=0) >= classes or (mask[~void].min(initial=0)) < 0:
        raise ValueError(
            f"{path.name} holds class {int(mask.max())}, but only 0 to {classes - 1} are allowed; "
            "raise the number of classes or remap the mask"
        )
    return mask


class CropDataset:
    """Random augmented crops, a function of (seed, epoch, index) alone, so runs can resume.

    Parameters
    ----------
    images : sequence of ndarray, each H x W x 3 float32 in [-1, 1]
    masks : sequence of ndarray, each H x W int64
    size : int
        Side of the square crops in pixels.
    scale_range : float
        Zoom is drawn log-uniformly from ``1/x`` to ``x``.
    seed : int
    """

    def __init__(
        self,
        images: Sequence[Array],
        masks: Sequence[NDArray[np.int64]],
        size: int,
        scale_range: float = 1.5,
        seed: int = 0,
    ) -> None:
        self.images, self.masks = images, masks
        self.size, self.scale_range, self.seed = size, scale_range, seed

    def crop(self, epoch: int, turn: int, index: int) -> tuple[Array, NDArray[np.int64]]:
        """Return a crop of image `index`: 3 x size x size float32 and size x size int64."""
        rng = np.random.default_rng((self.seed, epoch, turn, index))
        image, mask = self._geometry(self.images[index], self.masks[index], rng)
        return np.ascontiguousarray(_intensity(image, rng).transpose(2, 0, 1)), mask

    def _geometry(
        self, image: Array, mask: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[Array, NDArray[np.int64]]:
        zoom = float(np.exp(rng.uniform(-1, 1) * np.log(self.scale_range)))
        angle = float(rng.uniform(-np.pi, np.pi)) if rng.random() < 0.3 else 0.0
        shear = float(rng.uniform(-0.2, 0.2)) if angle else 0.0
        flip = np.diag(rng.choice([-1.0, 1.0], 2))
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1.0, shear], [0.0, 1.0]])
        matrix = flip @ turn / zoom
        if rng.random() < 0.5:
            matrix = matrix @ np.array([[0.0, 1.0], [1.0, 0.0]])
        # The centre is drawn so that the crop stays inside where the image is large enough.
        half = 0.5 * self.size / zoom
        centre = [
            rng.uniform(half, side - half) if side > 2 * half else side / 2 for side in mask.shape
        ]
        offset = np.array(centre) - 0.5 - matrix @ np.full(2, (self.size - 1) / 2)
        shape = (self.size, self.size)
        label = ndimage.affine_transform(mask, matrix, offset, shape, order=0, mode="mirror")
        planes = [
            ndimage.affine_transform(image[..., c], matrix, offset, shape, order=1, mode="mirror")
            for c in range(image.shape[2])
        ]
        return np.stack(planes, axis=-1), label


def _intensity(image: Array, rng: np.random.Generator) -> Array:
    """Contrast, brightness, gamma, inversion, grey, blur and noise, each now and then."""
    if rng.random() < 0.15:
        image = -image
    if rng.random() < 0.2:
        image = np.repeat(image.mean(axis=-1, keepdims=True), image.shape[-1], axis=-1)
    elif rng.random() < 0.2:
        image = image[..., rng.permutation(image.shape[-1])]
    if rng.random() < 0.4:
        image = 2 * np.clip((image + 1) / 2, 0, 1) ** np.exp(rng.uniform(-0.6, 0.6)) - 1
    if rng.random() < 0.4:
        image = image * rng.uniform(0.5, 1.5) + rng.uniform(-0.2, 0.2)
    if rng.random() < 0.15:
        image = ndimage.gaussian_filter(image, (rng.uniform(0.3, 1.2),) * 2 + (0,))
    if rng.random() < 0.25:
        noise = rng.normal(0, rng.uniform(0.005, 0.06), image.shape)
        image = image + noise.astype(np.float32)
    return np.clip(image, -1, 1).astype(np.float32)
