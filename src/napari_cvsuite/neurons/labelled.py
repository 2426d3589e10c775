"""Images with labels: run through a network once, and the concepts in them found."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.neurons.activations import activations
from napari_cvsuite.neurons.overlap import Concept
from napari_cvsuite.neurons.spool import Spool

__all__ = ["LabelledImage", "find_concepts", "group_names", "record"]

LabelledImage = tuple[Tensor, Sequence[NDArray[Any]]]
"""An image, float in [0, 1], 3 x H x W at the network's size; and its label maps, of integers, one
a group of concepts, of any size h x w, 0 where nothing is labelled. A number means the same concept
in all maps; a concept of the whole image, such as a scene, fills its map."""


def record(
    network: nn.Module,
    layer: str,
    items: Iterable[LabelledImage],
    spool: Spool,
    context: Context,
    batch: int = 8,
) -> list[Counter[int]]:
    """Run the network once over images, and spool a layer's outputs and the labels.

    Returns
    -------
    list of Counter
        For each group the number of pixels of each label.

    Raises
    ------
    ValueError, SpoolError, Cancelled
        See :func:`dissect`.
    """
    total, source = operator.length_hint(items), iter(items)
    pixels: list[Counter[int]] = []
    shape: tuple[int, ...] | None = None
    while held := list(islice(source, batch)):
        context.progress(len(spool), total, "running the network")
        for number, (image, labels) in enumerate(held, len(spool)):
            shape = shape or tuple(image.shape)
            _check_item(number, image, shape, labels, len(pixels))
            pixels = pixels or [Counter() for _ in labels]
        found = activations(network, torch.stack([image for image, _ in held]), [layer])[layer]
        kept = found if found.dtype in (torch.float32, torch.float64) else found.float()
        if not bool(kept.isfinite().all()):
            raise ValueError(f"layer {layer!r} gives NaN or infinity; check the network's weights")
        for maps, (_, labels) in zip(kept.cpu().numpy(), held, strict=True):
            spool.append(maps, labels)
            for counter, one in zip(pixels, labels, strict=True):
                values, counts = np.unique(one, return_counts=True)
                counter.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    if not len(spool):
        raise ValueError("there are no images; give one or more")
    return pixels


def _check_item(
    number: int,
    image: Tensor,
    shape: tuple[int, ...],
    labels: Sequence[NDArray[Any]],
    groups: int,
) -> None:
    """Refuse an image or labels that do not fit."""
    if tuple(image.shape) != shape:
        raise ValueError(
            f"image {number} has shape {tuple(image.shape)}, others {shape}; resize all to the "
            "network's size"
        )
    if not labels or (groups and len(labels) != groups):
        raise ValueError(
            f"image {number} has {len(labels)} label maps, others {groups or 'one or more'}; give "
            "one map a group for every image, all 0 where nothing is labelled"
        )
    for one in labels:
        if one.ndim != 2 or one.size == 0 or one.shape != labels[0].shape:
            raise ValueError(f"label maps of image {number} must be H x W, all of one size")
        if one.dtype.kind not in "ui" or one.min() < 0:
            raise ValueError(
                f"label maps of image {number} must be integers, 0 for unlabelled; got {one.dtype} "
                f"from {one.min()}"
            )


def find_concepts(
    pixels: Sequence[Counter[int]], names: Mapping[int, str] | None, most: int
) -> tuple[Concept, ...]:
    """Return the labels that occur, each in the group of most of its pixels.

    Parameters
    ----------
    pixels : sequence of Counter
        From :func:`record`.
    names : mapping of int to str, or None
        Names of labels; ``label 3`` and the like where left out.
    most : int

    Raises
    ------
    ValueError
        No pixel is labelled, or there are more than `most` labels.
    """
    values = sorted({value for one in pixels for value in one if value})
    if not values:
        raise ValueError("no pixel is labelled; paint a concept in one of the images first")
    if len(values) > most:
        raise ValueError(
            f"there are {len(values)} different labels, more than {most}; give each concept, not "
            "each object, a number of its own"
        )
    return tuple(
        Concept(
            value,
            (names or {}).get(value, f"label {value}"),
            max(range(len(pixels)), key=lambda group: pixels[group][value]),
        )
        for value in values
    )


def group_names(pixels: Sequence[Counter[int]], groups: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the label maps, ``group 0`` and so on if none are given.

    Raises
    ------
    ValueError
        There are more or fewer names than maps.
    """
    if groups is None:
        return tuple(f"group {number}" for number in range(len(pixels)))
    if len(groups) != len(pixels):
        raise ValueError(f"there are {len(pixels)} label maps an image, but {len(groups)} names")
    return tuple(groups)
