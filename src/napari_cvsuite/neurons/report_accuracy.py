"""Accuracy of a pair of classifiers: as the images are, attacked, and distorted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.attack import pgd, suggested_eps
from napari_cvsuite.models.catalog import ModelCard
from napari_cvsuite.neurons.bias import ATTACK, ControlRow
from napari_cvsuite.neurons.controls import CONTROLS, CorruptionError, corruption_error, distorted
from napari_cvsuite.neurons.report_parts import AccuracyPart
from napari_cvsuite.training.accuracy import Rate, wilson
from napari_cvsuite.training.labelled import Labelled, tensors

__all__ = ["Networks", "accuracy", "attack_radius", "batches"]

STEPS = 10
"""Of the attack."""
CIFAR_SIDE, CIFAR_RADIUS = 32, 0.5
"""The usual L2 radius of attacks on images of 32 x 32 pixels."""

Networks = tuple[nn.Module, nn.Module]
"""The standard network S and the robust network R."""
_Bools = NDArray[np.bool_]
_Change = Callable[[nn.Module, Tensor, Tensor, int], Tensor]


def attack_radius(robust: ModelCard) -> tuple[float, str]:
    """Return the L2 radius to attack a pair with, and where it is from.

    Parameters
    ----------
    robust : ModelCard
        Of the robust network.
    """
    training, size = robust.training, robust.input.tile
    if training.get("adversarial") == "l2" and float(training.get("eps", 0)) > 0:
        return float(training["eps"]), "the radius that R was trained with"
    if size == CIFAR_SIDE:
        return CIFAR_RADIUS, "usual for images of 32 x 32 pixels"
    return suggested_eps(size, size), "suggested for this size (definition of this project)"


def accuracy(
    networks: Networks, data: Labelled, radius: tuple[float, str], batch: int, context: Context
) -> tuple[AccuracyPart, Labelled]:
    """Measure accuracy; return it and the images that both networks name rightly.

    Parameters
    ----------
    networks : tuple of two nn.Module
    data : Labelled
    radius : (float, str)
        L2 radius of the attack, and where it is from.
    batch : int
        Images at a time.
    context : Context

    Raises
    ------
    ValueError
        There is no image that both name rightly.
    """
    kinds = [
        (control.name, level)
        for control in CONTROLS.values()
        if not control.of_mask
        for level in control.levels or (None,)
    ]
    passes = 2 * (2 + len(kinds))

    def rightly(number: int, what: str, data: Labelled, change: _Change) -> list[_Bools]:
        return [
            _right(one, data, change, batch, context.part(2 * number + place, passes, what))
            for place, one in enumerate(networks)
        ]

    clean = rightly(0, "accuracy", data, lambda network, x, labels, first: x)
    common = np.flatnonzero(clean[0] & clean[1])
    if not len(common):
        raise ValueError(
            "no image is named rightly by both models; give images of classes that both know"
        )
    attacked = rightly(1, "attack", data, partial(_attacked, eps=radius[0], context=context))
    kept, rows = data.part(common), []
    for number, (name, level) in enumerate(kinds, 2):
        right = rightly(number, name, kept, partial(_distorted, name=name, level=level))
        rows.append(ControlRow(name, level, CONTROLS[name].tag, _rates(right)))
    errors = _corruptions(rows)
    stood = _rates([one[common] for one in attacked])
    rows.append(ControlRow(ATTACK, radius[0], "secondary", stood))
    part = AccuracyPart(_rates(clean), _rates(attacked), *radius, len(common), tuple(rows), errors)
    return part, kept


def batches(
    network: nn.Module, data: Labelled, batch: int, context: Context
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the number of the first image, images and labels, on the network's device."""
    device = next(network.parameters()).device
    for first in range(0, len(data), batch):
        context.progress(first, len(data), "images")
        x = tensors(data.images[first : first + batch]).to(device)
        yield first, x, torch.from_numpy(data.labels[first : first + batch]).to(device)


def _attacked(
    network: nn.Module, x: Tensor, labels: Tensor, first: int, eps: float, context: Context
) -> Tensor:
    inner = Context(token=context.token)
    return pgd(network, x, labels, "l2", eps, 2.5 * eps / STEPS, STEPS, inner).images


def _distorted(
    network: nn.Module, x: Tensor, labels: Tensor, first: int, name: str, level: float | None
) -> Tensor:
    return distorted(x, name, level, first=first)


def _right(
    network: nn.Module, data: Labelled, change: _Change, batch: int, context: Context
) -> _Bools:
    """Return which images are named rightly after a change."""
    found = []
    for first, x, labels in batches(network, data, batch, context):
        changed = change(network, x, labels, first)
        with torch.inference_mode():
            found.append((network(changed).argmax(dim=1) == labels).cpu().numpy())
    return np.concatenate(found)


def _rates(right: Sequence[_Bools]) -> tuple[Rate, Rate]:
    first, second = (wilson(int(one.sum()), len(one)) for one in right)
    return first, second


def _corruptions(rows: Sequence[ControlRow]) -> CorruptionError | None:
    """Weigh the errors of R by those of S, of the controls under which S errs."""
    errors: tuple[dict[str, list[float]], dict[str, list[float]]] = ({}, {})
    for row in rows:
        for found, rate in zip(errors, row.rates, strict=True):
            found.setdefault(row.control, []).append(1 - rate.value)
    usable = [name for name, found in errors[0].items() if sum(found)]
    if not usable:
        return None
    S, R = ({name: found[name] for name in usable} for found in errors)
    return corruption_error(R, S)
