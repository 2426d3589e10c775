"""Losses of image quality: batches against opinions, and order within a series.

Predictions and targets are tensors of one axis, one value an image.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["emd_loss", "nin_loss", "order_loss", "plcc_loss", "rank_loss"]

EPSILON = 1e-8


def _normalised(values: Tensor) -> Tensor:
    """Centre a batch and bring it to length 1."""
    centred = values - values.mean()
    return centred / centred.norm().clamp_min(EPSILON)


def nin_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Norm-in-norm with p = 1 and q = 2 (Li et al. 2020, as the recipe of TOPIQ uses it).

    Parameters
    ----------
    predicted, target : Tensor, shape (B,)
        With two images or more.

    Returns
    -------
    Tensor
        In [0, 1]; 0 where one is a growing linear function of the other.
    """
    difference = (_normalised(predicted) - _normalised(target)).abs().sum()
    return difference / (2 * len(predicted) ** 0.5)


def plcc_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return (1 - Pearson's correlation) / 2, in [0, 1]."""
    return (1 - (_normalised(predicted) * _normalised(target)).sum()) / 2


def rank_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean amount by which pairs of a batch are in the wrong order, over 1 + the largest."""
    sign = (target[:, None] - target).sign()
    wrong = (-sign * (predicted[:, None] - predicted)).clamp_min(0)
    return wrong.mean() / (1 + wrong.max().detach())


def emd_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Earth mover's distance with r = 2 between distributions over grades, shape (B, K)."""
    gap = predicted.cumsum(dim=1) - target.cumsum(dim=1)
    return (gap.square().mean(dim=1) + EPSILON**2).sqrt().mean()


def order_loss(scores: Tensor, levels: Tensor, margin: float) -> Tensor:
    """Mean amount by which steps of a series do not lower the score enough.

    Parameters
    ----------
    scores : Tensor, shape (N, L)
        N series of L images.
    levels : Tensor, shape (N, L)
        Strength of the distortion; higher is worse.
    margin : float
        By how much the score must fall for one level.

    Returns
    -------
    Tensor
        0 where every series falls by the margin; 0 for no series.
    """
    if not len(scores):
        return scores.sum()
    worse = levels[:, :, None] - levels[:, None, :]
    fall = scores[:, None, :] - scores[:, :, None]
    counted = worse > 0
    return (margin * worse - fall).clamp_min(0)[counted].sum() / counted.sum().clamp_min(1)
