"""Class activation maps: Grad-CAM, Grad-CAM++ and LayerCAM of any layer with positions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.neurons.target import Scores, Target, checked_images, layer_outputs

__all__ = ["CAMS", "class_activation_map", "enlarged"]


def class_activation_map(
    network: nn.Module,
    images: Tensor,
    target: Target,
    layer: str,
    method: str = "gradcam",
    batch: int = 16,
    context: Context | None = None,
) -> Tensor:
    """Map where a layer speaks for the target.

    Grad-CAM (Selvaraju et al. 2016, arXiv 1610.02391) weighs each channel by its mean gradient,
    Grad-CAM++ (Chattopadhay et al. 2017, arXiv 1710.11063) by a mean of the positive ones that
    counts small objects in full, and LayerCAM (Jiang et al. 2021, doi 10.1109/TIP.2021.3089943)
    each position by its own positive gradient.

    Parameters
    ----------
    network : nn.Module
        Maps ``B x 3 x H x W`` in [0, 1] to logits ``B x K``, in eval mode.
    images : Tensor, shape (B, 3, H, W)
        In [0, 1].
    target : Target
    layer : str
        A name in ``dict(network.named_modules())``, best after a ReLU.
    method : str
        One of :data:`CAMS`.
    batch : int
        Images at a time.
    context : Context, optional
        Asked for cancellation between batches, told of progress.

    Returns
    -------
    Tensor, shape (B, h, w)
        On the CPU, of the layer's size; zero or more, not rescaled. See :func:`enlarged`.

    Raises
    ------
    ValueError
        Images, target, layer or method do not fit the network; the layer has no positions, or the
        target does not depend on it.
    Cancelled
        The context says so.
    """
    if method not in _RULES:
        raise ValueError(f"there is no method {method!r}; choose one of {', '.join(CAMS)}")
    context, scores = context or Context(), Scores(network, target)
    images = checked_images(network, images)
    found = []
    for start in range(0, len(images), batch):
        context.progress(start, len(images), method)
        maps, grad = _maps_and_gradient(scores, images[start : start + batch], layer)
        found.append(_RULES[method](maps, grad).clamp_min(0).cpu())
    return torch.cat(found)


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring maps to the size of the image, bilinearly between the centres of their cells.

    Parameters
    ----------
    maps : Tensor, shape (B, h, w)
    size : tuple of int
        Height and width.

    Returns
    -------
    Tensor, shape (B, H, W)
    """
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _maps_and_gradient(scores: Scores, images: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        with layer_outputs(scores.network, layer) as kept:
            score = scores(images.detach().requires_grad_())
        maps = kept[-1]
        if maps.ndim != 4:
            raise ValueError(f"layer {layer!r} has no positions to map; choose a convolution")
        (grad,) = torch.autograd.grad(score.sum(), maps, allow_unused=True)
    if grad is None:
        raise ValueError(f"the target does not depend on layer {layer!r}; choose an earlier layer")
    return maps.detach(), grad


def _gradcam(maps: Tensor, grad: Tensor) -> Tensor:
    return (grad.mean((2, 3), keepdim=True) * maps).sum(1)


def _gradcampp(maps: Tensor, grad: Tensor) -> Tensor:
    below = 2 * grad**2 + maps.sum((2, 3), keepdim=True) * grad**3
    share = torch.where(below != 0, grad**2 / torch.where(below != 0, below, 1), 0)
    weight = (share * grad.clamp_min(0)).sum((2, 3), keepdim=True)
    return (weight * maps).sum(1)


def _layercam(maps: Tensor, grad: Tensor) -> Tensor:
    return (grad.clamp_min(0) * maps).sum(1)


_RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": _gradcam,
    "gradcampp": _gradcampp,
    "layercam": _layercam,
}
CAMS = tuple(_RULES)
"""Names of the methods of :func:`class_activation_map`."""
