"""Whether a map is true to its network: what deleting and inserting pixels does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.neurons.target import Scores, Target, checked_images

__all__ = [
    "Curves",
    "Faithfulness",
    "checked_map",
    "deletion_insertion",
    "faithfulness",
]

BLUR = 0.05
"""Deviation of the blur that insertion begins with, as a share of the longer side."""


@dataclass(frozen=True)
class Curves:
    """How the score changes while pixels are taken away, and while they are brought in.

    Parameters
    ----------
    share : ndarray, shape (steps + 1,)
        Of the pixels that are changed, 0 to 1.
    deletion, insertion : ndarray, shape (steps + 1,)
        Probability of the class; for a difference of two logits, probability of the first class
        against the second; for a neuron its value.
    deletion_auc, insertion_auc : float
        Area below the curves by trapezoids, for steps of one length.
    """

    share: NDArray[np.float64]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]

    @property
    def deletion_auc(self) -> float:
        return _area(self.deletion)

    @property
    def insertion_auc(self) -> float:
        return _area(self.insertion)


@dataclass(frozen=True)
class Faithfulness:
    """Curves of a map, and of a random one that any map has to beat.

    Parameters
    ----------
    map, random : Curves
    """

    map: Curves
    random: Curves


def faithfulness(
    network: nn.Module,
    image: Tensor,
    target: Target,
    relevance: Tensor,
    blurred: Tensor | None = None,
    steps: int = 50,
    seed: int = 0,
    batch: int = 16,
    context: Context | None = None,
) -> Faithfulness:
    """Return deletion and insertion curves of a map beside those of a random map.

    Networks are not to be compared by these areas: insertion favours standard ones and deletion
    adversarially trained ones through their confidence (arXiv 2205.13042).

    Parameters
    ----------
    network, image, target, relevance, blurred, steps, batch, context
        See :func:`deletion_insertion`.
    seed : int
        Of the random map.

    Returns
    -------
    Faithfulness

    Raises
    ------
    ValueError
        Image, target or map do not fit the network or one another.
    Cancelled
        The context says so.
    """
    context = context or Context()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(relevance.shape, generator=generator)
    found = [
        deletion_insertion(
            network, image, target, order, blurred, steps, batch, context.part(number, 2, name)
        )
        for number, (name, order) in enumerate((("map", relevance), ("random map", noise)))
    ]
    return Faithfulness(*found)


def deletion_insertion(
    network: nn.Module,
    image: Tensor,
    target: Target,
    relevance: Tensor,
    blurred: Tensor | None = None,
    steps: int = 50,
    batch: int = 16,
    context: Context | None = None,
) -> Curves:
    """Blacken pixels from the most relevant on, and bring them into a blurred image.

    Petsiuk et al. 2018, arXiv 1806.07421. Step k changes the first ``k * H * W // steps`` pixels;
    equally relevant ones in the order of reading.

    Parameters
    ----------
    network : nn.Module
        Maps ``B x 3 x H x W`` in [0, 1] to logits ``B x K``, in eval mode.
    image : Tensor, shape (3, H, W)
        In [0, 1].
    target : Target
    relevance : Tensor, shape (H, W)
    blurred : Tensor, shape (3, H, W), optional
        What insertion begins with; a Gaussian blur whose deviation is a twentieth of the longer
        side, if left out (definition of this project).
    steps : int
        1 to H * W.
    batch : int
        Images at a time.
    context : Context, optional
        Asked for cancellation between batches, told of progress.

    Returns
    -------
    Curves

    Raises
    ------
    ValueError
        Image, target or map do not fit the network or one another.
    Cancelled
        The context says so.
    """
    context, scores = context or Context(), Scores(network, target)
    image = checked_images(network, image[None])[0]
    relevance = checked_map(relevance, (image.shape[1], image.shape[2]))
    pixels = relevance.numel()
    if not 1 <= steps <= pixels:
        raise ValueError(f"an image of {pixels} pixels has 1 to {pixels} steps; got {steps}")
    start = _blur(image) if blurred is None else checked_images(network, blurred[None])[0]
    if start.shape != image.shape:
        raise ValueError(f"the blurred image is {tuple(start.shape)}, not {tuple(image.shape)}")
    order = torch.argsort(relevance.flatten(), descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(pixels)
    counts = torch.arange(steps + 1) * pixels // steps
    rank, counts = rank.view(relevance.shape).to(image.device), counts.to(image.device)
    found = []
    with torch.no_grad():
        # Refuses a target that the network does not have.
        scores(image[None])
        for number, (before, after) in enumerate(
            ((image, torch.zeros_like(image)), (start, image))
        ):
            values = []
            for first in range(0, steps + 1, batch):
                context.progress(number * (steps + 1) + first, 2 * (steps + 1), "pixels changed")
                changed = rank < counts[first : first + batch, None, None]
                copies = torch.where(changed[:, None], after, before)
                values.append(_confidence(scores, copies).cpu().double())
            found.append(torch.cat(values).numpy())
    return Curves(counts.cpu().numpy() / pixels, *found)


def checked_map(relevance: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a map on the CPU; raise ValueError if its shape is not `size` or it has NaN."""
    if tuple(relevance.shape) != size:
        raise ValueError(
            f"the map must have one value for each of the image's {size[1]} x {size[0]} pixels; "
            f"its shape is {tuple(relevance.shape)}: take the mean over RGB, or enlarge it"
        )
    if not relevance.isfinite().all():
        raise ValueError("the map has values that are not finite; it cannot be put in order")
    return relevance.detach().cpu()


def _confidence(scores: Scores, images: Tensor) -> Tensor:
    target = scores.target
    value: Tensor
    if target.layer is None and target.minus is None:
        value = scores.network(images).softmax(1)[:, target.class_index]
        return value
    value = scores(images)
    return value if target.layer is not None else value.sigmoid()


def _blur(image: Tensor) -> Tensor:
    sigma = BLUR * max(image.shape[1:])
    soft = ndimage.gaussian_filter(image.cpu().numpy(), (0, sigma, sigma), mode="nearest")
    return torch.from_numpy(soft).to(image)


def _area(curve: NDArray[np.float64]) -> float:
    return float(((curve[1:] + curve[:-1]) / 2).mean())
