"""Measure a model on images with known masks, in all, for each group of images, for each class."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images import cut_along, read
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.models.device import choose_device
from napari_cvsuite.segmentation.data import find_pairs, group_of, load_pair
from napari_cvsuite.segmentation.metrics import (
    bootstrap_interval,
    class_counts,
    image_metrics,
    pooled_dice,
)
from napari_cvsuite.segmentation.options import PredictOptions
from napari_cvsuite.segmentation.predictor import Bands, Predictor

__all__ = ["EvaluateInputs", "Evaluation", "Score", "evaluate"]

MEAN = "mean of classes"


@dataclass(frozen=True)
class EvaluateInputs:
    """What to measure on.

    Parameters
    ----------
    images, masks : Path
        Folders whose files match by stem.
    names : tuple of str
        Stems to use; empty takes all.
    groups : Path, optional
        CSV file with the group of each name.
    group_column : str
        Its column.
    ignore : int
        Mask value that is not counted; -1 for none.
    apart : tuple of str
        Classes to leave out of the mean over classes.
    """

    images: Path
    masks: Path
    names: tuple[str, ...] = ()
    groups: Path | None = None
    group_column: str = "kind"
    ignore: int = -1
    apart: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """A Dice coefficient with the 95 % bootstrap interval over `n` images."""

    dice: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` measured.

    Parameters
    ----------
    groups : dict of str to Score
        Mean over images of the plain Dice of each image at original resolution, for ``all``
        images and for each group. In an image, classes count that the prediction or the mask has;
        with two classes this is the Dice of the foreground.
    classes : dict of str to Score
        With more than two classes, the plain Dice of each class over the pixels of all images
        together (`n` of them have it), and ``mean of classes``, over those that the masks have
        but for those to be kept apart. Empty with two classes.
    """

    groups: dict[str, Score]
    classes: dict[str, Score]


def evaluate(inputs: EvaluateInputs, model: str, context: Context, tta: bool = False) -> Evaluation:
    """Segment every image as a prediction would, and compare with its mask.

    Parameters
    ----------
    inputs : EvaluateInputs
    model : str
        Name in the catalogue.
    context : Context
    tta : bool
        Average over flipped and turned copies, as the option of a prediction does.

    Raises
    ------
    ValueError
        Images, masks, names or groups do not match, or a class to be kept apart is none of the
        model's.
    """
    card = Catalogue().get(model)
    for name in set(inputs.apart) - set(card.classes):
        raise ValueError(f"{model} has no class {name!r}; it has {', '.join(card.classes)}")
    pairs = find_pairs(inputs.images, inputs.masks, inputs.names or None)
    groups = group_of(pairs, inputs.groups, inputs.group_column) if inputs.groups else None
    classes = max(len(card.classes), 2)
    options = PredictOptions(model=model, precision="float32", tta=tta)
    # Its own reports of tiles would hide those of images.
    quiet = Context(choose_device(context.device), token=context.token)
    scores: dict[str, list[float]] = defaultdict(list)
    counts = []
    for number, pair in enumerate(pairs):
        context.progress(number, len(pairs), f"measuring on {pair.name}")
        _, truth = load_pair(pair, classes, inputs.ignore)
        cut = cut_along(read(pair.image), "auto")
        plane = next(cut.image.planes())
        predicted = Predictor(card, options, cut, quiet).predict(0, plane, _classes)
        counts.append(class_counts(predicted, truth, classes))
        score = image_metrics(predicted, truth, classes)["dice"]
        if np.isnan(score):
            # Nothing to find and nothing found.
            score = 1.0
        scores["all"].append(score)
        if groups is not None:
            scores[groups[number]].append(score)
    return Evaluation(
        {group: _mean(np.array(values)) for group, values in scores.items()},
        _by_class(np.stack(counts), card.classes, inputs.apart) if classes > 2 else {},
    )


def _classes(bands: Bands) -> NDArray[np.int64]:
    return np.concatenate([band.argmax(axis=0) for _, band in bands])


def _mean(values: NDArray[np.float64]) -> Score:
    return Score(float(values.mean()), *bootstrap_interval(values), len(values))


def _by_class(
    counts: NDArray[np.int64], names: tuple[str, ...], apart: tuple[str, ...]
) -> dict[str, Score]:
    """Return the scores of the classes in the masks, and of their mean; background left out."""
    there = counts[:, :, 2].sum(axis=0) > 0
    chosen = [i for i in range(1, len(names)) if there[i]]
    found = {names[i]: _pooled(counts[:, [i]]) for i in chosen}
    averaged = [i for i in chosen if names[i] not in apart]
    return {**found, MEAN: _pooled(counts[:, averaged])} if averaged else found


def _pooled(counts: NDArray[np.int64]) -> Score:
    images = int((counts[:, :, 2] > 0).any(axis=1).sum())
    return Score(*pooled_dice(counts), images)
