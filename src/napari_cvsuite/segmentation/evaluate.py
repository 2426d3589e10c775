"""Measure a model on images with known masks, in all and for each group of images."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.models.device import choose_device
from napari_cvsuite.models.store import default_store
from napari_cvsuite.segmentation.data import find_pairs, group_of, load_pair
from napari_cvsuite.segmentation.metrics import bootstrap_interval, image_metrics
from napari_cvsuite.segmentation.plane import predict_probabilities

__all__ = ["EvaluateInputs", "evaluate"]


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
    """

    images: Path
    masks: Path
    names: tuple[str, ...] = ()
    groups: Path | None = None
    group_column: str = "kind"
    ignore: int = -1


def evaluate(inputs: EvaluateInputs, model: str, context: Context) -> dict[str, dict[str, Any]]:
    """Return plain Dice per image at original resolution, averaged over all and over each group.

    Classes count where the prediction or the mask has them; with two classes this is the Dice of
    the foreground.

    Returns
    -------
    dict
        Group name (``all`` first) -> ``dice`` (mean), ``low``, ``high`` (95 % bootstrap interval
        of the mean) and ``n`` (images).

    Raises
    ------
    ValueError
        Images, masks, names or groups do not match.
    """
    card = Catalogue().get(model)
    pairs = find_pairs(inputs.images, inputs.masks, inputs.names or None)
    groups = group_of(pairs, inputs.groups, inputs.group_column) if inputs.groups else None
    device = choose_device(context.device)
    classes = max(len(card.classes), 2)
    scores: dict[str, list[float]] = defaultdict(list)
    with default_store().lease(card, device, "float32") as network, torch.inference_mode():
        for number, pair in enumerate(pairs):
            context.progress(number, len(pairs), f"measuring on {pair.name}")
            image, truth = load_pair(pair, classes, inputs.ignore)
            predicted = predict_probabilities(
                network,
                image,
                card.input.tile,
                device=device,
                check=context.check,
                scale=card.input.scale,
            ).argmax(axis=0)
            score = image_metrics(predicted, truth, classes)["dice"]
            if np.isnan(score):
                # Nothing to find and nothing found.
                score = 1.0
            scores["all"].append(score)
            if groups is not None:
                scores[groups[number]].append(score)
    return {group: _summary(np.array(values)) for group, values in scores.items()}


def _summary(values: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    low, high = bootstrap_interval(values)
    return {"dice": float(values.mean()), "low": low, "high": high, "n": len(values)}
