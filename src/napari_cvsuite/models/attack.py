"""Projected gradient descent (Madry et al., arXiv 1706.06083): does a small change mislead?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.jobs.context import Context

__all__ = ["NORMS", "Attack", "pgd", "pgd_step", "suggested_eps"]

NORMS = ("l2", "linf")


@dataclass(frozen=True)
class Attack:
    """Outcome of an attack on B images.

    Parameters
    ----------
    images : Tensor, shape (B, 3, H, W)
        Of all iterates, the first of largest loss; an image that no step made worse stays itself.
    last : Tensor, shape (B, 3, H, W)
        The last iterate.
    loss : Tensor, shape (steps + 1, B)
        Cross-entropy of every iterate, the image itself first.
    predictions : Tensor of int64, shape (steps + 1, B)
        Class of every iterate.
    best : Tensor of int64, shape (B,)
        Which iterate `images` are.
    """

    images: Tensor
    last: Tensor
    loss: Tensor
    predictions: Tensor
    best: Tensor


def suggested_eps(height: int, width: int) -> float:
    """Return an L2 radius for RGB images of a size: 3 for 224 x 224 (definition of this project).

    It grows with the square root of the number of values, ``0.008 sqrt(3 H W)``.
    """
    return 0.008 * math.sqrt(3 * height * width)


def pgd_step(x0: Tensor, x: Tensor, gradient: Tensor, norm: str, eps: float, step: float) -> Tensor:
    """Move up the gradient, back into the ball around `x0`, then into [0, 1].

    Parameters
    ----------
    x0, x, gradient : Tensor, shape (B, 3, H, W)
        Image, iterate, and the gradient of the loss there. Zero moves nothing.
    norm : {"l2", "linf"}
        The step goes along the gradient over its length, or along its sign.
    eps, step : float
        Radius of the ball, and length of the step.
    """
    if norm == "linf":
        moved = x + step * gradient.sign() - x0
        return (x0 + moved.clamp(-eps, eps)).clamp(0, 1)
    # Squares of the gradients of a confident network leave the range of float32.
    largest = gradient.abs().amax((1, 2, 3), keepdim=True)
    scaled = gradient / torch.where(largest > 0, largest, 1)
    length = scaled.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    moved = x + step * scaled / length.clamp_min(1) - x0
    far = moved.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    return (x0 + moved * (eps / far.clamp_min(1e-30)).clamp_max(1)).clamp(0, 1)


def pgd(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: str,
    eps: float,
    step: float,
    steps: int,
    context: Context,
) -> Attack:
    """Look for images within a radius whose cross-entropy is largest, from the images themselves.

    Parameters
    ----------
    network : nn.Module
        In eval mode; maps ``B x 3 x H x W`` in [0, 1] to logits.
    images : Tensor, shape (B, 3, H, W)
        In [0, 1].
    labels : Tensor of int64, shape (B,)
        Classes to lead away from.
    norm : {"l2", "linf"}
    eps, step : float
        See :func:`pgd_step`.
    steps : int
    context : Context
        Told before every step, and asked whether to go on.

    Raises
    ------
    ValueError
        The norm is unknown, or a radius, a step or their number is negative or no number.
    Cancelled
        The context says so.
    """
    if norm not in NORMS:
        raise ValueError(f"the norm of an attack is one of {', '.join(NORMS)}; got {norm!r}")
    if not (eps >= 0 and step >= 0 and steps >= 0 and math.isfinite(eps) and math.isfinite(step)):
        raise ValueError(
            f"an attack needs a radius, step and number of steps of 0 or more; got {eps}, {step} "
            f"and {steps}"
        )
    x, best = images.detach(), images.detach().clone()
    losses: list[Tensor] = []
    predictions: list[Tensor] = []
    largest = torch.full((len(x),), -math.inf, dtype=x.dtype, device=x.device)
    which = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for number in range(steps + 1):
        context.progress(number, steps + 1, "attack")
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = network(x)
            loss = F.cross_entropy(logits, labels, reduction="none")
            gradient = torch.autograd.grad(loss.sum(), x)[0]
        losses.append(loss.detach())
        predictions.append(logits.argmax(dim=1).detach())
        better = losses[-1] > largest
        best[better], which[better], largest[better] = (
            x.detach()[better],
            number,
            losses[-1][better],
        )
        if number < steps:
            x = pgd_step(images, x.detach(), gradient, norm, eps, step)
    return Attack(
        best, x.detach(), torch.stack(losses), torch.stack(predictions).cpu(), which.cpu()
    )
