"""Distorted copies that take away texture, shape or detail, to see what a network relies on.

Images are float tensors ``B x 3 x H x W`` in [0, 1], on any device; so are the copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import canny
from skimage.filters import threshold_otsu
from torch import Tensor

__all__ = [
    "CONTROLS",
    "Control",
    "CorruptionError",
    "black_and_white",
    "blur",
    "corruption_error",
    "distorted",
    "edges",
    "gaussian_noise",
    "grey",
    "scramble",
    "silhouette",
]

SEED = 212
"""Of the permutation of tiles in the released code of Chen et al. 2020."""
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Control:
    """One way to distort images.

    Parameters
    ----------
    name : str
    tag : {"paper", "secondary", "ours"}
        Whether the definition is in Chen et al. 2020, in their released code, or this project's.
    help : str
    levels : tuple of float
        What is offered, mildest first; empty if there is nothing to choose.
    function : callable
        (images, or masks if `of_mask`; level; number of the first image) -> distorted copies.
    of_mask : bool
        Whether it is made from masks instead of images.
    """

    name: str
    tag: str
    help: str
    levels: tuple[float, ...]
    function: Callable[[Tensor, float, int], Tensor]
    of_mask: bool = False


def distorted(
    images: Tensor,
    name: str,
    level: float | None = None,
    masks: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """Return distorted copies.

    Parameters
    ----------
    images : Tensor of float, shape (B, 3, H, W)
        In [0, 1].
    name : str
        One of :data:`CONTROLS`.
    level : float, optional
        Left out, the mildest that is offered.
    masks : Tensor, shape (B, H, W), optional
        Nonzero where the object is; silhouettes need it.
    first : int
        Number of the first image, so that batches get what all images at once would get.

    Raises
    ------
    ValueError
        The images, name, level or masks cannot be used; the message says what to do.
    """
    if name not in CONTROLS:
        raise ValueError(f"there is no distortion {name!r}; use one of {', '.join(CONTROLS)}")
    _check(images)
    control = CONTROLS[name]
    source = images
    if control.of_mask:
        if masks is None or masks.shape != (len(images), *images.shape[2:]):
            raise ValueError(f"a {name} needs a mask of each image's size, such as a Labels layer")
        source = masks.to(images.device)
    chosen = next(iter(control.levels), 0.0) if level is None else level
    return control.function(source, chosen, first).to(images.dtype)


def scramble(images: Tensor, tiles: int, seed: int = SEED) -> Tensor:
    """Cut images into tiles and put these in another order, the same for all.

    Slot k, row by row, shows tile ``RandomState(seed).permutation(tiles ** 2)[k]`` (released code
    of Chen et al. 2020). Of a side that `tiles` does not divide, the largest part in the middle
    that it divides is used, so that the copy is up to ``tiles - 1`` pixels smaller.

    Parameters
    ----------
    images : Tensor of float, shape (B, 3, H, W)
    tiles : int
        Along each side; 2, 4 and 8 are usual.
    seed : int

    Returns
    -------
    Tensor, shape (B, 3, tiles * (H // tiles), tiles * (W // tiles))

    Raises
    ------
    ValueError
        A side has fewer pixels than tiles.
    """
    _check(images)
    if not 1 <= tiles <= min(images.shape[2:]):
        raise ValueError(
            f"images of {images.shape[2]} x {images.shape[3]} pixels cannot be cut into {tiles} x "
            f"{tiles} tiles; take 1 to {min(images.shape[2:])}"
        )
    height, width = (side // tiles for side in images.shape[2:])
    top, left = ((side % tiles) // 2 for side in images.shape[2:])
    middle = images[:, :, top : top + tiles * height, left : left + tiles * width]
    # The old generator, since the order is part of the definition.
    order = np.random.RandomState(seed).permutation(tiles * tiles)
    cut = middle.reshape(-1, 3, tiles, height, tiles, width).transpose(3, 4)
    slots = cut.flatten(2, 3)[:, :, torch.from_numpy(order).to(images.device)]
    grid = slots.view(-1, 3, tiles, tiles, height, width).transpose(3, 4)
    return grid.reshape(middle.shape)


def grey(images: Tensor) -> Tensor:
    """Return luma by ITU-R Rec. 601 (definition of this project), the same in all channels.

    Parameters
    ----------
    images : Tensor of float, shape (B, 3, H, W)
    """
    return _luma(images)[:, None].repeat(1, 3, 1, 1)


def edges(images: Tensor) -> Tensor:
    """Return Canny's edges of the grey image, white on black (released code of Chen et al. 2020).

    Sigma 0.4, thresholds 0.35 and 0.9, by scikit-image.

    Parameters
    ----------
    images : Tensor of float, shape (B, 3, H, W)
    """
    return _of_planes(images, lambda p: canny(p, sigma=0.4, low_threshold=0.35, high_threshold=0.9))


def black_and_white(images: Tensor) -> Tensor:
    """Return white where the grey image is above Otsu's threshold, else black.

    A uniform image becomes black. The contours in the figure of Chen et al. 2020 look like this;
    the threshold is a definition of this project.

    Parameters
    ----------
    images : Tensor of float, shape (B, 3, H, W)
    """
    return _of_planes(images, lambda plane: plane > threshold_otsu(plane))


def silhouette(masks: Tensor) -> Tensor:
    """Return objects in white on black (definition of this project).

    Parameters
    ----------
    masks : Tensor of bool or int, shape (B, H, W)
        Nonzero where the object is.

    Returns
    -------
    Tensor of float32, shape (B, 3, H, W)

    Raises
    ------
    ValueError
        The shape is another.
    """
    if masks.ndim != 3:
        raise ValueError(f"masks must have the shape B x H x W; got {tuple(masks.shape)}")
    return (masks != 0)[:, None].repeat(1, 3, 1, 1).float()


def gaussian_noise(images: Tensor, sigma: float, seed: int = 0) -> Tensor:
    """Return ``clamp(image + sigma n)`` with normal noise (definition of this project).

    Image i of the batch is drawn with the seed ``seed + i``, so that batches get what all images
    at once would get.

    Parameters
    ----------
    images : Tensor of float, shape (B, 3, H, W)
    sigma : float
        Deviation in units of [0, 1].
    seed : int

    Raises
    ------
    ValueError
        Sigma is negative or no number.
    """
    _check(images)
    _check_sigma(sigma)
    # Drawn on the CPU in one format: the numbers are the same whatever the device and type.
    noise = [
        torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed + number))
        for number in range(len(images))
    ]
    return (images + sigma * torch.stack(noise).to(images)).clamp(0, 1)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Return images blurred by a Gaussian, mirrored at the border (definition of this project).

    Parameters
    ----------
    images : Tensor of float, shape (B, 3, H, W)
    sigma : float
        In pixels.

    Raises
    ------
    ValueError
        Sigma is negative or no number.
    """
    _check(images)
    _check_sigma(sigma)
    smooth = ndimage.gaussian_filter(images.cpu().numpy(), (0, 0, sigma, sigma), mode="reflect")
    return torch.from_numpy(smooth).to(images).clamp(0, 1)


def _check(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or images.numel() == 0:
        raise ValueError(
            f"images must have the shape B x 3 x H x W, with one image or more; got "
            f"{tuple(images.shape)}"
        )
    # Written so that NaN fails as well.
    if not (images.is_floating_point() and float(images.min()) >= 0 and float(images.max()) <= 1):
        raise ValueError("images must be floats in [0, 1], without NaN; scale them first")


def _check_sigma(sigma: float) -> None:
    if not 0 <= sigma < math.inf:
        raise ValueError(f"sigma must be 0 or more; got {sigma}")


def _whole(level: float) -> int:
    if not float(level).is_integer():
        raise ValueError(f"tiles are counted in whole numbers; got {level}")
    return int(level)


def _luma(images: Tensor) -> Tensor:
    _check(images)
    weights = torch.tensor(_LUMA, dtype=images.dtype, device=images.device).view(3, 1, 1)
    return (images * weights).sum(1).clamp(0, 1)


def _of_planes(
    images: Tensor, function: Callable[[NDArray[np.floating]], NDArray[np.bool_]]
) -> Tensor:
    planes = _luma(images).cpu().numpy()
    marked = torch.from_numpy(np.stack([function(plane) for plane in planes]))
    return silhouette(marked).to(images)


CONTROLS: Mapping[str, Control] = MappingProxyType(
    {
        one.name: one
        for one in (
            Control(
                "scrambled",
                "secondary",
                "Tiles in another order: local texture stays, the global shape goes.",
                (2, 4, 8),
                lambda images, level, first: scramble(images, _whole(level)),
            ),
            Control(
                "edges",
                "secondary",
                "Canny's edges, white on black: shape without texture.",
                (),
                lambda images, level, first: edges(images),
            ),
            Control(
                "black and white",
                "ours",
                "Thresholded by Otsu's method: coarse shape without shades.",
                (),
                lambda images, level, first: black_and_white(images),
            ),
            Control(
                "silhouette",
                "ours",
                "The object in white on black, from a mask.",
                (),
                lambda masks, level, first: silhouette(masks),
                of_mask=True,
            ),
            Control(
                "noise",
                "ours",
                "Gaussian noise of this deviation, in units of [0, 1].",
                (0.05, 0.1, 0.2),
                lambda images, level, first: gaussian_noise(images, level, seed=first),
            ),
            Control(
                "blur",
                "ours",
                "Blurred by a Gaussian of this sigma in pixels: fine texture goes.",
                (1, 2, 4),
                lambda images, level, first: blur(images, level),
            ),
            Control(
                "grey",
                "ours",
                "Without colour (Rec. 601).",
                (),
                lambda images, level, first: grey(images),
            ),
        )
    }
)
"""Distortions by name."""


@dataclass(frozen=True)
class CorruptionError:
    """Errors under corruptions, as multiples of a baseline's.

    Parameters
    ----------
    each : mapping of str to float
        CE: the sum of errors over all severities, over the baseline's sum.
    mean : float
        mCE: their mean; 1 is as good as the baseline.
    """

    each: Mapping[str, float]
    mean: float


def corruption_error(
    errors: Mapping[str, Sequence[float]], baseline_errors: Mapping[str, Sequence[float]]
) -> CorruptionError:
    """Weigh errors under corruptions (Hendrycks and Dietterich 2019, arXiv 1903.12261).

    Parameters
    ----------
    errors : mapping of str to sequence of float
        Share of wrong images for every severity of every corruption.
    baseline_errors : mapping of str to sequence of float
        Those of the baseline, AlexNet in the publication, in the same unit.

    Raises
    ------
    ValueError
        Corruptions or severities differ, an error is negative or no number, or the baseline makes
        no error.
    """
    if not errors or errors.keys() != baseline_errors.keys():
        raise ValueError(
            f"both networks need the same corruptions, one or more; got {sorted(errors)} and "
            f"{sorted(baseline_errors)}"
        )
    each = {}
    for name, found in errors.items():
        base = baseline_errors[name]
        if len(found) != len(base):
            raise ValueError(
                f"both networks need the same severities of {name}; got {len(found)} and "
                f"{len(base)}"
            )
        if not all(0 <= one < math.inf for one in (*found, *base)):
            raise ValueError(f"errors are numbers of 0 or more; see those of {name}")
        if sum(base) == 0:
            raise ValueError(f"the baseline makes no error under {name}; leave that out")
        each[name] = sum(found) / sum(base)
    return CorruptionError(each, sum(each.values()) / len(each))
