"""What synthetic distortions are labelled with: likeness to the image before.

No opinion scores of people come with the training images, so the label is a mix of three measures
of likeness: MS-SSIM (Wang et al. 2003) on colour, visual information fidelity in the pixel domain
(Sheikh and Bovik 2006) and the mean likeness of gradient magnitudes (Xue et al. 2014) on
brightness. Each alone ignores something: fidelity rewards more contrast, the other two hardly see
what changes brightness alone or leaves edges in place.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["LEAST_SIDE", "MEASURES", "gradient_similarity", "likeness", "target"]

LEAST_SIDE = 176
"""Smallest side of an image that MS-SSIM can be computed on, with its five scales."""
MEASURES = ("MS-SSIM", "VIF", "gradient similarity")


def likeness(images: Tensor, references: Tensor) -> Tensor:
    """Return the three measures of each image.

    Parameters
    ----------
    images, references : Tensor of float32, shape (B, 3, H, W)
        In [0, 1]; both sides at least :data:`LEAST_SIDE`.

    Returns
    -------
    Tensor, shape (B, 3)
        In [0, 1], in the order of :data:`MEASURES`.

    Raises
    ------
    ValueError
        An image is too small, or of another size than its reference.
    """
    if images.shape != references.shape or min(images.shape[2:]) < LEAST_SIDE:
        raise ValueError(
            f"images {tuple(images.shape)} and references {tuple(references.shape)} must have the "
            f"same shape, with sides of at least {LEAST_SIDE} pixels"
        )
    # Here, as importing torchmetrics takes a second.
    from torchmetrics.functional.image import (
        multiscale_structural_similarity_index_measure as ms_ssim,
    )
    from torchmetrics.functional.image import visual_information_fidelity as vif

    structure = ms_ssim(images, references, data_range=1.0, reduction="none")
    gray, gray_reference = (one.mean(dim=1, keepdim=True) for one in (images, references))
    # One by one, since the library averages over the batch.
    pairs = [(255 * gray[i : i + 1], 255 * gray_reference[i : i + 1]) for i in range(len(gray))]
    information = torch.stack([vif(one, reference) for one, reference in pairs])
    edges = gradient_similarity(gray, gray_reference)
    return torch.stack([structure, information, edges], dim=1).nan_to_num(1.0).clamp(0, 1)


def target(images: Tensor, references: Tensor) -> Tensor:
    """Return the mean of the three measures, shape (B,), in [0, 1]; 1 for the image itself."""
    return likeness(images, references).mean(dim=1)


def gradient_similarity(images: Tensor, references: Tensor) -> Tensor:
    """Return the mean likeness of gradient magnitudes (Xue et al. 2014, equations 1 to 4).

    Parameters
    ----------
    images, references : Tensor, shape (B, 1, H, W)
        In [0, 1].

    Returns
    -------
    Tensor, shape (B,)
        In (0, 1].
    """
    one, other = (_gradient_power(F.avg_pool2d(x, 2)) for x in (images, references))
    constant = 170 / 255**2
    similar = (2 * (one * other).sqrt() + constant) / (one + other + constant)
    return similar.mean(dim=(1, 2, 3))


def _gradient_power(x: Tensor) -> Tensor:
    """Return the squared gradient magnitude by Prewitt's filters."""
    step = torch.tensor([[1.0, 0.0, -1.0]] * 3, dtype=x.dtype, device=x.device) / 3
    filters = torch.stack([step, step.T])[:, None]
    edges = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), filters)
    return edges.square().sum(dim=1, keepdim=True)
