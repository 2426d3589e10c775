"""Training data: pairs of image and mask files, and seeded random crops of them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

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


def group_weights(
    pairs: Sequence[Pair], table: Path, column: str, balance: float = 0.5
) -> NDArray[np.float64]:
    """Sampling weights that give rare groups more turns: ``size_of_group ** -balance``.

    Parameters
    ----------
    pairs, table, column
        See :func:`group_of`, also for the errors.
    balance : float
        0 shows every image equally often, 1 every group.
    """
    groups = group_of(pairs, table, column)
    size = Counter(groups)
    weights = np.array([size[group] ** -balance for group in groups])
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
        Zoom is drawn log-uniformly from ``scale / x`` to ``scale * x``.
    seed : int
    scale : float
        Pixels of a crop for each pixel of the image. Below 1 the images are shrunk once, by
        averaging, so that crops do not alias.
    """

    def __init__(
        self,
        images: Sequence[Array],
        masks: Sequence[NDArray[np.int64]],
        size: int,
        scale_range: float = 1.5,
        seed: int = 0,
        scale: float = 1.0,
    ) -> None:
        self.size, self.scale_range, self.seed = size, scale_range, seed
        self._zoom = max(scale, 1.0)
        self._images = [_planes(image, min(scale, 1.0), "area") for image in images]
        # float32 holds class indices exactly and is what the sampling of images needs.
        self._masks = [_planes(mask[..., None], min(scale, 1.0), "nearest-exact") for mask in masks]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def crop(self, epoch: int, turn: int, index: int) -> tuple[Array, NDArray[np.int64]]:
        """Return a crop of image `index`: 3 x size x size float32 and size x size int64."""
        rng = np.random.default_rng((self.seed, epoch, turn, index))
        image, mask = self._images[index], self._masks[index]
        grid = self._grid((mask.shape[2], mask.shape[3]), rng)
        planes = _sample(image, grid, "bilinear")[0].permute(1, 2, 0).numpy()
        label = _sample(mask, grid, "nearest")[0, 0].to(torch.int64).numpy()
        return np.ascontiguousarray(_intensity(planes, rng).transpose(2, 0, 1)), label

    def _grid(self, shape: tuple[int, int], rng: np.random.Generator) -> Tensor:
        """Return where each pixel of a crop lies in the image: 1 x size x size x (x, y)."""
        zoom = self._zoom * float(np.exp(rng.uniform(-1, 1) * np.log(self.scale_range)))
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
        centre = [rng.uniform(half, side - half) if side > 2 * half else side / 2 for side in shape]
        steps = np.arange(self.size) - (self.size - 1) / 2
        y, x = (
            centre[axis] + matrix[axis, 0] * steps[:, None] + matrix[axis, 1] * steps
            for axis in (0, 1)
        )
        grid = np.stack([2 * x / shape[1] - 1, 2 * y / shape[0] - 1], axis=-1)
        return torch.from_numpy(grid[None].astype(np.float32))


def _planes(array: NDArray[np.generic], scale: float, mode: str) -> Tensor:
    """Return H x W x C as 1 x C x H' x W' float32, shrunk by `scale`."""
    planes = torch.from_numpy(array.astype(np.float32).transpose(2, 0, 1))[None].contiguous()
    if scale == 1.0:
        return planes
    shape = [max(1, round(side * scale)) for side in planes.shape[2:]]
    return F.interpolate(planes, size=shape, mode=mode)


def _sample(planes: Tensor, grid: Tensor, mode: str) -> Tensor:
    return F.grid_sample(planes, grid, mode=mode, padding_mode="reflection", align_corners=False)


def _intensity(image: Array, rng: np.random.Generator) -> Array:
    """Contrast, brightness, gamma, inversion, grey, blur and noise, each now and then."""
    if rng.random() < 0.1:
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
