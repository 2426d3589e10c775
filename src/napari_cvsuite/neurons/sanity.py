"""Other checks of a map: where it points, what noise and random weights do to it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.neurons.faithfulness import checked_map
from napari_cvsuite.neurons.target import Scores, Target, checked_images

__all__ = [
    "Randomisation",
    "infidelity",
    "max_sensitivity",
    "pointing_game",
    "randomisation",
    "relevance_mass",
]


@dataclass(frozen=True)
class Randomisation:
    """How alike the maps of a network and of its randomised copies are.

    Parameters
    ----------
    layers : tuple of str
        Layers in the order in which they were randomised, from the last.
    correlations : tuple of float
        Spearman's correlation of the network's map with that of the copy in which the layer and
        all before it in `layers` are randomised; NaN if either map is constant. A map that stays
        alike does not show what the network has learned.
    """

    layers: tuple[str, ...]
    correlations: tuple[float, ...]


def pointing_game(relevance: Tensor, mask: Tensor) -> bool:
    """Return whether the most relevant pixel is in the mask (Zhang et al. 2016, arXiv 1608.00507).

    Parameters
    ----------
    relevance : Tensor, shape (H, W)
        Of several largest pixels the first counts, in the order of reading; a map without a
        positive value points nowhere.
    mask : Tensor, shape (H, W)
        Non-zero where the object is.

    Raises
    ------
    ValueError
        The shapes differ, the map has NaN, or the mask is empty.
    """
    relevance, inside = _with_mask(relevance, mask)
    best = int(relevance.argmax())
    return bool(relevance.flatten()[best] > 0 and inside.flatten()[best])


def relevance_mass(relevance: Tensor, mask: Tensor) -> float:
    """Return the share of the positive relevance that is in the mask (Arras et al. 2020).

    Relevance mass accuracy of arXiv 2003.07258.

    Parameters
    ----------
    relevance, mask
        See :func:`pointing_game`.

    Returns
    -------
    float
        0 to 1; NaN if no relevance is positive. Compare it with the mask's share of the image.

    Raises
    ------
    ValueError
        See :func:`pointing_game`.
    """
    relevance, inside = _with_mask(relevance, mask)
    positive = relevance.double().clamp_min(0)
    total = float(positive.sum())
    return float(positive[inside].sum()) / total if total > 0 else float("nan")


def randomisation(
    network: nn.Module,
    map_of: Callable[[nn.Module], Tensor],
    layers: int | None = 1,
    seed: int = 0,
    context: Context | None = None,
) -> Randomisation:
    """Compare the map of a network with those of copies whose last layers are randomised.

    Adebayo et al. 2018, arXiv 1810.03292. Weights are drawn from a normal distribution with the
    mean and deviation that they have in their tensor (definition of this project), layer by layer
    from the last; layers stay randomised.

    Parameters
    ----------
    network : nn.Module
        Stays as it was.
    map_of : callable
        Returns the map of a network, of any shape.
    layers : int, optional
        How many layers with weights; None for all. The last is the one that the network names
        last.
    seed : int
    context : Context, optional
        Asked for cancellation between maps, told of progress.

    Returns
    -------
    Randomisation

    Raises
    ------
    ValueError
        The network has no layer with weights, or `layers` is below one.
    Cancelled
        The context says so.
    """
    context = context or Context()
    changed = copy.deepcopy(network)
    names = [
        name
        for name, module in reversed(list(changed.named_modules()))
        if any(True for _ in module.parameters(recurse=False))
    ][:layers]
    if not names or (layers is not None and layers < 1):
        raise ValueError("there is no layer to randomise; the network needs weights, layers 1 on")
    # Apart from small numbers: with the seed that the network was drawn with, and often it is 0,
    # the weights would be drawn from the same stream and stay alike.
    generator = torch.Generator().manual_seed(1_000_003 + seed)
    before, found = map_of(network), []
    for number, name in enumerate(names):
        context.progress(number, len(names), f"{name} randomised")
        for parameter in changed.get_submodule(name).parameters(recurse=False):
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            with torch.no_grad():
                mean, deviation = parameter.mean(), parameter.std(correction=0)
                parameter.copy_(mean + deviation * noise)
        found.append(_spearman(before, map_of(changed)))
    return Randomisation(tuple(names), tuple(found))


def infidelity(
    network: nn.Module,
    images: Tensor,
    target: Target,
    attribution: Tensor,
    samples: int = 50,
    sigma: float = 0.1,
    seed: int = 0,
    batch: int = 16,
    context: Context | None = None,
) -> NDArray[np.float64]:
    """Return how badly maps foretell the effect of noise (Yeh et al. 2019, arXiv 1901.09392).

    It is the mean of ``(sum(noise * attribution) - (score(x) - score(x - noise)))**2``, so it asks
    for a map in the units of a gradient. Computed by captum.

    Parameters
    ----------
    network : nn.Module
        Maps ``B x 3 x H x W`` in [0, 1] to logits ``B x K``, in eval mode.
    target : Target
    images, attribution : Tensor, shape (B, 3, H, W)
    samples : int
        Noisy copies of each image.
    sigma : float
        Deviation of the Gaussian noise, in units of [0, 1].
    seed : int
    batch : int
        Images at a time, at least those given.
    context : Context, optional
        Asked for cancellation between batches.

    Returns
    -------
    ndarray, shape (B,)
        Zero or more; zero is best.

    Raises
    ------
    ValueError
        Images or target do not fit the network, or the attribution the images.
    Cancelled
        The context says so.
    """
    from captum.metrics import infidelity as of_captum

    context, scores = context or Context(), Scores(network, target)
    images = checked_images(network, images)
    if attribution.shape != images.shape:
        raise ValueError(
            f"the map must have the images' shape, {tuple(images.shape)}, as a gradient has; "
            f"got {tuple(attribution.shape)}"
        )
    generator = torch.Generator().manual_seed(seed)

    def perturb(copies: Tensor) -> tuple[Tensor, Tensor]:
        context.check()
        noise = sigma * torch.randn(copies.shape, generator=generator).to(copies)
        return noise, copies - noise

    found: Tensor = of_captum(
        scores,
        perturb,
        images,
        attribution.to(images),
        n_perturb_samples=samples,
        max_examples_per_batch=_together(batch, len(images), samples),
    )
    return found.cpu().double().numpy()


def max_sensitivity(
    maps_of: Callable[[Tensor], Tensor],
    images: Tensor,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
    batch: int = 16,
    context: Context | None = None,
) -> NDArray[np.float64]:
    """Return how much maps change under slight noise (Yeh et al. 2019, arXiv 1901.09392).

    It is the largest ``|map(x + noise) - map(x)| / |map(x)|``, computed by captum.

    Parameters
    ----------
    maps_of : callable
        Maps images ``B x 3 x H x W`` to their maps ``B x ...``.
    images : Tensor, shape (B, 3, H, W)
    radius : float
        The noise is uniform up to it, in units of [0, 1]; the copies are clipped to [0, 1].
    samples : int
        Noisy copies of each image.
    seed : int
    batch : int
        Images at a time, at least those given.
    context : Context, optional
        Asked for cancellation between batches.

    Returns
    -------
    ndarray, shape (B,)
        Zero or more; zero is best.

    Raises
    ------
    Cancelled
        The context says so.
    """
    from captum.metrics import sensitivity_max

    context = context or Context()
    generator = torch.Generator().manual_seed(seed)

    def perturb(copies: Tensor) -> Tensor:
        context.check()
        noise = 2 * torch.rand(copies.shape, generator=generator).to(copies) - 1
        return (copies + radius * noise).clamp(0, 1)

    def explained(copies: Tensor | tuple[Tensor]) -> Tensor | tuple[Tensor]:
        # captum hands over the images in a tuple, and the noisy copies not.
        return maps_of(copies) if isinstance(copies, Tensor) else (maps_of(copies[0]),)

    found: Tensor = sensitivity_max(
        explained,
        images,
        perturb,
        n_perturb_samples=samples,
        max_examples_per_batch=_together(batch, len(images), samples),
    )
    return found.cpu().double().numpy()


def _together(batch: int, images: int, samples: int) -> int:
    # captum takes no less than one copy of each image, and no more than there are.
    return min(max(batch, images), images * samples)


def _with_mask(relevance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    if mask.ndim != 2 or not bool((mask != 0).any()):
        raise ValueError("the mask must be H x W and mark one pixel or more; draw the object first")
    height, width = mask.shape
    return checked_map(relevance, (height, width)), mask.cpu() != 0


def _spearman(one: Tensor, other: Tensor) -> float:
    ranks = [stats.rankdata(values.detach().cpu().numpy().ravel()) for values in (one, other)]
    if any(rank.min() == rank.max() for rank in ranks):
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])
