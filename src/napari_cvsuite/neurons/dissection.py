"""Network dissection: which labelled concept each unit of a layer detects.

The method is that of Bau et al. 2017 (arXiv 1704.05796), as Chen et al. 2020 (arXiv 2006.09373)
apply it; dissection on a user's own labels, with p-values, is a definition of this project.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.neurons.labelled import LabelledImage, find_concepts, group_names, record
from napari_cvsuite.neurons.overlap import Concept, Overlap, Shifts, count_overlap, iou
from napari_cvsuite.neurons.quantiles import channel_quantiles
from napari_cvsuite.neurons.spool import Spool
from napari_cvsuite.neurons.units import CUT, Dissection

__all__ = ["GRID", "Q", "dissect", "dissect_labels", "dissect_spool"]

Q = 0.005
"""Share of positions above the threshold in the paper."""
GRID = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Shares among which the best one is chosen for a user's own labels."""
COARSE = 64
"""Rows and columns of pixels on which q is chosen; IoU itself is measured on all."""
MOST_CONCEPTS, MOST_TESTED = 2000, 100
"""Concepts that fit in memory without and with shifts: 200 x units x concepts counts."""


def dissect(
    network: nn.Module,
    layer: str,
    items: Iterable[LabelledImage],
    context: Context,
    names: Mapping[int, str] | None = None,
    groups: Sequence[str] | None = None,
    mode: str = "paper",
    q: float = Q,
    cut: float = CUT,
    batch: int = 8,
) -> Dissection:
    """Compare every unit of a layer with every concept.

    The threshold T of a unit is its quantile 1 - q over all positions and images; its map,
    enlarged bilinearly to the size of the labels, is active where it is above T. IoU is the number
    of pixels both active and labelled, over that of active or labelled ones, summed over images.
    In mode "paper", active pixels count only in images where the unit touches a pixel labelled in
    the concept's group; in mode "plain" (definition of this project) in every image that has a
    label. A concept that is labelled in several groups belongs to that of most of its pixels.

    The network runs once an image; activations wait in a temporary file, and memory does not
    depend on the number of images.

    Parameters
    ----------
    network : nn.Module
        Maps images to logits; in eval mode.
    layer : str
    items : iterable of (Tensor, sequence of ndarray)
        See ``LabelledImage`` in :mod:`napari_cvsuite.neurons.labelled`; read once, one batch at a
        time, so that it may load images as it goes. Its length, if it has one, serves progress and
        the check of disk space.
    context : Context
    names : mapping of int to str, optional
        Names of labels; ``label 3`` and the like where left out.
    groups : sequence of str, optional
        Names of the label maps.
    mode : {"paper", "plain"}
    q : float
        In (0, 1).
    cut : float
        IoU from which on a unit is a detector.
    batch : int
        Images that the network takes at once.

    Returns
    -------
    Dissection

    Raises
    ------
    ValueError
        An image, a label map, the layer or an option cannot be used.
    SpoolError
        The disk has too little space for the activations.
    Cancelled
        The job was cancelled; the temporary file and the hooks are gone then.
    """
    _check_options(mode, [q], cut, batch)
    with Spool(operator.length_hint(items)) as spool:
        pixels = record(network, layer, items, spool, context.part(0, 2, layer), batch)
        concepts = find_concepts(pixels, names, MOST_CONCEPTS)
        return dissect_spool(
            spool,
            concepts,
            context.part(1, 2, layer),
            layer,
            group_names(pixels, groups),
            mode=mode,
            q=q,
            cut=cut,
            device=_device(network),
        )


def dissect_spool(
    spool: Spool,
    concepts: Sequence[Concept],
    context: Context,
    layer: str,
    groups: Sequence[str],
    mode: str = "paper",
    q: float = Q,
    cut: float = CUT,
    device: torch.device | str = "cpu",
) -> Dissection:
    """Compare recorded activations with concepts; see :func:`dissect`."""
    numbers = range(len(spool))
    thresholds = channel_quantiles(lambda: _checked(spool.chunks(numbers), context), [1 - q])
    overlap = count_overlap(spool, numbers, concepts, thresholds, context, device=device)
    level = np.zeros(len(concepts), np.int64)
    return _result(layer, concepts, groups, mode, cut, np.array([q]), thresholds, overlap, level)


def dissect_labels(
    network: nn.Module,
    layer: str,
    items: Iterable[LabelledImage],
    context: Context,
    names: Mapping[int, str] | None = None,
    groups: Sequence[str] | None = None,
    grid: Sequence[float] = GRID,
    shifts: int = 200,
    seed: int = 0,
    cut: float = CUT,
    batch: int = 8,
) -> Dissection:
    """Dissect with a user's own labels, in plain mode, with p-values.

    IoU cannot exceed min(p, a) / max(p, a) for a share p of active and a of labelled pixels, so no
    q suits all concepts. The labelled images are split at random in halves. On the first, each
    concept gets the q at which its best unit has the largest IoU (on about 64 rows and columns of
    pixels), and thresholds are taken; IoU is that on the second half. There the label maps are
    also shifted circularly at random, each image on its own; p is the share of shifts, and of the
    true place, at which the unit reaches its IoU, and the family-wise p that at which any unit of
    the layer does. Definition of this project.

    Parameters
    ----------
    network, layer, items, context, names, groups, cut, batch
        See :func:`dissect`. Labels should be concepts, not one number an object.
    grid : sequence of float
        Shares q to choose from.
    shifts : int
        0 leaves p-values out.
    seed : int
        Of the halves and shifts.

    Returns
    -------
    Dissection

    Raises
    ------
    ValueError, SpoolError, Cancelled
        As :func:`dissect`; also if fewer than two images have a label.
    """
    _check_options("plain", grid, cut, batch)
    if shifts < 0:
        raise ValueError(f"the number of shifts must not be negative; got {shifts}")
    with Spool(operator.length_hint(items)) as spool:
        pixels = record(network, layer, items, spool, context.part(0, 3, layer), batch)
        concepts = find_concepts(pixels, names, MOST_TESTED)
        first, second = _halves(spool, seed)
        device = _device(network)
        part = context.part(1, 3, layer)
        thresholds = channel_quantiles(
            lambda: _checked(spool.chunks(first), part), [1 - q for q in grid]
        )
        tried = count_overlap(spool, first, concepts, thresholds, part, side=COARSE, device=device)
        reached = iou(tried.both, tried.active[..., None], tried.area).max(axis=1)
        used, level = np.unique(reached.argmax(axis=0), return_inverse=True)
        overlap = count_overlap(
            spool,
            second,
            concepts,
            thresholds[used],
            context.part(2, 3, layer),
            Shifts(level, shifts, seed) if shifts else None,
            device=device,
        )
        chosen = np.array(grid)[used]
        named = group_names(pixels, groups)
        _warn_about_halves(tried, overlap, concepts, context)
        return _result(
            layer, concepts, named, "plain", cut, chosen, thresholds[used], overlap, level
        )


def _check_options(mode: str, shares: Sequence[float], cut: float, batch: int) -> None:
    if mode not in ("paper", "plain"):
        raise ValueError(f"there is no mode {mode!r}; use 'paper' or 'plain'")
    if not shares or not all(0 < q < 1 for q in shares):
        raise ValueError(f"q must lie between 0 and 1; got {list(shares)}")
    if not 0 <= cut <= 1 or batch < 1:
        raise ValueError(f"cut must lie in [0, 1] and batch be 1 or more; got {cut} and {batch}")


def _device(network: nn.Module) -> torch.device:
    weight = next(network.parameters(), None)
    return torch.device("cpu") if weight is None else weight.device


def _checked(chunks: Iterable[NDArray[Any]], context: Context) -> Iterator[NDArray[Any]]:
    """Let a job be cancelled between chunks."""
    for chunk in chunks:
        context.check()
        yield chunk


def _halves(spool: Spool, seed: int) -> tuple[list[int], list[int]]:
    """Split the labelled images at random."""
    labelled = [number for number in range(len(spool)) if spool.labels(number).any()]
    if len(labelled) < 2:
        raise ValueError(
            "q is chosen on one half of the labelled images and IoU measured on the other; label "
            "two images or more, or choose a fixed q"
        )
    mixed = np.random.default_rng(seed).permutation(labelled).tolist()
    middle = len(mixed) // 2
    return sorted(mixed[:middle]), sorted(mixed[middle:])


def _warn_about_halves(
    first: Overlap, second: Overlap, concepts: Sequence[Concept], context: Context
) -> None:
    """Tell which concepts cannot be judged."""
    for one, before, after in zip(concepts, first.area, second.area, strict=True):
        if not before or not after:
            context.warn(
                f"{one.name!r} has no or too few pixels in one half of the images, so its IoU "
                "says nothing; label it in more images"
            )


def _result(
    layer: str,
    concepts: Sequence[Concept],
    groups: Sequence[str],
    mode: str,
    cut: float,
    shares: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    overlap: Overlap,
    level: NDArray[np.int64],
) -> Dissection:
    """Pick the level of each concept."""
    columns = np.arange(len(concepts))
    both, near = (one[level, :, columns].T for one in (overlap.both, overlap.active_near))
    active = overlap.active[level].T
    plain = iou(both, active, overlap.area)
    p = family = None
    if len(overlap.shifted):
        shifted = iou(overlap.shifted, active, overlap.area)
        tries = len(shifted) + 1
        p = (1 + (shifted >= plain).sum(axis=0)) / tries
        family = (1 + (shifted.max(axis=1, keepdims=True) >= plain).sum(axis=0)) / tries
    return Dissection(
        layer=layer,
        concepts=tuple(concepts),
        groups=tuple(groups),
        mode=mode,
        cut=cut,
        q=shares[level],
        threshold=thresholds[level].T,
        on=active / overlap.pixels,
        area=overlap.area / overlap.pixels,
        iou_paper=iou(both, near, overlap.area),
        iou_plain=plain,
        p=p,
        p_family=family,
    )
