"""Maps of what a score is sensitive to: one door to all methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.neurons.deeplift import deeplift
from napari_cvsuite.neurons.gradients import (
    completed_integrated_gradients,
    completeness_gap,
    gradient,
    rectified,
    smoothgrad,
)
from napari_cvsuite.neurons.options import SaliencyOptions
from napari_cvsuite.neurons.perturbation import occlusion, rise
from napari_cvsuite.neurons.target import Scores, Target, checked_images

__all__ = ["METHODS", "Attribution", "Target", "explain", "signed_map"]

_SANITY = (
    "Sanity check: this map hardly changes when the last layer of the network is randomised "
    "(Adebayo et al. 2018, arXiv 1810.03292); it shows edges of the image more than what the "
    "network has learned."
)


@dataclass(frozen=True)
class Attribution:
    """Maps of a batch.

    Parameters
    ----------
    values : Tensor, shape (B, 3, H, W) or (B, H, W)
        On the CPU; signed. Occlusion and RISE give one value a pixel.
    gap : float, optional
        Completeness gap, for the methods that have one: the largest
        ``|sum - difference| / |difference|`` over the images, with the score's difference to the
        baseline.
    nodes : int, optional
        Steps of integrated gradients, the most over the images.
    note : str
        What to know about the map; empty if nothing.
    """

    values: Tensor
    gap: float | None = None
    nodes: int | None = None
    note: str = ""


def signed_map(grad: Tensor) -> Tensor:
    """Return the picture of a gradient: its mean over RGB, with sign, in [-1, 1].

    Chen et al. 2020, arXiv 2006.09373, show it blue, white and red.

    Parameters
    ----------
    grad : Tensor, shape (B, 3, H, W)

    Returns
    -------
    Tensor, shape (B, H, W)
        Divided by each image's largest absolute value; all zero stays zero.
    """
    mean = grad.mean(1)
    top = mean.abs().amax((1, 2), keepdim=True)
    return mean / torch.where(top > 0, top, 1)


def explain(
    network: nn.Module,
    images: Tensor,
    target: Target,
    method: str = "gradient",
    options: SaliencyOptions | None = None,
    context: Context | None = None,
) -> Attribution:
    """Map what a score of the network is sensitive to, in each image.

    Parameters
    ----------
    network : nn.Module
        Maps ``B x 3 x H x W`` in [0, 1] to logits ``B x K``, in eval mode.
    images : Tensor, shape (B, 3, H, W)
        In [0, 1].
    target : Target
    method : str
        One of :data:`METHODS`.
    options : SaliencyOptions, optional
    context : Context, optional
        Asked for cancellation between batches, told of progress.

    Returns
    -------
    Attribution

    Raises
    ------
    ValueError
        Images, target, method or options do not fit the network or one another.
    UntraceableError
        Guided backpropagation, deconvolution or DeepLift of a network whose ReLUs cannot be told
        apart.
    Cancelled
        The context says so.
    """
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}; choose one of {', '.join(METHODS)}")
    options, context = options or SaliencyOptions(), context or Context()
    scores = Scores(network, target)
    images = checked_images(network, images)
    compute, together = _COMPUTE[method]
    # What settles or hides by itself takes one image at a time: no image changes another's map.
    parts = torch.split(images, options.batch if together else 1)
    found = []
    for number, part in enumerate(parts):
        context.progress(number, len(parts), method.replace("_", " "))
        inner = context.part(number, len(parts), f"part {number + 1} of {len(parts)}")
        found.append(compute(scores, part, options, inner))
    return Attribution(
        torch.cat([part.values.detach().cpu() for part in found]),
        max((part.gap for part in found if part.gap is not None), default=None),
        max((part.nodes for part in found if part.nodes is not None), default=None),
        max((part.note for part in found), key=len),
    )


def _gradient(scores: Scores, images: Tensor, options: SaliencyOptions, _: Context) -> Attribution:
    return Attribution(gradient(scores, images))


def _gradient_x_input(
    scores: Scores, images: Tensor, options: SaliencyOptions, _: Context
) -> Attribution:
    return Attribution(images * gradient(scores, images))


def _smoothgrad(
    scores: Scores, images: Tensor, options: SaliencyOptions, context: Context
) -> Attribution:
    return Attribution(
        smoothgrad(scores, images, options.samples, options.sigma, options.seed, context)
    )


def _integrated_gradients(
    scores: Scores, images: Tensor, options: SaliencyOptions, context: Context
) -> Attribution:
    values, gap, nodes = completed_integrated_gradients(
        scores,
        images,
        torch.full_like(images, options.baseline),
        options.tolerance,
        batch=options.batch,
        context=context,
    )
    note = ""
    if gap >= options.tolerance:
        note = f"The map is not complete: its sum misses the score's difference by {gap:.1%}."
    return Attribution(values, gap, nodes, note)


def _guided(scores: Scores, images: Tensor, options: SaliencyOptions, _: Context) -> Attribution:
    return Attribution(rectified(scores.network, scores.target, images, "guided"), note=_SANITY)


def _deconvolution(
    scores: Scores, images: Tensor, options: SaliencyOptions, _: Context
) -> Attribution:
    values = rectified(scores.network, scores.target, images, "deconvolution")
    return Attribution(values, note=_SANITY)


def _deeplift(scores: Scores, images: Tensor, options: SaliencyOptions, _: Context) -> Attribution:
    baseline = torch.full_like(images, options.baseline)
    values = deeplift(scores.network, scores.target, images, baseline)
    with torch.no_grad():
        gap = completeness_gap(values, scores(images) - scores(baseline))
    note = ""
    if gap >= options.tolerance:
        note = (
            f"The map is not complete: its sum misses the score's difference by {gap:.1%}, since "
            "the network has nonlinear steps that are no layers of their own."
        )
    return Attribution(values, gap, note=note)


def _occlusion(
    scores: Scores, images: Tensor, options: SaliencyOptions, context: Context
) -> Attribution:
    window = options.window or max(1, min(images.shape[2:]) // 7)
    stride = options.stride or max(1, window // 2)
    found = occlusion(scores, images[0], window, stride, options.fill, options.batch, context)
    return Attribution(found[None])


def _rise(
    scores: Scores, images: Tensor, options: SaliencyOptions, context: Context
) -> Attribution:
    found = rise(
        scores,
        images[0],
        options.masks,
        options.cells,
        options.shown,
        options.seed,
        options.batch,
        context,
    )
    return Attribution(found[None])


_Compute = Callable[[Scores, Tensor, SaliencyOptions, Context], Attribution]
# Each method, and whether it takes several images at a time.
_COMPUTE: dict[str, tuple[_Compute, bool]] = {
    "gradient": (_gradient, True),
    "gradient_x_input": (_gradient_x_input, True),
    "smoothgrad": (_smoothgrad, True),
    "integrated_gradients": (_integrated_gradients, False),
    "guided": (_guided, True),
    "deconvolution": (_deconvolution, True),
    "deeplift": (_deeplift, True),
    "occlusion": (_occlusion, False),
    "rise": (_rise, False),
}
METHODS = tuple(_COMPUTE)
"""Names of the methods of :func:`explain`."""
