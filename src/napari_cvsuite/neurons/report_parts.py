"""What the report on a pair of classifiers holds, section by section.

Wherever two values stand side by side, the first is of the standard network S, the second of the
adversarially trained network R (Chen et al. 2020, arXiv 2006.09373).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.neurons.bias import Conflict
from napari_cvsuite.neurons.control_accuracy import ControlRow
from napari_cvsuite.neurons.controls import CorruptionError
from napari_cvsuite.neurons.dissecting import Dissected
from napari_cvsuite.neurons.shape_bias import PEOPLE
from napari_cvsuite.neurons.smoothness import KernelSmoothness
from napari_cvsuite.neurons.units import Comparison
from napari_cvsuite.reports.intervals import Interval
from napari_cvsuite.training.accuracy import Rate

__all__ = [
    "RELIABLE",
    "AblationPart",
    "AccuracyPart",
    "ActivationRow",
    "BiasPart",
    "ConceptRow",
    "DissectionPart",
    "DiversityPart",
    "DiversityRow",
    "Examples",
    "KernelRow",
    "NoisePart",
    "NoiseRow",
    "SaliencyRow",
    "SilencedRow",
    "SmoothnessPart",
]

RELIABLE = 0.05
"""Family-wise p up to which a detector is unlikely to be chance."""


@dataclass(frozen=True)
class AccuracyPart:
    """Accuracy as the images are, attacked, and distorted.

    Parameters
    ----------
    clean, attacked : tuple of two Rate
        Over all images.
    eps : float
        L2 radius of the attack, projected gradient descent in ten steps.
    eps_source : str
        Where the radius is from.
    both : int
        Number of images that S and R name rightly; the controls are on these.
    controls : tuple of ControlRow
        The attack is the last one.
    corruption : CorruptionError or None
        Errors of R as multiples of those of S; without the controls under which S makes none.
    """

    clean: tuple[Rate, Rate]
    attacked: tuple[Rate, Rate]
    eps: float
    eps_source: str
    both: int
    controls: tuple[ControlRow, ...]
    corruption: CorruptionError | None

    def in_words(self) -> str:
        """Return one sentence."""
        return (
            f"Of {self.clean[0].n} images S names {self.clean[0].value:.1%} rightly and R "
            f"{self.clean[1].value:.1%}; attacked within an L2 radius of {self.eps:.3g} S still "
            f"names {self.attacked[0].value:.1%} and R {self.attacked[1].value:.1%}."
        )


@dataclass(frozen=True)
class BiasPart:
    """Decisions on images whose shape and texture disagree."""

    standard: Conflict
    robust: Conflict

    def in_words(self) -> str:
        """Return one sentence, and what the numbers may be compared with."""
        shown = []
        for one in (self.standard, self.robust):
            rate = one.bias.total.bias
            shown.append("none" if rate is None else f"{rate.value:.1%}")
        return (
            f"Where shape or texture decides, it is shape in {shown[0]} of the decisions of S and "
            f"{shown[1]} of those of R; people: {PEOPLE[0]:.0%} to {PEOPLE[1]:.0%}. "
            f"{self.standard.note}"
        ).strip()


@dataclass(frozen=True)
class KernelRow:
    """Kernels of a convolution in S and in R."""

    layer: str
    standard: KernelSmoothness
    robust: KernelSmoothness


@dataclass(frozen=True)
class ActivationRow:
    """Activations of a layer on images.

    Parameters
    ----------
    layer : str
    channels : int
    tv, tv_over_l1 : tuple of two float
        Mean total variation of its maps, and that over the mean sum of magnitudes.
    outliers : tuple of two int
        Channels whose total variation noise changes by 0.2 of the mean of S or more.
    """

    layer: str
    channels: int
    tv: tuple[float, float]
    tv_over_l1: tuple[float, float]
    outliers: tuple[int, int]


@dataclass(frozen=True)
class SaliencyRow:
    """Signed gradient maps of the predicted class, means over images."""

    measure: str
    standard: Interval
    robust: Interval


@dataclass(frozen=True)
class Examples:
    """Images with the signed gradient maps of both networks.

    Parameters
    ----------
    images : ndarray of uint8, shape (N, S, S, 3)
    standard, robust : ndarray of float32, shape (N, S, S)
        In [-1, 1].
    """

    images: NDArray[np.uint8]
    standard: NDArray[np.float32]
    robust: NDArray[np.float32]


@dataclass(frozen=True)
class SmoothnessPart:
    """How smooth kernels, activations and saliency maps are; the last two need images.

    Parameters
    ----------
    kernels : tuple of KernelRow
        Of all convolutions, the first one first; those of 1 x 1 are left out.
    mean : KernelRow
        Mean over these layers, each counted with its channels.
    activations : tuple of ActivationRow
    saliency : tuple of SaliencyRow
    examples : Examples or None
    """

    kernels: tuple[KernelRow, ...]
    mean: KernelRow
    activations: tuple[ActivationRow, ...] = ()
    saliency: tuple[SaliencyRow, ...] = ()
    examples: Examples | None = None

    def in_words(self) -> str:
        """Return one sentence."""
        first = self.kernels[0]
        text = (
            f"The first kernels have a total variation of {first.standard.tv_over_l1:.3f} of "
            f"their magnitude in S and {first.robust.tv_over_l1:.3f} in R"
        )
        if self.activations:
            fewer = sum(row.outliers[1] < row.outliers[0] for row in self.activations)
            text += (
                f"; noise makes outliers of fewer channels of R than of S in {fewer} of "
                f"{len(self.activations)} layers"
            )
        return text + "."


@dataclass(frozen=True)
class NoiseRow:
    """What noise does to a layer.

    Parameters
    ----------
    layer : str
    change : tuple of two Interval
        Mean absolute change over mean activation.
    ratio : Interval
        That of R over that of S; below 1, R blocks more noise.
    tv_ratio : tuple of two float
        Total variation of noisy over that of clean images.
    """

    layer: str
    change: tuple[Interval, Interval]
    ratio: Interval
    tv_ratio: tuple[float, float]


@dataclass(frozen=True)
class NoisePart:
    """What noise of deviation `sigma` does to each layer, over `n` images."""

    sigma: float
    n: int
    layers: tuple[NoiseRow, ...]

    def in_words(self) -> str:
        """Return one sentence."""
        ratios = [row.ratio.value for row in self.layers]
        return (
            f"Noise of deviation {self.sigma:g} changes the activations of R by {min(ratios):.2f} "
            f"to {max(ratios):.2f} times what it changes those of S, less in "
            f"{sum(one < 1 for one in ratios)} of {len(ratios)} layers."
        )


@dataclass(frozen=True)
class ConceptRow:
    """A concept of the masks, and the channels that detect it.

    Parameters
    ----------
    concept, group : str
    area : float
        Share of the pixels.
    iou, chance : tuple of two float
        Largest IoU of a channel, and what independent masks would have.
    detectors, reliable : tuple of two int
        Channels that detect it, and those of them whose family-wise p is 0.05 or less.
    """

    concept: str
    group: str
    area: float
    iou: tuple[float, float]
    chance: tuple[float, float]
    detectors: tuple[int, int]
    reliable: tuple[int, int]


@dataclass(frozen=True)
class DissectionPart:
    """Which concepts the channels of a layer detect."""

    standard: Dissected
    robust: Dissected
    concepts: tuple[ConceptRow, ...]
    change: Comparison

    def in_words(self) -> str:
        """Return one sentence."""
        S, R = self.change.detectors
        sure = [sum(row.reliable[place] for row in self.concepts) for place in (0, 1)]
        gained, lost = (
            ", ".join(names) or "nothing" for names in (self.change.gained, self.change.lost)
        )
        return (
            f"In {self.standard.layer} {S:.1%} of the channels of S and {R:.1%} of those of R are "
            f"detectors, {sure[0]} and {sure[1]} channels reliably; R gained {gained} and lost "
            f"{lost}."
        )


@dataclass(frozen=True)
class DiversityRow:
    """Distinct classes among the top images of the channels of a layer.

    Parameters
    ----------
    layer : str
    channels : tuple of two int
        Those that respond to any image.
    classes : tuple of two Interval
        Mean over these channels.
    """

    layer: str
    channels: tuple[int, int]
    classes: tuple[Interval, Interval]


@dataclass(frozen=True)
class DiversityPart:
    """How many types of inputs channels detect; definition of this project.

    Parameters
    ----------
    top : int
        Images of each channel.
    n, classes : int
        Of how many images, and classes.
    layers : tuple of DiversityRow
    total : DiversityRow
        Channels of all layers together.
    """

    top: int
    n: int
    classes: int
    layers: tuple[DiversityRow, ...]
    total: DiversityRow

    def in_words(self) -> str:
        """Return one sentence."""
        S, R = self.total.classes
        return (
            f"The {self.top} images that excite a channel most are of {S.value:.2f} classes in S "
            f"and {R.value:.2f} in R, of {self.classes} classes, on average over all channels."
        )


@dataclass(frozen=True)
class SilencedRow:
    """Errors of a network of which one channel at a time is set to zero.

    Parameters
    ----------
    errors : ndarray of float64, shape (C,)
        Share of images named wrongly; 0 with all channels.
    mean : Interval
        Over channels.
    largest : float
    channel : int
        That of the largest error.
    """

    errors: NDArray[np.float64]
    mean: Interval
    largest: float
    channel: int


@dataclass(frozen=True)
class AblationPart:
    """What silencing each channel of a layer does, on images that S and R name rightly."""

    layer: str
    n: int
    standard: SilencedRow
    robust: SilencedRow

    def in_words(self) -> str:
        """Return one sentence."""
        S, R = self.standard, self.robust
        return (
            f"Without one channel of {self.layer} S errs on {S.mean.value:.2%} of the images on "
            f"average and on {S.largest:.1%} at worst, R on {R.mean.value:.2%} and {R.largest:.1%}."
        )
