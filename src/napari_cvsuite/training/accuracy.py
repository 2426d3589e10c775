"""Measure classifiers on labelled images, as they are and under attack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.attack import pgd
from napari_cvsuite.models.device import choose_device
from napari_cvsuite.models.store import default_store
from napari_cvsuite.models.subject import classifier_card
from napari_cvsuite.training.accuracy_options import AccuracyOptions
from napari_cvsuite.training.labelled import (
    Labelled,
    find_labelled,
    hold_out,
    read_labelled,
    tensors,
)

__all__ = ["Accuracy", "Rate", "evaluate", "wilson"]

Z = 1.959964
"""Of a two-sided interval of 95 %."""


@dataclass(frozen=True)
class Rate:
    """A share of images with its 95 % interval by Wilson's method.

    Parameters
    ----------
    value, low, high : float
    n : int
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Accuracy:
    """What a classifier reached.

    Parameters
    ----------
    clean : Rate
        Share of images named rightly.
    recall : float
        Mean over the classes of that share.
    area : float or None
        Area under the receiver operating curve, of two classes.
    attacked : Rate or None
        Share of all images named rightly after the attack, at its iterate of largest loss.
    """

    clean: Rate
    recall: float
    area: float | None = None
    attacked: Rate | None = None

    def in_words(self) -> str:
        """Return one line."""
        shown = (
            f"accuracy {self.clean.value:.4f} [{self.clean.low:.4f}, {self.clean.high:.4f}], mean "
            f"recall {self.recall:.4f}, n = {self.clean.n}"
        )
        if self.area is not None:
            shown += f", area under the curve {self.area:.4f}"
        if self.attacked is not None:
            one = self.attacked
            shown += f"; under attack {one.value:.4f} [{one.low:.4f}, {one.high:.4f}]"
        return shown


def wilson(right: int, n: int) -> Rate:
    """Return a share with its interval (Wilson 1927).

    Parameters
    ----------
    right, n : int
        ``0 <= right <= n``, with n at least 1.
    """
    share = right / n
    middle = (share + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return Rate(share, max(0.0, middle - half), min(1.0, middle + half), n)


def evaluate(
    images: Path,
    models: Sequence[str],
    options: AccuracyOptions,
    context: Context,
    table: Path | None = None,
    column: str = "label",
) -> dict[str, Accuracy]:
    """Measure classifiers on a folder of labelled images.

    Parameters
    ----------
    images : Path
        See :func:`napari_cvsuite.training.labelled.find_labelled`.
    models : sequence of str
    options : AccuracyOptions
    context : Context
    table : Path, optional
    column : str

    Raises
    ------
    ValueError, ImageError
        The images or labels cannot be used, or a label is no class of the model.
    UnknownModelError, CardError, WeightsError, DeviceError
        A model or the device is not to be had.
    """
    found = find_labelled(images, table, column)
    device = choose_device(context.device)
    result = {}
    for number, name in enumerate(models):
        card = classifier_card(name)
        inner = context.part(number, len(models), name)
        data = read_labelled(found, card.input.tile, inner, card.classes)
        if options.held_out:
            data = hold_out(data, options.held_out, options.seed)[1]
        with default_store().lease(card, device, "float32", exclusive=True) as network:
            result[name] = measure(network, data, options, inner)
    return result


def measure(
    network: nn.Module, data: Labelled, options: AccuracyOptions, context: Context
) -> Accuracy:
    """Measure one classifier, which the caller owns."""
    device = next(network.parameters()).device
    logits: list[Tensor] = []
    stood: list[Tensor] = []
    norm, eps, step = options.attack, options.eps, 2.5 * options.eps / options.steps
    starts = range(0, len(data), options.batch)
    for number, start in enumerate(starts):
        context.progress(number, len(starts), "measuring")
        x = tensors(data.images[start : start + options.batch]).to(device)
        labels = torch.from_numpy(data.labels[start : start + options.batch]).to(device)
        with torch.inference_mode():
            logits.append(network(x).cpu())
        if norm == "none":
            continue
        inner = context.part(number, len(starts), "measuring")
        attacked = pgd(network, x, labels, norm, eps, step, options.steps, inner)
        named = attacked.predictions.gather(0, attacked.best[None])[0]
        stood.append(named == labels.cpu())
    scores = torch.cat(logits).double().numpy()
    right = scores.argmax(axis=1) == data.labels
    present = [k for k in range(scores.shape[1]) if (data.labels == k).any()]
    return Accuracy(
        clean=wilson(int(right.sum()), len(right)),
        recall=float(np.mean([right[data.labels == k].mean() for k in present])),
        area=_area(scores[:, 1] - scores[:, 0], data.labels) if scores.shape[1] == 2 else None,
        attacked=wilson(int(torch.cat(stood).sum()), len(right)) if stood else None,
    )


def _area(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float | None:
    """Return the probability that an image of class 1 scores higher than one of class 0."""
    ones, zeros = int((labels == 1).sum()), int((labels == 0).sum())
    if not ones or not zeros:
        return None
    ranks = rankdata(scores)[labels == 1]
    return float((ranks.sum() - ones * (ones + 1) / 2) / (ones * zeros))
