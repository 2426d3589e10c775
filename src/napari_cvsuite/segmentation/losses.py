"""Losses of the QTSeg recipe (arXiv 2412.17241, section IV; released defaults).

Logits are ``B x K x H x W``; targets ``B x H x W`` int64 with classes ``0 .. max(K, 2) - 1``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "LOSSES",
    "binary_cross_entropy",
    "binary_dice",
    "categorical_dice",
    "combined",
    "cross_entropy",
    "focal",
]

EPSILON = 1e-6


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy over all pixels; targets of -100 are ignored."""
    return F.cross_entropy(logits, target, ignore_index=-100)


def _binary_probability(logits: Tensor) -> Tensor:
    if logits.shape[1] != 1:
        return logits.softmax(dim=1)[:, 1]
    plane = logits[:, 0]
    # The released recipe takes a single plane that lies in [0, 1] for probabilities already.
    already = bool(plane.min() >= 0) and bool(plane.max() <= 1)
    return plane if already else plane.sigmoid()


def _dice_loss(probability: Tensor, truth: Tensor) -> Tensor:
    """One minus soft Dice, over the last two axes."""
    overlap = (probability * truth).sum(dim=(-2, -1))
    total = probability.sum(dim=(-2, -1)) + truth.sum(dim=(-2, -1))
    return 1 - (2 * overlap + EPSILON) / (total + EPSILON)


def binary_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Dice loss of class 1, per image, averaged over the batch; ignored pixels left out."""
    valid = (target >= 0).to(logits.dtype)
    truth = (target == 1).to(logits.dtype)
    return _dice_loss(_binary_probability(logits) * valid, truth).mean()


def categorical_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Dice loss of every class including background: summed over classes, mean of images."""
    valid = (target >= 0)[:, None]
    one_hot = F.one_hot(target.clamp_min(0), logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    return _dice_loss(logits.softmax(dim=1) * valid, one_hot * valid).sum(dim=1).mean()


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy of a single sigmoid plane."""
    return F.binary_cross_entropy_with_logits(logits[:, 0], target.to(logits.dtype))


def focal(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Mean sigmoid focal loss of a single plane."""
    truth = target.to(logits.dtype)
    plane = logits[:, 0]
    p = plane.sigmoid()
    hit = p * truth + (1 - p) * (1 - truth)
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    entropy = F.binary_cross_entropy_with_logits(plane, truth, reduction="none")
    return (weight * (1 - hit) ** gamma * entropy).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "binary_dice": binary_dice,
    "categorical_dice": categorical_dice,
    "binary_cross_entropy": binary_cross_entropy,
    "focal": focal,
}


def combined(weights: Mapping[str, float]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the weighted sum of named losses.

    Raises
    ------
    KeyError
        A name is not in :data:`LOSSES`.
    """
    terms = [(LOSSES[name], weight) for name, weight in weights.items()]

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return torch.stack([weight * term(logits, target) for term, weight in terms]).sum()

    return loss
