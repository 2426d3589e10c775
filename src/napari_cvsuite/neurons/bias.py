"""Shape or texture: cue-conflict images, and accuracy on distorted copies of labelled images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from napari_cvsuite.neurons.controls import CONTROLS, distorted
from napari_cvsuite.neurons.options import BiasOptions
from napari_cvsuite.neurons.shape_bias import (
    ShapeBias,
    categories16,
    categories_of,
    parse_name,
    shape_bias,
)
from napari_cvsuite.training.accuracy import Rate, wilson
from napari_cvsuite.training.labelled import Labelled, find_labelled, read_labelled, tensors

__all__ = [
    "Conflict",
    "ControlRow",
    "conflict",
    "control_rows",
    "controls",
    "controls_of_folder",
    "find_stimuli",
]

ATTACK = "adversarial"
"""Name of the row of images changed by an attack, of the suggested L2 radius in ten steps."""
IMAGENET = 1000


@dataclass(frozen=True)
class Conflict:
    """Outcome on a folder of cue-conflict images.

    Parameters
    ----------
    bias : ShapeBias
    categories : tuple of str
        Those of the 16 that the classifier has.
    note : str
        What the numbers may be compared with.
    provenance : dict
    """

    bias: ShapeBias
    categories: tuple[str, ...]
    note: str
    provenance: dict[str, Any]

    def in_words(self) -> str:
        """Return one line."""
        total = self.bias.total
        rate = total.bias
        shown = "none" if rate is None else f"{rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]"
        return (
            f"shape bias {shown}; shape {total.shape_share:.3f}, texture "
            f"{total.texture_share:.3f} of {total.n} images. {self.note}"
        ).strip()


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


def find_stimuli(folder: Path) -> list[Path]:
    """Return the cue-conflict images in a folder and its folders, by name.

    Raises
    ------
    ValueError
        There is none.
    """
    found = []
    for path in sorted(folder.rglob("*.png")):
        try:
            parse_name(path.name)
        except ValueError:
            continue
        found.append(path)
    if not found:
        raise ValueError(
            f"{folder} holds no cue-conflict image; they are named SHAPE1-TEXTURE1.png, such as "
            "cat3-elephant1.png"
        )
    return found


def conflict(folder: Path, options: BiasOptions, context: Context) -> Conflict:
    """Count decisions for shape and for texture on cue-conflict images (Geirhos et al. 2019).

    Parameters
    ----------
    folder : Path
        Of images named ``SHAPE1-TEXTURE1.png``.
    options : BiasOptions
        With the model.
    context : Context

    Raises
    ------
    ValueError, ImageError
        There is no such image, one cannot be read, or the classifier knows fewer than two of the
        categories.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    paths = find_stimuli(folder)
    with opened(options, context) as subject:
        card = subject.card
        known = categories16() if len(card.classes) == IMAGENET else categories_of(card.classes)
        usable = [path for path in paths if set(parse_name(path.name)) <= set(known)]
        if not usable:
            raise ValueError(f"no image of {folder} has categories that {card.name} knows")
        logits = []
        for start in range(0, len(usable), options.batch):
            context.progress(start, len(usable), "deciding")
            part = [(path, "") for path in usable[start : start + options.batch]]
            data = read_labelled(part, subject.size, Context(token=context.token), ("",))
            with torch.inference_mode():
                logits.append(subject.network(tensors(data.images).to(subject.device)).cpu())
        names = [path.name for path in usable]
        found = shape_bias(torch.cat(logits).float(), names, known, options.rule)
        note = ""
        if len(card.classes) != IMAGENET:
            note = "Own classes: not comparable with published values."
        return Conflict(found, tuple(known), note, subject.provenance())


def controls(
    data: Labelled, models: Sequence[str], options: BiasOptions, context: Context
) -> list[ControlRow]:
    """Measure classifiers on distorted copies of the images that all of them name rightly.

    Parameters
    ----------
    data : Labelled
        Of the size and classes of the models.
    models : sequence of str
    options : BiasOptions
    context : Context

    Returns
    -------
    list of ControlRow
        The images as they are first, with accuracy over all of them; the others on those that all
        models get right (arXiv 2006.09373).

    Raises
    ------
    ValueError
        There is no image that all models get right.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    rights, found = [], []
    for number, name in enumerate(models):
        with opened(options, context, name) as subject:
            _require(data, subject.size, subject.card.classes, name)
            part = context.part(number, 2 * len(models), name)
            rights.append(_right(subject.network, data, None, options, part))
    common = np.flatnonzero(np.logical_and.reduce(rights))
    if not len(common):
        raise ValueError("no image is named rightly by all models; choose others")
    kept = data.part(common)
    for number, name in enumerate(models, len(models)):
        with opened(options, context, name) as subject:
            part = context.part(number, 2 * len(models), name)
            found.append(
                [int(_right(subject.network, kept, one, options, part).sum()) for one in _kinds()]
            )
    rows = [ControlRow("none", None, "paper", tuple(wilson(int(r.sum()), len(r)) for r in rights))]
    for place, (control, level) in enumerate(_kinds()):
        tag = CONTROLS[control].tag if control in CONTROLS else "secondary"
        rates = tuple(wilson(counts[place], len(kept)) for counts in found)
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


def control_rows(found: Sequence[ControlRow], models: Sequence[str]) -> list[dict[str, Any]]:
    """Return rows for a table: control, level, tag, and accuracy with interval of each model."""
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
    return rows


def _require(data: Labelled, size: int, classes: Sequence[str], name: str) -> None:
    if tuple(classes) != data.classes or data.images.shape[1] != size:
        raise ImageError(
            f"{name} takes {size} pixels and the classes {', '.join(classes)}; compare models that "
            "take the same"
        )


def _kinds() -> Iterator[tuple[str, float | None]]:
    for control in CONTROLS.values():
        if not control.of_mask:
            yield from ((control.name, level) for level in control.levels or (None,))
    yield ATTACK, None


def _right(
    network: nn.Module,
    data: Labelled,
    kind: tuple[str, float | None] | None,
    options: BiasOptions,
    context: Context,
) -> NDArray[np.bool_]:
    """Return which images are named rightly after a distortion."""
    device = next(network.parameters()).device
    found = []
    for start in range(0, len(data), options.batch):
        context.progress(start, len(data), "as it is" if kind is None else kind[0])
        x = tensors(data.images[start : start + options.batch]).to(device)
        labels = torch.from_numpy(data.labels[start : start + options.batch])
        if kind is not None:
            x = _changed(network, x, labels.to(device), kind, start, context)
        with torch.inference_mode():
            found.append((network(x).argmax(dim=1).cpu() == labels).numpy())
    return np.concatenate(found)


def _changed(
    network: nn.Module,
    x: Tensor,
    labels: Tensor,
    kind: tuple[str, float | None],
    first: int,
    context: Context,
) -> Tensor:
    if kind[0] != ATTACK:
        return distorted(x, kind[0], kind[1], first=first)
    eps = suggested_eps(*x.shape[2:])
    return pgd(network, x, labels, "l2", eps, eps / 4, 10, context).images
