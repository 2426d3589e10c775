"""How smooth the kernels, activations and saliency maps of a classifier are, and what noise does.

Chen et al. 2020, arXiv 2006.09373; total variation over sum of magnitudes is of this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from napari_cvsuite.images import Image
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.subject import Subject, opened, see
from napari_cvsuite.neurons.controls import gaussian_noise
from napari_cvsuite.neurons.gradients import gradient
from napari_cvsuite.neurons.options import SmoothnessOptions
from napari_cvsuite.neurons.saliency import signed_map
from napari_cvsuite.neurons.smoothness import kernel_smoothness, noise_response, saliency_tv
from napari_cvsuite.neurons.target import Scores, Target

__all__ = ["LayerRow", "Simplicity", "measure", "run"]


@dataclass(frozen=True)
class LayerRow:
    """One layer under noise.

    Parameters
    ----------
    layer : str
    tv_ratio : float
        Total variation of its activations on noisy images over that on clean ones.
    change : float
        Mean absolute change over mean activation: how much of the noise comes through.
    """

    layer: str
    tv_ratio: float
    change: float


@dataclass(frozen=True)
class Simplicity:
    """Measures of one classifier.

    Parameters
    ----------
    kernel_tv, kernel_tv_over_l1 : float
        Of the kernels of the first convolution, means over kernels.
    layers : tuple of LayerRow
    saliency_tv : float
        Total variation of the signed gradient map of the predicted class, mean over images.
    gradient_length : float
        Euclidean length of that gradient, mean over images.
    sigma : float
        Of the noise.
    n : int
        Number of images.
    provenance : dict
    """

    kernel_tv: float
    kernel_tv_over_l1: float
    layers: tuple[LayerRow, ...]
    saliency_tv: float
    gradient_length: float
    sigma: float
    n: int
    provenance: dict[str, Any]


def run(image: Image, options: SmoothnessOptions, context: Context) -> Simplicity:
    """Measure a classifier on one plane of an image.

    Raises
    ------
    ImageError
        The image cannot be used.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    with opened(options, context) as subject:
        seen = see(image, subject, context)
        return measure(subject, seen.tensor(), options, context)


def measure(
    subject: Subject,
    images: Tensor,
    options: SmoothnessOptions,
    context: Context,
    batch: int = 32,
) -> Simplicity:
    """Measure a classifier on images.

    Parameters
    ----------
    subject : Subject
    images : Tensor, shape (B, 3, S, S)
        In [0, 1].
    options : SmoothnessOptions
    context : Context
    batch : int
        Images at a time.
    """
    network = subject.network
    images = images.to(subject.device)
    first = next(iter(kernel_smoothness(network).values()))
    noisy = gaussian_noise(images, options.sigma, options.seed)
    layers = subject.layers()
    inner = context.part(0, 2, "noise")
    found = noise_response(network, images, noisy, layers, batch, inner)
    variation, length = [], []
    for start in range(0, len(images), batch):
        context.progress(1 + start / len(images), 2, "gradients")
        part = images[start : start + batch]
        with torch.inference_mode():
            guesses = network(part).argmax(dim=1).tolist()
        for one, guess in zip(part, guesses, strict=True):
            grad = gradient(Scores(network, Target(class_index=guess)), one[None])
            variation.append(float(saliency_tv(signed_map(grad))[0]))
            length.append(float(grad.norm()))
    return Simplicity(
        first.tv,
        first.tv_over_l1,
        tuple(
            LayerRow(name.removeprefix("model."), one.layer_ratio, one.relative_change)
            for name, one in found.items()
        ),
        sum(variation) / len(variation),
        sum(length) / len(length),
        options.sigma,
        len(images),
        subject.provenance(),
    )
