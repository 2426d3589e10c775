"""Accuracy of a pair of classifiers: as the images are, attacked, and distorted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.attack import suggested_eps
from napari_cvsuite.models.catalog import ModelCard
from napari_cvsuite.neurons.control_accuracy import (
    ATTACK,
    Change,
    ControlRow,
    attacked,
    control_changes,
    corruption_errors,
    named_rightly,
    unchanged,
)
from napari_cvsuite.neurons.controls import CONTROLS
from napari_cvsuite.neurons.report_parts import AccuracyPart
from napari_cvsuite.training.accuracy import Rate, wilson
from napari_cvsuite.training.labelled import Labelled

__all__ = ["Networks", "accuracy", "attack_radius"]

CIFAR_SIDE, CIFAR_RADIUS = 32, 0.5
"""The usual L2 radius of attacks on images of 32 x 32 pixels."""

Networks = tuple[nn.Module, nn.Module]
"""The standard network S and the robust network R."""
_Bools = NDArray[np.bool_]


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
    changes = control_changes()
    passes = 2 * (2 + len(changes))

    def rightly(number: int, what: str, data: Labelled, change: Change) -> list[_Bools]:
        return [
            named_rightly(one, data, change, batch, context.part(2 * number + place, passes, what))
            for place, one in enumerate(networks)
        ]

    clean = rightly(0, "accuracy", data, unchanged)
    common = np.flatnonzero(clean[0] & clean[1])
    if not len(common):
        raise ValueError(
            "no image is named rightly by both models; give images of classes that both know"
        )
    after = rightly(1, "attack", data, partial(attacked, eps=radius[0]))
    kept, rows = data.part(common), []
    for number, ((name, level), change) in enumerate(changes.items(), 2):
        right = rightly(number, name, kept, change)
        rows.append(ControlRow(name, level, CONTROLS[name].tag, _rates(right)))
    stood = _rates([one[common] for one in after])
    rows.append(ControlRow(ATTACK, radius[0], "secondary", stood))
    (errors,) = corruption_errors(rows)
    part = AccuracyPart(_rates(clean), _rates(after), *radius, len(common), tuple(rows), errors)
    return part, kept


def _rates(right: Sequence[_Bools]) -> tuple[Rate, Rate]:
    first, second = (wilson(int(one.sum()), len(one)) for one in right)
    return first, second
