"""Saliency of one image: which pixels a class or a neuron depends on, and how far to trust it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cvsuite.images import Grid, Image
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.planes import Planes
from napari_cvsuite.models.subject import Likely, Subject, opened, see, see_plane
from napari_cvsuite.neurons.cams import class_activation_map, enlarged
from napari_cvsuite.neurons.faithfulness import Faithfulness, faithfulness
from napari_cvsuite.neurons.options import CAMS, NeuronOptions, SaliencyOptions
from napari_cvsuite.neurons.saliency import explain, signed_map
from napari_cvsuite.neurons.sanity import (
    Randomisation,
    infidelity,
    max_sensitivity,
    pointing_game,
    randomisation,
    relevance_mass,
)
from napari_cvsuite.neurons.seen_labels import seen_mask
from napari_cvsuite.neurons.smoothness import saliency_tv
from napari_cvsuite.neurons.subject import layer_name, target_of
from napari_cvsuite.neurons.target import Target

__all__ = ["Check", "Explained", "Inside", "Predicted", "predict", "run"]

SENTENCE = "A saliency map shows what the score is sensitive to, not a diagnosis."
"""What every door says beside a map."""


@dataclass(frozen=True)
class Predicted:
    """What a classifier says of one plane.

    Parameters
    ----------
    likely : tuple of Likely
        The likeliest classes, at most five.
    pixels : ndarray of float32, shape (S, S, 3)
        What the network sees, in [0, 1].
    grid : Grid
        Where these pixels lie on the plane.
    provenance : dict
    """

    likely: tuple[Likely, ...]
    pixels: NDArray[np.float32]
    grid: Grid
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Check:
    """How faithful a map is, beside a random map.

    Parameters
    ----------
    curves : Faithfulness
        Deletion and insertion, of the map and of a random one.
    sensitivity : float
        Largest relative change of the map under slight noise; 0 is best.
    infidelity : float or None
        Error with which the map foretells the effect of noise; of maps in the units of a gradient.
    randomised : Randomisation
        Rank correlation with maps of the network whose last layers have random weights: near 1,
        the map does not show what the network has learned.
    """

    curves: Faithfulness
    sensitivity: float
    infidelity: float | None
    randomised: Randomisation


@dataclass(frozen=True)
class Inside:
    """How much of a map lies on an object.

    Parameters
    ----------
    pointing : bool
        Whether the most relevant pixel is inside (pointing game, arXiv 1608.00507).
    mass : float
        Share of the positive relevance that is inside (relevance mass accuracy, arXiv 2003.07258);
        NaN where nothing is positive.
    area : float
        Share of the pixels that are inside. A random map, whose pixels are independent and alike,
        points inside with this probability, and has this mass there on average.
    """

    pointing: bool
    mass: float
    area: float

    def in_words(self) -> str:
        """Return one line, with what a random map has."""
        hit = "inside" if self.pointing else "outside"
        mass = "none" if math.isnan(self.mass) else f"{self.mass:.3f}"
        return (
            f"pointing game: the most relevant pixel lies {hit} the mask (of random maps "
            f"{self.area:.1%} do); relevance mass in it {mass} (random maps {self.area:.3f})"
        )


@dataclass(frozen=True)
class Explained:
    """Outcome of a saliency job.

    Parameters
    ----------
    values : ndarray of float32, shape (h, w)
        In [-1, 1], for signed methods; else in [0, 1]. 0 is without influence.
    signed : bool
    grid : Grid
        Where the values lie on the plane.
    target : str
        What is explained.
    likely : tuple of Likely
        The likeliest classes.
    gap : float or None
        Completeness gap of integrated gradients and DeepLift, as a share.
    nodes : int or None
        Steps of integrated gradients.
    total_variation : float
        Of the map (arXiv 2006.09373).
    length : float or None
        Euclidean length of the gradient, of the method gradient.
    note : str
        What to know about the map.
    check : Check or None
    inside : Inside or None
        Where an object was given.
    provenance : dict
    """

    values: NDArray[np.float32]
    signed: bool
    grid: Grid
    target: str
    likely: tuple[Likely, ...]
    gap: float | None
    nodes: int | None
    total_variation: float
    length: float | None
    note: str
    check: Check | None
    inside: Inside | None
    provenance: dict[str, Any]


def predict(image: Image, options: NeuronOptions, context: Context) -> Predicted:
    """Classify what the network sees of a plane.

    Raises
    ------
    ImageError
        The image cannot be used; the message says what to do.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    with opened(options, context) as subject:
        seen = see(image, subject, context)
        likely = subject.likely(subject.logits(seen))
        shape = (subject.size, subject.size)
        return Predicted(likely, seen.pixels, seen.grid(shape), subject.provenance(seen))


def run(
    image: Image, options: SaliencyOptions, context: Context, mask: Image | None = None
) -> Explained:
    """Map what a class or a neuron depends on.

    Parameters
    ----------
    image : Image
        Of any type and size; one plane is looked at.
    options : SaliencyOptions
    context : Context
    mask : Image, optional
        Labels, not 0 where an object is, with as many slices as the image, or one: what share of
        the map lies on it?

    Raises
    ------
    ImageError, OptionError, ValueError
        Image, mask, target, layer and method do not go together; the message says what to do.
    UntraceableError
        The method needs a network that can be traced.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    started = time.monotonic()
    with opened(options, context) as subject:
        planes = Planes(image, options, context.check)
        seen = see_plane(planes, options.plane, subject)
        # Before the work, as a mask that does not fit is to be said at once.
        marked = None if mask is None else seen_mask(mask, planes, seen, subject)
        logits = subject.logits(seen)
        target, name = target_of(options.target, subject, logits)
        x = seen.tensor(subject.device)
        chosen = _Method(subject, target, options)
        values, gap, nodes, note = chosen(subject.network, x, context.part(0, 2, "map"))
        shown = chosen.picture(values)[0]
        check = None
        if options.check:
            check = _checked(chosen, x[0], values, context.part(1, 2, "check"))
        length = float(values.norm()) if options.method == "gradient" else None
        return Explained(
            shown.float().numpy(),
            chosen.signed,
            seen.grid((shown.shape[0], shown.shape[1])),
            name,
            subject.likely(logits),
            gap,
            nodes,
            float(saliency_tv(shown[None])[0]),
            length,
            note,
            check,
            None if marked is None else _inside(chosen.over_pixels(values)[0], marked),
            subject.provenance(seen) | {"seconds": round(time.monotonic() - started, 3)},
        )


class _Method:
    """One way to make a map, of any network with the same layers."""

    def __init__(self, subject: Subject, target: Target, options: SaliencyOptions) -> None:
        self.network, self.target, self.options = subject.network, target, options
        self.size = subject.size
        self.cam = options.method in CAMS
        self.signed = not self.cam
        self.layer = layer_name(options.layer, subject) if self.cam else ""

    def __call__(
        self, network: nn.Module, x: Tensor, context: Context
    ) -> tuple[Tensor, float | None, int | None, str]:
        """Return maps of images ``B x 3 x H x W``, gap, nodes and a note."""
        options = self.options
        if self.cam:
            maps = class_activation_map(
                network, x, self.target, self.layer, options.method, options.batch, context
            )
            return maps, None, None, ""
        found = explain(network, x, self.target, options.method, options, context)
        return found.values, found.gap, found.nodes, found.note

    def picture(self, values: Tensor) -> Tensor:
        """Return maps over positions, the largest magnitude of each 1."""
        if values.ndim == 4:
            return signed_map(values)
        top = values.abs().amax((1, 2), keepdim=True)
        return values / torch.where(top > 0, top, 1)

    def over_pixels(self, values: Tensor) -> Tensor:
        """Return one value for each pixel that the network sees."""
        shown = self.picture(values)
        return enlarged(shown, (self.size, self.size)) if self.cam else shown


def _inside(relevance: Tensor, marked: NDArray[np.bool_]) -> Inside:
    mask = torch.from_numpy(marked)
    return Inside(
        pointing_game(relevance, mask), relevance_mass(relevance, mask), float(marked.mean())
    )


def _checked(method: _Method, image: Tensor, values: Tensor, context: Context) -> Check:
    network, target, options = method.network, method.target, method.options
    quiet = Context(context.device, token=context.token)
    curves = faithfulness(
        network,
        image,
        target,
        method.over_pixels(values)[0],
        seed=options.seed,
        batch=options.batch,
        context=context.part(0, 3, "deletion and insertion"),
    )

    def maps_of(images: Tensor) -> Tensor:
        return method(network, images, quiet)[0].to(images)

    context.progress(1, 3, "noise")
    sensitivity = max_sensitivity(
        maps_of, image[None], seed=options.seed, batch=options.batch, context=quiet
    )
    error = None
    if options.method in ("gradient", "smoothgrad"):
        error = float(
            infidelity(
                network,
                image[None],
                target,
                values,
                seed=options.seed,
                batch=options.batch,
                context=quiet,
            )[0]
        )
    randomised = randomisation(
        network,
        lambda other: method(other, image[None], quiet)[0],
        layers=3,
        seed=options.seed,
        context=context.part(2, 3, "random weights"),
    )
    return Check(curves, float(sensitivity[0]), error, randomised)
