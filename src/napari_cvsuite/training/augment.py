"""Random changes of training images that leave their class as it is."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["augment"]


def augment(
    x: Tensor, rng: np.random.Generator, shift: int = 0, turn: str = "none", colour: float = 0.0
) -> Tensor:
    """Shift, turn and recolour each image at random.

    Parameters
    ----------
    x : Tensor, shape (B, 3, S, S)
        In [0, 1].
    rng : numpy.random.Generator
    shift : int
        Largest shift in pixels; the border is mirrored into what comes free.
    turn : {"none", "mirror", "all"}
        Mirror left and right half of the images, or turn each in one of eight ways.
    colour : float
        Strength of changes of brightness, contrast and saturation, in [0, 1].

    Returns
    -------
    Tensor
        In [0, 1], of the same shape.
    """
    if shift:
        x = _shifted(x, rng, shift)
    if turn == "mirror":
        x = torch.where(_coins(rng, len(x)), x.flip(3), x)
    elif turn == "all":
        x = torch.where(_coins(rng, len(x)), x.flip(3), x)
        x = torch.where(_coins(rng, len(x)), x.flip(2), x)
        x = torch.where(_coins(rng, len(x)), x.transpose(2, 3), x)
    if colour:
        factors = rng.uniform(1 - 0.4 * colour, 1 + 0.4 * colour, (3, len(x), 1, 1, 1))
        bright, contrast, saturation = torch.from_numpy(factors.astype(np.float32))
        x = x * bright
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        x = (x - mean) * contrast + mean
        gray = x.mean(dim=1, keepdim=True)
        x = ((x - gray) * saturation + gray).clamp(0, 1)
    return x


def _coins(rng: np.random.Generator, count: int) -> Tensor:
    return torch.from_numpy(rng.random(count) < 0.5).view(-1, 1, 1, 1)


def _shifted(x: Tensor, rng: np.random.Generator, most: int) -> Tensor:
    side = x.shape[-1]
    most = min(most, side - 1)
    padded = F.pad(x, (most,) * 4, mode="reflect")
    out = torch.empty_like(x)
    for number, (top, left) in enumerate(rng.integers(0, 2 * most + 1, (len(x), 2))):
        out[number] = padded[number, :, top : top + side, left : left + side]
    return out
