"""Maps by gradients: plain, smoothed, integrated, and with rectified signals."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.relu import separate_relus
from napari_cvsuite.neurons.target import Scores, Target

__all__ = [
    "completed_integrated_gradients",
    "completeness_gap",
    "gradient",
    "integrated_gradients",
    "rectified",
    "smoothgrad",
]


def gradient(scores: nn.Module, images: Tensor) -> Tensor:
    """Return the gradient of each image's score by its pixels.

    Parameters
    ----------
    scores : nn.Module
        Maps ``B x 3 x H x W`` to ``B``, each image by itself; see
        :class:`~napari_cvsuite.neurons.target.Scores`.
    images : Tensor, shape (B, 3, H, W)

    Returns
    -------
    Tensor, shape (B, 3, H, W)
    """
    with torch.enable_grad():
        pixels = images.detach().requires_grad_()
        (found,) = torch.autograd.grad(scores(pixels).sum(), pixels)
    return found


def smoothgrad(
    scores: nn.Module,
    images: Tensor,
    samples: int = 16,
    sigma: float = 0.1,
    seed: int = 0,
    context: Context | None = None,
) -> Tensor:
    """Return the mean gradient of noisy copies (Smilkov et al. 2017, arXiv 1706.03825).

    Parameters
    ----------
    scores, images
        See :func:`gradient`.
    samples : int
        Copies, 1 or more; all images get the same noise.
    sigma : float
        Deviation of the noise, in units of [0, 1]; the copies are not clipped.
    seed : int
    context : Context, optional

    Returns
    -------
    Tensor, shape (B, 3, H, W)
    """
    context = context or Context()
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(images)
    for done in range(samples):
        context.progress(done, samples, "noisy copies")
        # Drawn on the CPU: the numbers are the same whatever the device.
        noise = torch.randn(images.shape[1:], generator=generator, dtype=torch.float64)
        total += gradient(scores, images + sigma * noise.to(images))
    return total / samples


def integrated_gradients(
    scores: nn.Module,
    images: Tensor,
    baseline: Tensor,
    nodes: int = 32,
    batch: int = 16,
    context: Context | None = None,
) -> Tensor:
    """Return integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365).

    The integral along the straight way from the baseline to the image is taken by Gauss and
    Legendre's rule.

    Parameters
    ----------
    scores, images
        See :func:`gradient`.
    baseline : Tensor
        Broadcasts against `images`.
    nodes : int
        Gradients on the way, 1 or more.
    batch : int
        Images at a time.
    context : Context, optional

    Returns
    -------
    Tensor, shape (B, 3, H, W)
        Its sums are the scores' differences to the baseline, up to the error of the rule.
    """
    context = context or Context()
    places, weights = np.polynomial.legendre.leggauss(nodes)
    places, weights = (1 + places) / 2, weights / 2
    way = images - baseline
    total = torch.zeros_like(images)
    together = max(1, batch // len(images))
    for start in range(0, nodes, together):
        context.progress(start, nodes, f"{nodes} steps from the baseline")
        stop = min(nodes, start + together)
        at, weight = (
            torch.from_numpy(values[start:stop]).to(images).view(-1, 1, 1, 1, 1)
            for values in (places, weights)
        )
        found = gradient(scores, (baseline + at * way).flatten(0, 1))
        total += (weight * found.view(stop - start, *images.shape)).sum(0)
    return way * total


def completed_integrated_gradients(
    scores: nn.Module,
    images: Tensor,
    baseline: Tensor,
    tolerance: float = 0.01,
    nodes: int = 32,
    most_nodes: int = 512,
    batch: int = 16,
    context: Context | None = None,
) -> tuple[Tensor, float, int]:
    """Double the nodes of :func:`integrated_gradients` until it is complete.

    Parameters
    ----------
    scores, images, baseline, batch, context
        See :func:`integrated_gradients`.
    tolerance : float
        Largest completeness gap, see :func:`completeness_gap`.
    nodes, most_nodes : int
        To begin with; the doubling stops there.

    Returns
    -------
    attribution : Tensor, shape (B, 3, H, W)
    gap : float
        The largest of all images.
    nodes : int
        With which they were reached.
    """
    with torch.no_grad():
        difference = scores(images) - scores(baseline.expand_as(images))
    while True:
        found = integrated_gradients(scores, images, baseline, nodes, batch, context)
        gap = completeness_gap(found, difference)
        if gap < tolerance or 2 * nodes > most_nodes:
            return found, gap, nodes
        nodes *= 2


def completeness_gap(attribution: Tensor, difference: Tensor) -> float:
    """Return how far the sums of maps are from what they ought to be, as a share of it.

    Parameters
    ----------
    attribution : Tensor, shape (B, ...)
    difference : Tensor, shape (B,)
        Score of each image less that of its baseline.

    Returns
    -------
    float
        The largest ``|sum - difference| / |difference|``; infinite if there is a sum where there
        is no difference.
    """
    gap = (attribution.flatten(1).sum(1) - difference).abs()
    return float(torch.where(gap == 0, gap, gap / difference.abs()).max())


def rectified(network: nn.Module, target: Target, images: Tensor, rule: str = "guided") -> Tensor:
    """Return the gradient, with the signals at each ReLU rectified.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    target : Target
    images : Tensor, shape (B, 3, H, W)
    rule : {"guided", "deconvolution"}
        Guided backpropagation lets a signal pass where it is positive and the ReLU was active
        (Springenberg et al. 2014, arXiv 1412.6806); deconvolution where it is positive
        (Zeiler and Fergus 2013, arXiv 1311.2901).

    Returns
    -------
    Tensor, shape (B, 3, H, W)

    Raises
    ------
    UntraceableError
        The calls of the network cannot be recorded.
    """
    from captum.attr import Deconvolution, GuidedBackprop

    scores = Scores(separate_relus(network), target)
    method = (GuidedBackprop if rule == "guided" else Deconvolution)(scores)
    with torch.enable_grad(), warnings.catch_warnings():
        # The hooks are on ReLUs that belong to the copy alone.
        warnings.filterwarnings("ignore", "Setting backward hooks on ReLU", UserWarning)
        found: Tensor = method.attribute(images.detach().requires_grad_())
    return found
