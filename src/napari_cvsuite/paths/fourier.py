"""Frequencies of what paths write over the patches (protocol of Park and Kim, arXiv 2202.06709).

Whether arXiv 2308.06548 measures frequencies this way is not known to us.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_cvsuite.paths.decompose import Paths
from napari_cvsuite.paths.exact import exact
from napari_cvsuite.paths.reading import checked

__all__ = ["Change", "fourier", "fourier_curve", "fourier_sum", "frequency_change"]

TOLERANCE = 0.01
"""Changes of log amplitude below this are called none: 1 %."""


@dataclass(frozen=True, eq=False, repr=False)
class Change:
    """What some paths do to the frequencies of the sum.

    Parameters
    ----------
    by_frequency : Tensor, shape (F,)
        Log amplitude relative to DC of the sum minus that of the sum without the paths.
    highest : float
        Its last entry: at the highest frequency.
    upper_half : float
        Its mean over the upper half of the frequencies, by which `effect` is chosen.
    effect : {"raise", "lower", "leave"}
        Whether the paths raise high frequencies relative to DC (work as a high-pass filter), lower
        them (low-pass), or leave them as they are.
    """

    by_frequency: Tensor
    highest: float
    upper_half: float
    effect: str

    @property
    def sentence(self) -> str:
        """The same in words."""
        times = math.exp(self.upper_half)
        numbers = f"{self.upper_half:+.2f} in log amplitude, a factor of {times:.2f}"
        if self.effect == "leave":
            return f"These paths leave high frequencies as they are ({numbers})."
        kind = {"raise": "high-pass", "lower": "low-pass"}[self.effect]
        return (
            f"These paths {self.effect} high frequencies against the mean of the image "
            f"({numbers}): they work as a {kind} filter."
        )


@exact()
def fourier(model: nn.Module, paths: Paths) -> Tensor:
    """Return the frequency curve of every path, ``P x ceil(h/2)``; see :func:`fourier_curve`."""
    prefix = checked(model).config.prefix
    return torch.stack([fourier_curve(write[:, prefix:]) for write in paths.writes])


@exact()
def fourier_sum(model: nn.Module, paths: Paths, without: Collection[int] = ()) -> Tensor:
    """Return the frequency curve of the final sum, some paths left out, ``ceil(h/2)``.

    Raises
    ------
    ValueError
        There is no such path, or none is left.
    """
    config = checked(model).config
    unknown = set(without) - set(range(config.num_paths))
    if unknown:
        raise ValueError(
            f"there is no path {min(unknown)}; choose from 0 to {config.num_paths - 1}"
        )
    kept = [write for number, write in enumerate(paths.writes) if number not in set(without)]
    if not kept:
        raise ValueError("leave at least one path in the sum")
    summed = torch.stack([write[:, config.prefix :] for write in kept]).sum(dim=0)
    return fourier_curve(summed if without else paths.final[:, config.prefix :])


def fourier_curve(tokens: Tensor) -> Tensor:
    """Return log amplitudes along the half diagonal of the spectrum, relative to DC.

    Parameters
    ----------
    tokens : Tensor, shape (B, N, D)
        Patch tokens of a square grid with h patches along a side.

    Returns
    -------
    Tensor, shape (ceil(h / 2),)
        Mean over images and channels of ``log(|fft2| + 1e-6)``. The first entry, DC, is 0; the
        last is the highest diagonal frequency, without the Nyquist frequency of an even h. Means
        over batches of equal size are those over all images; one image alone is noisy.

    Raises
    ------
    ValueError
        The patches make no square.
    """
    side = math.isqrt(tokens.shape[1])
    if side * side != tokens.shape[1] or not side:
        raise ValueError(
            f"frequencies need a square grid of patches; {tokens.shape[1]} patches make none"
        )
    maps = tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
    amplitude = (torch.fft.fft2(maps).abs() + 1e-6).log()
    centred = amplitude.roll((side // 2, side // 2), dims=(2, 3)).mean(dim=(0, 1))
    half = centred.diagonal()[side // 2 :]
    return half - half[0]


def frequency_change(whole: Tensor, without: Tensor) -> Change:
    """Say what some paths do to high frequencies.

    Parameters
    ----------
    whole : Tensor, shape (F,)
        Curve of the sum, from :func:`fourier_sum`.
    without : Tensor, shape (F,)
        Curve of the sum without these paths.

    Raises
    ------
    ValueError
        The curves do not belong together, or know one frequency only.
    """
    if whole.ndim != 1 or whole.shape != without.shape or len(whole) < 2:
        raise ValueError("give two curves of the same length with at least two frequencies")
    change = whole - without
    upper = float(change[max(1, len(change) // 2) :].mean())
    effect = "leave" if abs(upper) <= TOLERANCE else "raise" if upper > 0 else "lower"
    return Change(change, float(change[-1]), upper, effect)
