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

from napari_cvsuite.images import (
    Image,
    ImageError,
    finite_range,
    minmax,
    read,
    to_three_channels,
)
from napari_cvsuite.images.readers import READERS

__all__ = [
    "IGNORE",
    "CropDataset",
    "Pair",
    "find_pairs",
    "group_of",
    "group_weights",
    "load_image",
    "load_mask",
    "load_pair",
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
        Folders; masks without an image and images without a mask are left out, as are files
        that are no images.
    names : sequence of str, optional
        Stems to use; default all.

    Raises
    ------
    ValueError
        A folder is missing, or no pair was found, or a wanted name has none, or has two.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder; give the folder with the files")
    mask_of, image_of = _by_stem(masks), _by_stem(images)
    wanted = sorted(mask_of.keys() & image_of.keys()) if names is None else list(names)
    missing = [n for n in wanted if n not in mask_of or n not in image_of]
    if missing:
        raise ValueError(
            f"no image and mask called {missing[0]!r} ({len(missing)} missing in all); "
            "give names without suffix of files that lie in both folders"
        )
    if not wanted:
        raise ValueError(
            f"no image in {images} has a mask of the same name in {masks}; name a.png's mask a.png"
        )
    return [Pair(n, image_of[n], mask_of[n]) for n in wanted]


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in READERS or path.name.startswith("."):
            continue
        if found.setdefault(path.stem, path) != path:
            raise ValueError(
                f"{folder} holds both {found[path.stem].name} and {path.name}; keep one of them"
            )
    return found


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
    try:
        with table.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{table} cannot be read ({error}); check its name and folder") from error
    if not rows or column not in rows[0]:
        raise ValueError(f"{table} has no column {column!r}; write FILE.csv:column")
    first = next(iter(rows[0]))
    known = {Path(row[first]).stem: row[column] for row in rows}
    try:
        return [known[pair.name] for pair in pairs]
    except KeyError as error:
        raise ValueError(f"{table} has no row for {error.args[0]!r}; add it") from error


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


def load_pair(pair: Pair, classes: int, ignore: int = -1) -> tuple[Array, NDArray[np.int64]]:
    """Read an example; see :func:`load_image` and :func:`load_mask`.

    Raises
    ------
    ValueError
        Image and mask differ in size, or one of them cannot be used.
    """
    image, mask = load_image(pair.image), load_mask(pair.mask, classes, ignore)
    if image.shape[:2] != mask.shape:
        raise ValueError(
            f"{pair.image.name} is {image.shape[:2]} pixels but its mask is {mask.shape}; "
            "both must have the same height and width"
        )
    return image, mask


def load_image(path: Path) -> Array:
    """Read a 2D image as H x W x 3 float32 in [-1, 1] (min-max over the whole image).

    Raises
    ------
    ImageError
        The file cannot be read, or holds a stack or too many channels.
    """
    try:
        plane = to_three_channels(_only_plane(read(path)))
    except ImageError as error:
        raise _named(path, error) from error
    return minmax(plane, *finite_range(plane))


def load_mask(path: Path, classes: int, ignore: int = -1) -> NDArray[np.int64]:
    """Read a mask as H x W int64 class indices.

    Two classes may be written as 0 and any other value, such as 1 or 255; where compression or
    scaling left values in between, those above half of the largest are foreground. For more
    classes, values are the classes themselves. `ignore` becomes :data:`IGNORE`.

    Raises
    ------
    ImageError
        The file cannot be read, or holds a stack, several channels or fractions.
    ValueError
        A value lies outside ``0 .. classes - 1``.
    """
    try:
        mask = _indices(_only_plane(read(path)))
    except ImageError as error:
        raise _named(path, error) from error
    void = mask == ignore
    counted = mask[~void]
    if counted.min(initial=0) < 0:
        raise ValueError(f"{path.name} holds negative classes; save the mask with 0 and above")
    if classes == 2 and counted.size:
        mask = (2 * mask > _foreground(counted, path)).astype(np.int64)
    elif counted.max(initial=0) >= classes:
        raise ValueError(
            f"{path.name} holds class {int(counted.max())}, but only 0 to {classes - 1} are "
            "allowed; raise the number of classes or remap the mask"
        )
    mask[void] = IGNORE
    return mask


def _named(path: Path, error: ImageError) -> ImageError:
    text = str(error)
    return ImageError(text if path.name in text else f"{path.name}: {text}")


def _only_plane(image: Image) -> NDArray[np.generic]:
    """Return the plane of a 2D image; one of many must not stand for all of them in silence."""
    if image.n_planes > 1:
        raise ImageError(
            f"it is a stack of {image.n_planes} planes (axes {image.axes}), but training takes "
            "2D images; save each plane as a file of its own"
        )
    return image.plane({axis: 0 for axis in image.stack_axes})


def _indices(plane: NDArray[np.generic]) -> NDArray[np.int64]:
    if plane.ndim == 3:
        colours = plane[..., :-1] if plane.shape[-1] in (2, 4) else plane
        if (colours != colours[..., :1]).any():
            raise ImageError("the mask is coloured; save it as gray values, one for each class")
        plane = colours[..., 0]
    values = plane.astype(np.float64)
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        raise ImageError("the mask holds fractions or NaN; save it as whole numbers")
    return values.astype(np.int64)


def _foreground(values: NDArray[np.int64], path: Path) -> int:
    """Return the value that stands for the foreground of a mask of two classes; 1 if none does."""
    top = max(int(values.max()), 1)
    marked = values[values > 0.1 * top]
    gray = top >= 100 and np.mean(marked >= 0.9 * top) > 0.5
    if len(np.unique(values[values > 0])) > 1 and not gray:
        raise ValueError(
            f"{path.name} holds class values up to {top}, but only two classes are allowed; raise "
            "the number of classes, or remap the mask to 0 and 1"
        )
    return top


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
    augment : float
        Strength of the changes of intensity and colour, from 0 (none) to 1.
    orientation : {"any", "upright"}
        Turn and flip crops in any way, or mirror left and right and tilt by up to 15 degrees.
    """

    def __init__(
        self,
        images: Sequence[Array],
        masks: Sequence[NDArray[np.int64]],
        size: int,
        scale_range: float = 1.5,
        seed: int = 0,
        scale: float = 1.0,
        augment: float = 1.0,
        orientation: str = "any",
    ) -> None:
        self.augment = augment
        self._upright = orientation == "upright"
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
        return np.ascontiguousarray(_intensity(planes, rng, self.augment).transpose(2, 0, 1)), label

    def _grid(self, shape: tuple[int, int], rng: np.random.Generator) -> Tensor:
        """Return where each pixel of a crop lies in the image: 1 x size x size x (x, y)."""
        zoom = self._zoom * float(np.exp(rng.uniform(-1, 1) * np.log(self.scale_range)))
        turn_by = np.pi / 12 if self._upright else np.pi
        angle = float(rng.uniform(-turn_by, turn_by)) if rng.random() < 0.3 else 0.0
        shear = float(rng.uniform(-0.2, 0.2)) if angle else 0.0
        flip = np.diag(rng.choice([-1.0, 1.0], 2))
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1.0, shear], [0.0, 1.0]])
        if self._upright:
            flip[0, 0] = 1.0
        matrix = flip @ turn / zoom
        if not self._upright and rng.random() < 0.5:
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


def _intensity(image: Array, rng: np.random.Generator, strength: float) -> Array:
    """Contrast, brightness, gamma, inversion, grey, blur and noise, each now and then."""
    if rng.random() < 0.1 * strength:
        image = -image
    if rng.random() < 0.2 * strength:
        image = np.repeat(image.mean(axis=-1, keepdims=True), image.shape[-1], axis=-1)
    elif rng.random() < 0.2 * strength:
        image = image[..., rng.permutation(image.shape[-1])]
    if rng.random() < 0.4:
        gamma = np.exp(strength * rng.uniform(-0.6, 0.6))
        image = 2 * np.clip((image + 1) / 2, 0, 1) ** gamma - 1
    if rng.random() < 0.4:
        contrast, brightness = rng.uniform(-0.5, 0.5), rng.uniform(-0.2, 0.2)
        image = image * (1 + strength * contrast) + strength * brightness
    if rng.random() < 0.15 * strength:
        image = ndimage.gaussian_filter(image, (rng.uniform(0.3, 1.2),) * 2 + (0,))
    if rng.random() < 0.25 * strength:
        noise = rng.normal(0, rng.uniform(0.005, 0.06), image.shape)
        image = image + noise.astype(np.float32)
    return np.clip(image, -1, 1).astype(np.float32)
