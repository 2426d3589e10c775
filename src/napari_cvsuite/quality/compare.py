"""Rank several versions of an image, and show where they differ from a reference."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.quality.options import ScoreOptions
from napari_cvsuite.quality.score import Row, provenance, score_slice, sources
from napari_cvsuite.quality.scorer import Scorer

__all__ = ["Comparison", "Version", "run"]


@dataclass(frozen=True)
class Version:
    """One version of an image.

    Parameters
    ----------
    name : str
    score : float
        Mean over its slices; higher is better.
    rank : int
        1 is the best; versions with the same score share a rank.
    rows : tuple of Row
        Its slices.
    difference : ndarray of float32, shape (stack axes..., H, W), or None
        Mean over channels of the absolute difference from the reference, 1 for black against
        white; None without a reference.
    """

    name: str
    score: float
    rank: int
    rows: tuple[Row, ...]
    difference: NDArray[np.float32] | None


@dataclass(frozen=True)
class Comparison:
    """Outcome: the versions from best to worst, and what made it."""

    versions: tuple[Version, ...]
    provenance: dict[str, Any]


def run(
    images: Sequence[Image],
    options: ScoreOptions,
    context: Context,
    reference: Image | None = None,
    differences: bool = True,
) -> Comparison:
    """Score and rank versions of one image.

    Parameters
    ----------
    images : sequence of Image
        Two or more.
    options : ScoreOptions
    context : Context
    reference : Image, optional
        The models that compare need it; others rank without it. It gives the window of
        intensities; without one every version has its own.
    differences : bool
        Whether to compute the maps of differences, which take as much memory as the images.

    Raises
    ------
    ImageError
        There is one version only, or one cannot be used.
    WeightsError, UnknownModelError, CardError, DeviceError, MemoryExhausted, Cancelled
    """
    started = time.monotonic()
    if len(images) < 2:
        raise ImageError("a comparison needs two versions or more; choose another one, too")
    options = options.resolved(reference is not None)
    scorer = Scorer(options, context, reference is not None)
    found: list[tuple[str, float, tuple[Row, ...], NDArray[np.float32] | None]] = []
    facts: dict[str, Any] = {}
    for number, image in enumerate(images):
        planes, references = sources(image, reference, options, context)
        rows, maps = [], []
        indices = planes.indices()
        for slice_number, index in enumerate(indices):
            done = number + slice_number / len(indices)
            context.progress(done, len(images), f"{image.name}: slice {slice_number + 1}")
            rows.append(score_slice(scorer, planes, slice_number, index, references))
            other = references.at(slice_number)
            if other is not None and differences:
                maps.append(np.abs(planes.read(index) - other).mean(axis=2))
        scores = [row.score for row in rows if not np.isnan(row.score)]
        if not scores:
            raise ImageError(f"{image.name}: there is nothing to judge: {rows[0].note}")
        stack = tuple(planes.image.size(axis) for axis in planes.image.stack_axes)
        shown = np.stack(maps).reshape(*stack, *maps[0].shape) if maps else None
        found.append((image.name, float(np.mean(scores)), tuple(rows), shown))
        facts = provenance(scorer, planes)
    found.sort(key=lambda one: -one[1])
    ranks = [1 + sum(other[1] > one[1] for other in found) for one in found]
    return Comparison(
        tuple(
            Version(name, score, rank, rows, shown)
            for (name, score, rows, shown), rank in zip(found, ranks, strict=True)
        ),
        facts | {"seconds": round(time.monotonic() - started, 3)},
    )
