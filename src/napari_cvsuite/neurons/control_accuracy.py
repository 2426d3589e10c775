"""Accuracy on distorted copies of labelled images, of several classifiers side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cvsuite.images import ImageError
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.attack import pgd, suggested_eps
from napari_cvsuite.models.subject import classifier_card, opened
from napari_cvsuite.neurons.controls import CONTROLS, CorruptionError, corruption_error, distorted
from napari_cvsuite.neurons.options import BiasOptions
from napari_cvsuite.training.accuracy import Rate, wilson
from napari_cvsuite.training.labelled import Labelled, find_labelled, read_labelled, tensors

__all__ = [
    "ATTACK",
    "CORRUPTION_WORDS",
    "MEAN_ERROR",
    "Change",
    "ControlRow",
    "attacked",
    "batches",
    "control_changes",
    "control_rows",
    "controls",
    "controls_of_folder",
    "corruption_errors",
    "named_rightly",
    "unchanged",
]

ATTACK = "adversarial"
"""Name of the row of images changed by an attack."""
MEAN_ERROR = "mean corruption error"
"""Name of the row with mCE."""
CORRUPTION_WORDS = (
    "CE: errors under a distortion, at all its levels, as multiples of those of the first model; "
    "below 1 there are fewer. After Hendrycks and Dietterich (arXiv 1903.12261), with the first "
    "model in the place of AlexNet (definition of this project)."
)
"""What the corruption errors of a table are."""
STEPS = 10
"""Of the attack, 2.5 radii in all."""

Change = Callable[[nn.Module, Tensor, Tensor, int, Context], Tensor]
"""(network, images, their labels, number of the first image, context) -> changed images."""


@dataclass(frozen=True)
class ControlRow:
    """Accuracy on one kind of distorted copy.

    Parameters
    ----------
    control : str
    level : float or None
    tag : str
        "paper", "secondary" (of the paper's released code) or "ours".
    rates : tuple of Rate
        One a model, in the order given.
    """

    control: str
    level: float | None
    tag: str
    rates: tuple[Rate, ...]


def controls(
    data: Labelled, models: Sequence[str], options: BiasOptions, context: Context
) -> list[ControlRow]:
    """Measure classifiers on distorted copies of the images that all of them name rightly.

    Parameters
    ----------
    data : Labelled
        Of the size and classes of the models.
    models : sequence of str
        The standard model of a pair first: the others' errors are weighed by its own, see
        :func:`corruption_errors`.
    options : BiasOptions
    context : Context

    Returns
    -------
    list of ControlRow
        The images as they are first, with accuracy over all of them; the others on those that all
        models get right (arXiv 2006.09373). The last ones were changed by an attack of the
        suggested L2 radius in ten steps, on each model by itself.

    Raises
    ------
    ValueError
        There is no image that all models get right.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    rights: list[NDArray[np.bool_]] = []
    found: list[list[int]] = []
    for number, name in enumerate(models):
        with opened(options, context, name) as subject:
            _require(data, subject.size, subject.card.classes, name)
            inner = context.part(number, 2 * len(models), name)
            rights.append(named_rightly(subject.network, data, unchanged, options.batch, inner))
    common = np.flatnonzero(np.logical_and.reduce(rights))
    if not len(common):
        raise ValueError("no image is named rightly by all models; choose others")
    kept = data.part(common)
    changes = control_changes() | {
        (ATTACK, None): partial(attacked, eps=suggested_eps(*data.images.shape[1:3]))
    }
    for number, name in enumerate(models, len(models)):
        with opened(options, context, name) as subject:
            inner = context.part(number, 2 * len(models), name)
            counts = []
            for place, ((control, _), change) in enumerate(changes.items()):
                part = inner.part(place, len(changes), control)
                right = named_rightly(subject.network, kept, change, options.batch, part)
                counts.append(int(right.sum()))
            found.append(counts)
    rows = [ControlRow("none", None, "paper", tuple(wilson(int(r.sum()), len(r)) for r in rights))]
    for (control, level), each in zip(changes, zip(*found, strict=True), strict=True):
        tag = CONTROLS[control].tag if control in CONTROLS else "secondary"
        rates = tuple(wilson(count, len(kept)) for count in each)
        rows.append(ControlRow(control, level, tag, rates))
    return rows


def controls_of_folder(
    images: Path,
    models: Sequence[str],
    options: BiasOptions,
    context: Context,
    table: Path | None = None,
    column: str = "label",
) -> list[ControlRow]:
    """Measure classifiers on distorted copies of a folder of labelled images.

    Parameters
    ----------
    images, table, column
        See :func:`napari_cvsuite.training.labelled.find_labelled`.
    models, options, context
        See :func:`controls`.
    """
    card = classifier_card(models[0])
    found = find_labelled(images, table, column)
    data = read_labelled(found, card.input.tile, context, card.classes)
    return controls(data, models, options, context)


def corruption_errors(rows: Sequence[ControlRow]) -> tuple[CorruptionError | None, ...]:
    """Weigh the errors of all models but the first by those of the first.

    The corruption error of Hendrycks and Dietterich 2019 over the distortions of the rows, with
    the first model, S of a pair, in the place of AlexNet (definition of this project). Distortions
    under which the first model makes no error are left out, and attacks, which differ from model
    to model.

    Parameters
    ----------
    rows : sequence of ControlRow
        See :func:`controls`.

    Returns
    -------
    tuple of CorruptionError or None
        One for each model after the first; None where the first makes no error at all.
    """
    errors: list[dict[str, list[float]]] = [{} for _ in rows[0].rates]
    for row in rows:
        if row.control in CONTROLS:
            for own, rate in zip(errors, row.rates, strict=True):
                own.setdefault(row.control, []).append(1 - rate.value)
    usable = [name for name, found in errors[0].items() if sum(found)]
    if not usable:
        return (None,) * (len(errors) - 1)
    first, *others = ({name: own[name] for name in usable} for own in errors)
    return tuple(corruption_error(own, first) for own in others)


def control_rows(found: Sequence[ControlRow], models: Sequence[str]) -> list[dict[str, Any]]:
    """Return rows for a table.

    Each has control, level, tag, number of images, and accuracy with interval of each model. Of
    several models each after the first has its corruption error besides: that of a distortion in
    the rows of all its levels, and the mean of all in a last row; see :func:`corruption_errors`.
    """
    rows = []
    for one in found:
        row: dict[str, Any] = {
            "control": one.control,
            "level": one.level,
            "tag": one.tag,
            "n": one.rates[0].n,
        }
        for name, rate in zip(models, one.rates, strict=True):
            row |= {name: rate.value, f"{name} low": rate.low, f"{name} high": rate.high}
        rows.append(row)
    if len(models) == 1:
        return rows
    last = dict.fromkeys(rows[-1]) | {"control": MEAN_ERROR, "tag": "ours", "n": rows[-1]["n"]}
    for name, errors in zip(models[1:], corruption_errors(found), strict=True):
        for row in rows:
            row[f"{name} CE"] = None if errors is None else errors.each.get(row["control"])
        last[f"{name} CE"] = None if errors is None else errors.mean
    return [*rows, last]


def named_rightly(
    network: nn.Module, data: Labelled, change: Change, batch: int, context: Context
) -> NDArray[np.bool_]:
    """Return which images are named rightly after a change.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    data : Labelled
    change : callable
        See :data:`Change`.
    batch : int
        Images at a time.
    context : Context
    """
    count, found = -(-len(data) // batch), []
    for number, (first, x, labels) in enumerate(batches(network, data, batch, context)):
        changed = change(network, x, labels, first, context.part(number, count, "images"))
        with torch.inference_mode():
            found.append((network(changed).argmax(dim=1) == labels).cpu().numpy())
    return np.concatenate(found)


def batches(
    network: nn.Module, data: Labelled, batch: int, context: Context
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the number of the first image, images and labels, on the network's device."""
    device = next(network.parameters()).device
    starts = range(0, len(data), batch)
    for number, first in enumerate(starts):
        context.progress(number, len(starts), "images")
        x = tensors(data.images[first : first + batch]).to(device)
        yield first, x, torch.from_numpy(data.labels[first : first + batch]).to(device)


def unchanged(
    network: nn.Module, x: Tensor, labels: Tensor, first: int, context: Context
) -> Tensor:
    """Return the images as they are; a :data:`Change`."""
    return x


def attacked(
    network: nn.Module, x: Tensor, labels: Tensor, first: int, context: Context, *, eps: float
) -> Tensor:
    """Return images attacked within an L2 radius; a :data:`Change`."""
    return pgd(network, x, labels, "l2", eps, 2.5 * eps / STEPS, STEPS, context).images


def control_changes() -> dict[tuple[str, float | None], Change]:
    """Return every distortion that needs no mask, at each level that is offered."""
    return {
        (control.name, level): partial(_distorted, name=control.name, level=level)
        for control in CONTROLS.values()
        if not control.of_mask
        for level in control.levels or (None,)
    }


def _distorted(
    network: nn.Module,
    x: Tensor,
    labels: Tensor,
    first: int,
    context: Context,
    *,
    name: str,
    level: float | None,
) -> Tensor:
    return distorted(x, name, level, first=first)


def _require(data: Labelled, size: int, classes: Sequence[str], name: str) -> None:
    if tuple(classes) != data.classes or data.images.shape[1] != size:
        raise ImageError(
            f"{name} takes {size} pixels and the classes {', '.join(classes)}; compare models that "
            "take the same"
        )
