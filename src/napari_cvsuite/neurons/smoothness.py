"""How smooth the patterns are that a network detects, and how much noise gets through.

Claim 1 of Chen et al. 2020 (arXiv 2006.09373): the channels of adversarially trained networks
detect smoother patterns, which blocks noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.neurons.activations import activations
from napari_cvsuite.neurons.target import checked_images, checked_network

__all__ = [
    "OUTLIER",
    "KernelSmoothness",
    "LayerResponse",
    "kernel_smoothness",
    "mean_smoothness",
    "noise_response",
    "outlier_channels",
    "saliency_tv",
    "total_variation",
    "tv_over_l1",
]

OUTLIER = 0.2
"""Change of the total variation, as a share of the standard network's mean, of an outlier."""


def total_variation(maps: Tensor) -> Tensor:
    """Return the sum of absolute differences of vertical and of horizontal neighbours.

    Anisotropic total variation; Chen et al. 2020.

    Parameters
    ----------
    maps : Tensor of float, shape (..., H, W)

    Returns
    -------
    Tensor, shape (...)
        Of a single pixel 0.

    Raises
    ------
    ValueError
        There are fewer than two axes.
    """
    if maps.ndim < 2:
        raise ValueError(f"maps must have the shape ... x H x W; got {tuple(maps.shape)}")
    return maps.diff(dim=-2).abs().sum((-2, -1)) + maps.diff(dim=-1).abs().sum((-2, -1))


def tv_over_l1(maps: Tensor) -> Tensor:
    """Return the total variation over the sum of magnitudes, which does not depend on scale.

    Definition of this project.

    Parameters
    ----------
    maps : Tensor of float, shape (..., H, W)

    Returns
    -------
    Tensor, shape (...)
        Of a map of zeros 0.
    """
    return total_variation(maps) / maps.abs().sum((-2, -1)).clamp_min(1e-12)


def saliency_tv(maps: Tensor) -> Tensor:
    """Return the total variation of signed saliency maps, each over its largest magnitude.

    Parameters
    ----------
    maps : Tensor of float, shape (B, H, W)
        On any scale.

    Returns
    -------
    Tensor, shape (B,)
        Of a map of zeros 0.
    """
    largest = maps.abs().amax((-2, -1), keepdim=True)
    return total_variation(maps / torch.where(largest > 0, largest, torch.ones_like(largest)))


@dataclass(frozen=True)
class KernelSmoothness:
    """Smoothness of the kernels of a layer, or of several.

    Parameters
    ----------
    channels : int
        Output channels.
    tv, tv_over_l1 : float
        Mean over all kernels. TV depends on the scale of the weights; the second does not.
    """

    channels: int
    tv: float
    tv_over_l1: float


def kernel_smoothness(network: nn.Module) -> dict[str, KernelSmoothness]:
    """Measure the kernels of every convolution.

    Parameters
    ----------
    network : nn.Module

    Returns
    -------
    dict of str to KernelSmoothness
        By layer, in the network's order. A kernel of 1 x 1 has no neighbours and 0.

    Raises
    ------
    ValueError
        The network has no two-dimensional convolution.
    """
    found = {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            weight = layer.weight.detach()
            found[name] = KernelSmoothness(
                layer.out_channels,
                float(total_variation(weight).mean()),
                float(tv_over_l1(weight).mean()),
            )
    if not found:
        raise ValueError("the network has no two-dimensional convolution; choose another network")
    return found


def mean_smoothness(kernels: Mapping[str, KernelSmoothness]) -> KernelSmoothness:
    """Return the mean over layers, each counted with its channels (Chen et al. 2020).

    Parameters
    ----------
    kernels : mapping of str to KernelSmoothness
        One layer or more, of :func:`kernel_smoothness`.
    """
    layers = kernels.values()
    channels = sum(one.channels for one in layers)
    return KernelSmoothness(
        channels,
        sum(one.channels * one.tv for one in layers) / channels,
        sum(one.channels * one.tv_over_l1 for one in layers) / channels,
    )


@dataclass(frozen=True)
class LayerResponse:
    """What noise does to the output of a layer with C channels.

    Parameters
    ----------
    clean, noisy : Tensor of float64, shape (C,)
        Mean total variation of each channel on the images, and on their noisy copies.
    activation : Tensor of float64, shape (C,)
        Mean magnitude on the images; behind a ReLU that is the mean activation.
    change : Tensor of float64, shape (C,)
        Mean magnitude of the difference between noisy copy and image.
    """

    clean: Tensor
    noisy: Tensor
    activation: Tensor
    change: Tensor

    @property
    def ratio(self) -> Tensor:
        """Noisy over clean total variation of each channel; NaN for a dead one."""
        return self.noisy / self.clean

    @property
    def layer_ratio(self) -> float:
        """Noisy over clean total variation of all channels together."""
        return float(self.noisy.mean() / self.clean.mean())

    @property
    def relative_change(self) -> float:
        """Mean change over mean magnitude of all channels together: the noise ratio."""
        return float(self.change.mean() / self.activation.mean())


def noise_response(
    network: nn.Module,
    images: Tensor,
    noisy: Tensor,
    layers: Sequence[str],
    batch: int = 64,
    context: Context | None = None,
) -> dict[str, LayerResponse]:
    """Compare what layers give for images and for noisy copies of them.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    images, noisy : Tensor of float, shape (B, 3, H, W)
        In [0, 1]; see :func:`napari_cvsuite.neurons.controls.gaussian_noise`.
    layers : sequence of str
        One or more names in ``dict(network.named_modules())``, of layers that give maps.
    batch : int
        Images at a time.
    context : Context, optional

    Returns
    -------
    dict of str to LayerResponse

    Raises
    ------
    ValueError
        The images, copies or layers cannot be used.
    """
    context = context or Context()
    if batch < 1 or not layers:
        raise ValueError("name one layer or more, and a batch of one image or more")
    if images.shape != noisy.shape:
        raise ValueError(
            f"each image needs a noisy copy of its own size; got {tuple(images.shape)} and "
            f"{tuple(noisy.shape)}"
        )
    clean, rough = (checked_images(checked_network(network), part) for part in (images, noisy))
    sums: dict[str, Tensor] = {}
    for start in range(0, len(clean), batch):
        context.progress(start, len(clean), "comparing images with noisy copies")
        here = slice(start, start + batch)
        first, second = (activations(network, part[here], layers) for part in (clean, rough))
        for layer in layers:
            found = _measured(first[layer], second[layer])
            sums[layer] = sums[layer] + found if layer in sums else found
    context.progress(len(clean), len(clean), "compared")
    return {layer: LayerResponse(*(total / len(clean)).unbind()) for layer, total in sums.items()}


def _measured(clean: Tensor, noisy: Tensor) -> Tensor:
    """Return the four measures of a response as 4 x C, summed over images."""
    measures = (
        total_variation(clean),
        total_variation(noisy),
        clean.abs().mean((2, 3)),
        (noisy - clean).abs().mean((2, 3)),
    )
    # Not every device has float64.
    return torch.stack([measure.cpu().double().sum(0) for measure in measures])


def outlier_channels(
    response: LayerResponse, standard: LayerResponse, share: float = OUTLIER
) -> Tensor:
    """Return which channels change most under noise (Chen et al. 2020).

    Parameters
    ----------
    response : LayerResponse
        Of C channels.
    standard : LayerResponse
        The same layer of the standard network, whose mean clean total variation is the unit.
    share : float
        Least change in that unit.

    Returns
    -------
    Tensor of bool, shape (C,)
    """
    return (response.noisy - response.clean).abs() >= share * standard.clean.mean()
