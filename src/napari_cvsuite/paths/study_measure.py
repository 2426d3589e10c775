"""What a study measures of one trained transformer.

All scores are of test images that neither training nor any choice has seen. Choices are made on
the part that training held out: it chose the epoch; on all of it paths are pruned; on three
quarters of it weights of the paths are fitted, and the last quarter ends the fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.subject import Subject
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths.combine import final_from_layer, fit_scale, greedy_prune
from napari_cvsuite.paths.decompose import collect
from napari_cvsuite.paths.pruning import change, rows_of_images
from napari_cvsuite.paths.rows import Rows, Score, rows_from, score
from napari_cvsuite.paths.scaling import STOPPING
from napari_cvsuite.paths.subject import batches, names_of, quietly, transformer
from napari_cvsuite.paths.views import logit_lens, token_norm
from napari_cvsuite.reports.intervals import Interval
from napari_cvsuite.training.accuracy import Rate, wilson
from napari_cvsuite.training.labelled import Labelled, hold_out

__all__ = ["Gain", "Measured", "measure"]

BATCH = 64


@dataclass(frozen=True)
class Gain:
    """What a change of the final sum does.

    Parameters
    ----------
    off : tuple of str
        Paths that were left out, in this order; empty where weights were fitted.
    chosen_on : tuple of two Score
        Without and with the change, of the images of the choice.
    test : tuple of two Score
        Of the test images, which had no say in it.
    change : Interval
        Of the accuracy on these, with the 95 % interval of a paired bootstrap over images.
    """

    off: tuple[str, ...]
    chosen_on: tuple[Score, Score]
    test: tuple[Score, Score]
    change: Interval


@dataclass(frozen=True)
class Measured:
    """One transformer of L layers on the test images.

    Parameters
    ----------
    accuracy : Rate
    loss : float
        Mean cross-entropy.
    lens : tuple of float
        Accuracy of the classifier on the sum after 0, 1, ..., L layers.
    from_layer : tuple of float
        Accuracy of the final sum from layer path 0, 1, ..., L on.
    stream : tuple of float
        Mean length of the patch tokens in the stream after 0, 1, ..., L layers.
    pruned : Gain
        Greedy pruning.
    scaled : dict of str to Gain
        EnsembleScale in the final sum, fitted to the trained network: ``scalar``, ``channel``.
    """

    accuracy: Rate
    loss: float
    lens: tuple[float, ...]
    from_layer: tuple[float, ...]
    stream: tuple[float, ...]
    pruned: Gain
    scaled: dict[str, Gain]


def measure(
    subject: Subject, held: Labelled, test: Labelled, seed: int, context: Context
) -> Measured:
    """Measure a trained transformer.

    Parameters
    ----------
    subject : Subject
    held : Labelled
        Images on which choices are made.
    test : Labelled
    seed : int
        Of the parts of the first, and of the intervals.
    context : Context

    Raises
    ------
    ValueError
        A class has too few held-out images.
    Cancelled
    """
    model, quiet = transformer(subject), quietly(context)
    fit, stopping = (
        rows_of_images(part, BATCH, subject, quiet) for part in hold_out(held, STOPPING, seed)
    )
    found: list[Rows] = []
    lens: list[Tensor] = []
    lengths: list[Tensor] = []
    for x, labels in batches(test, BATCH, subject, context):
        paths = collect(model, x, quiet)
        found.append(rows_from(model, paths, labels))
        lens.append(logit_lens(model, paths).argmax(dim=-1))
        lengths.append(token_norm(model, paths).mean(dim=-1))
    rows, chosen_on = _joined(found), _joined([fit, stopping])
    labels, whole = rows.wanted(model.config.num_classes), score(model, rows)
    pruning = greedy_prune(model, chosen_on, context=quiet)
    scaled = {}
    for kind in ("scalar", "channel"):
        fitted = fit_scale(model, fit, stopping, kind == "channel", context=quiet)
        scaled[kind] = _gain(model, chosen_on, rows, fitted.alpha, (), seed)
    off = tuple(names_of(model)[number] for number in pruning.removed)
    return Measured(
        accuracy=wilson(round(whole.accuracy * whole.images), whole.images),
        loss=whole.loss,
        lens=_right(torch.cat(lens, dim=1), labels),
        from_layer=_right(final_from_layer(model, rows).argmax(dim=-1), labels),
        stream=tuple(torch.cat(lengths, dim=1).mean(dim=1).tolist()),
        pruned=_gain(model, chosen_on, rows, pruning.alpha, off, seed),
        scaled=scaled,
    )


def _joined(parts: list[Rows]) -> Rows:
    """Return the rows of several sets of labelled images as those of one."""
    labels = torch.cat([part.labels for part in parts if part.labels is not None])
    return Rows(torch.cat([part.values for part in parts], dim=1), labels)


def _gain(
    model: VisionTransformer,
    chosen_on: Rows,
    test: Rows,
    alpha: Tensor,
    off: tuple[str, ...],
    seed: int,
) -> Gain:
    first, second = (
        (score(model, rows), score(model, rows, alpha.to(rows.values)))
        for rows in (chosen_on, test)
    )
    return Gain(off, first, second, change(model, test, alpha, seed))


def _right(guesses: Tensor, labels: Tensor) -> tuple[float, ...]:
    """Return the share of right guesses ``N x images``."""
    return tuple((guesses == labels).double().mean(dim=1).tolist())
