"""What paths are worth over labelled images: accuracy and loss without each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.subject import Subject
from napari_cvsuite.paths.decompose import collect, direct
from napari_cvsuite.paths.labelled_options import InfluenceOptions, effect_list
from napari_cvsuite.paths.replace import Replacement, mean_replacement
from napari_cvsuite.paths.subject import (
    LabelledInputs,
    batches,
    labelled_images,
    model_opened,
    names_of,
    provenance,
    quietly,
    transformer,
)
from napari_cvsuite.paths.whatif import each, part_names
from napari_cvsuite.reports.intervals import Interval, bootstrap_mean
from napari_cvsuite.training.accuracy import Rate, wilson
from napari_cvsuite.training.labelled import Labelled

__all__ = ["Effect", "Influence", "run"]


@dataclass(frozen=True)
class Effect:
    """What taking one part away does to the predictions of all images.

    Parameters
    ----------
    path : str
        The part: a path, a layer or a head.
    intervention, replacement : str
    accuracy, loss : Interval
        Change of the share of images named rightly, and of the mean cross-entropy, against the
        whole network: below 0 the accuracy falls, above 0 the loss rises. The 95 % intervals are
        of a paired bootstrap over images (of each image its own change is resampled).
    """

    path: str
    intervention: str
    replacement: str
    accuracy: Interval
    loss: Interval


@dataclass(frozen=True)
class Influence:
    """Outcome over labelled images.

    Parameters
    ----------
    effects : tuple of Effect
        By intervention, then in the order of the sum.
    names : tuple of str
        Of the paths.
    alone : tuple of Rate
        Accuracy of each path's direct share alone, without the constant (our definition); none
        where the network's head has a tanh, so that there are no such shares.
    accuracy : Rate
        Of the whole network.
    loss : float
    provenance : dict
    """

    effects: tuple[Effect, ...]
    names: tuple[str, ...]
    alone: tuple[Rate, ...]
    accuracy: Rate
    loss: float
    provenance: dict[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each part and intervention."""
        alone = {name: rate.value for name, rate in zip(self.names, self.alone, strict=False)}
        return [
            {
                "path": one.path,
                "intervention": one.intervention,
                "replacement": one.replacement,
                "accuracy_change": one.accuracy.value,
                "accuracy_low": one.accuracy.low,
                "accuracy_high": one.accuracy.high,
                "loss_change": one.loss.value,
                "loss_low": one.loss.low,
                "loss_high": one.loss.high,
                "share_alone": alone.get(one.path),
                "n": self.accuracy.n,
            }
            for one in self.effects
        ]


@dataclass
class _Kept:
    """Per image, whether it is named rightly and its cross-entropy, for N variants."""

    right: list[NDArray[np.bool_]]
    loss: list[NDArray[np.float64]]

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Take logits ``N x B x K``."""
        self.right.append((logits.argmax(dim=-1) == labels).cpu().numpy())
        with torch.no_grad():
            losses = [F.cross_entropy(one, labels, reduction="none") for one in logits]
        self.loss.append(torch.stack(losses).double().cpu().numpy())

    def joined(self) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return both, of shape (N, images)."""
        return np.concatenate(self.right, axis=1), np.concatenate(self.loss, axis=1)


def run(inputs: LabelledInputs, options: InfluenceOptions, context: Context) -> Influence:
    """Measure what the predictions of labelled images lose without each path.

    Parameters
    ----------
    inputs : LabelledInputs
    options : InfluenceOptions
    context : Context

    Raises
    ------
    ValueError, ImageError
        The images or labels cannot be used.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    kinds = effect_list(options.interventions)
    with model_opened(options, context) as subject:
        data = labelled_images(inputs, options, subject, context.part(0, 10, "reading"))
        replacement = None
        if options.replacement == "mean" and kinds != ("removed_final",):
            inner = context.part(1, 10, "mean")
            replacement = _mean(subject, data, options, inner, "total_head" in kinds)
        kept = _measured(subject, data, options, kinds, replacement, context)
        right, loss = kept["whole"].joined()
        effects = [
            effect
            for kind in kinds
            for effect in _effects(kind, kept[kind], right[0], loss[0], subject, options)
        ]
        shares = kept["alone"]
        alone = shares.joined()[0] if shares.right else np.zeros((0, 0), np.bool_)
        return Influence(
            tuple(effects),
            names_of(transformer(subject)),
            tuple(wilson(int(one.sum()), len(data)) for one in alone),
            wilson(int(right.sum()), len(data)),
            float(loss.mean()),
            provenance(
                subject,
                options,
                interventions=list(kinds),
                replacement=options.replacement,
                images=len(data),
                intervals="paired bootstrap over images, 95 %",
            ),
        )


def _mean(
    subject: Subject, data: Labelled, options: InfluenceOptions, context: Context, heads: bool
) -> Replacement:
    images = (x for x, _ in batches(data, options.batch, subject, context))
    return mean_replacement(transformer(subject), images, heads, quietly(context))


def _measured(
    subject: Subject,
    data: Labelled,
    options: InfluenceOptions,
    kinds: tuple[str, ...],
    replacement: Replacement | None,
    context: Context,
) -> dict[str, _Kept]:
    """Run all interventions on all images."""
    model, quiet = transformer(subject), quietly(context)
    kept = {kind: _Kept([], []) for kind in (*kinds, "whole", "alone")}
    steps = len(kinds) * -(-len(data) // options.batch)
    # Reading was two of ten parts.
    for done, (x, labels) in enumerate(batches(data, options.batch, subject, quiet)):
        paths = collect(model, x, quiet)
        kept["whole"].add(paths.logits[None], labels)
        if paths.unit == "logits":
            kept["alone"].add(direct(model, paths)[:-1], labels)
        for number, kind in enumerate(kinds):
            part = context.part(2, 10, "effects")
            part.progress(8 * (done * len(kinds) + number), steps, kind)
            kept[kind].add(each(model, paths, kind, replacement, quiet), labels)
    return kept


def _effects(
    kind: str,
    kept: _Kept,
    right: NDArray[np.bool_],
    loss: NDArray[np.float64],
    subject: Subject,
    options: InfluenceOptions,
) -> list[Effect]:
    after, losses = kept.joined()
    replacement = "zero" if kind == "removed_final" else options.replacement
    return [
        Effect(
            name,
            kind,
            replacement,
            bootstrap_mean(after[k].astype(np.float64) - right, options.seed),
            bootstrap_mean(losses[k] - loss, options.seed),
        )
        for k, name in enumerate(part_names(kind, transformer(subject)))
    ]
