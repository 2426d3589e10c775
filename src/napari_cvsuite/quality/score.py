"""Score every slice of an image."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images import Image, ImageError, cut_along
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.planes import Pixels, Planes
from napari_cvsuite.quality.measures import measure
from napari_cvsuite.quality.options import ScoreOptions, require_size
from napari_cvsuite.quality.scorer import Opinion, Scorer, fitted

__all__ = ["References", "Row", "ScoreResult", "percentiles", "run", "score_slice"]

NAN = float("nan")


@dataclass(frozen=True)
class Row:
    """What is known of one slice.

    Parameters
    ----------
    index : int
        Number of the slice, the last stack axis running fastest.
    score : float
        Higher is better; NaN where there is nothing to judge.
    percentile : float
        Share of the slices of the same image with this score or a lower one, in per cent; NaN
        until all are scored.
    likely_distortion : str
        What most probably spoils it, "none", or empty where the model cannot tell.
    confidence : float
        Probability of that in [0, 1].
    strength : float
        Its level, 1 just visible to 5 ruinous.
    sharpness, noise, clipped : float
        See :class:`napari_cvsuite.quality.measures.Measures`.
    note : str
        Why there is no score.
    position : dict
        Position along the stack axes.
    """

    index: int
    score: float
    percentile: float = NAN
    likely_distortion: str = ""
    confidence: float = NAN
    strength: float = NAN
    sharpness: float = NAN
    noise: float = NAN
    clipped: float = NAN
    note: str = ""
    position: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreResult:
    """Outcome for one image.

    Parameters
    ----------
    rows : tuple of Row
        One a slice, in order.
    provenance : dict
        Model, weights hash, options, version, device, precision, the window of intensities,
        seconds and, as ``ladder``, what was changed because memory ran out.
    """

    rows: tuple[Row, ...]
    provenance: dict[str, Any]


class References:
    """The reference of each slice: one for all, or one each.

    Parameters
    ----------
    reference : Image, optional
    planes : Planes
        What is scored; its window is that of the reference, so that both are seen alike.
    options : ScoreOptions

    Raises
    ------
    ImageError
        The reference has another number of slices, or another size that must not be changed.
    """

    def __init__(self, reference: Image | None, planes: Planes, options: ScoreOptions) -> None:
        self._planes, self._fit = planes, options.fit_reference
        self._own: Planes | None = None
        self._last: tuple[int, Pixels] | None = None
        if reference is None:
            return
        self._own = Planes(reference, options, window=planes.window)
        if not self._fit:
            require_size(self._own.shape)
        self._indices = self._own.indices()
        count = len(planes.indices())
        if len(self._indices) not in (1, count):
            raise ImageError(
                f"the reference has {len(self._indices)} slices, the image has {count}; choose a "
                "reference with one slice or as many"
            )
        if self._own.shape != planes.shape and not self._fit:
            sizes = [f"{shape[1]} x {shape[0]}" for shape in (planes.shape, self._own.shape)]
            raise ImageError(
                f"the image and its reference have {sizes[0]} and {sizes[1]} pixels; choose a "
                "reference of the same size, or have it resized (fit_reference)"
            )

    def at(self, number: int) -> Pixels | None:
        """Return the reference of a slice, the same array again for the same one."""
        if self._own is None:
            return None
        number = number if len(self._indices) > 1 else 0
        if self._last is None or self._last[0] != number:
            pixels = self._own.read(self._indices[number])
            self._last = (number, fitted(pixels, self._planes.shape))
        return self._last[1]


def run(
    image: Image, options: ScoreOptions, context: Context, reference: Image | None = None
) -> ScoreResult:
    """Score every slice of an image.

    Every finished slice is reported through ``context.progress`` with its :class:`Row`. One slice
    at a time is in memory.

    Parameters
    ----------
    image : Image
        Any type; grayscale, RGB(A) or up to three channels.
    options : ScoreOptions
    context : Context
    reference : Image, optional
        For models that compare; one slice, or one for each.

    Raises
    ------
    ImageError
        The image or the reference cannot be used; the message says what to do.
    WeightsError, UnknownModelError, CardError, DeviceError, MemoryExhausted
        The model or device is not to be had, or too small; the message says what to do.
    Cancelled
    """
    started = time.monotonic()
    options = options.resolved(reference is not None)
    scorer = Scorer(options, context, reference is not None)
    planes, references = sources(image, reference if scorer.compares else None, options, context)
    indices = planes.indices()
    rows: list[Row] = []
    for number, index in enumerate(indices):
        row = score_slice(scorer, planes, number, index, references)
        rows.append(row)
        message = f"slice {number + 1} of {len(indices)}" if len(indices) > 1 else "scored"
        context.progress(number + 1, len(indices), message, row)
    if all(np.isnan(row.score) for row in rows):
        raise ImageError(f"there is nothing to judge: {rows[0].note}; choose another image")
    ranks = percentiles([row.score for row in rows])
    return ScoreResult(
        tuple(replace(row, percentile=rank) for row, rank in zip(rows, ranks, strict=True)),
        provenance(scorer, planes) | {"seconds": round(time.monotonic() - started, 3)},
    )


def sources(
    image: Image, reference: Image | None, options: ScoreOptions, context: Context
) -> tuple[Planes, References]:
    """Return the planes and their references, in the window of the reference if there is one."""
    # Before a pixel is read for the window.
    cut = cut_along(image, options.axis).image
    require_size((cut.size("y"), cut.size("x")))
    window = None
    if reference is not None and options.per == "stack":
        window = Planes(reference, options, context.check).window
    planes = Planes(image, options, context.check, window)
    return planes, References(reference, planes, options)


def provenance(scorer: Scorer, planes: Planes) -> dict[str, Any]:
    """Return what made a result, with the window of intensities in words."""
    window = planes.window
    return scorer.provenance() | {"window": window.rule if window else "each slice its own"}


def score_slice(
    scorer: Scorer, planes: Planes, number: int, index: dict[str, int], references: References
) -> Row:
    """Score one slice; one in which there is nothing to judge has a note instead of a score."""
    plane = planes.raw(index)
    try:
        window = planes.window_at(plane)
        pixels = window.apply(plane)
    except ImageError as error:
        if not error.blank:
            raise
        return Row(number, NAN, note="no finite pixel", position=index)
    if not np.ptp(pixels):
        return Row(number, NAN, note="all pixels are equal", position=index)
    opinion = scorer.score(pixels, references.at(number))
    return _row(number, index, opinion, pixels)


def _row(number: int, index: dict[str, int], opinion: Opinion, pixels: Pixels) -> Row:
    name, confidence, strength = opinion.likely
    return Row(
        index=number,
        score=opinion.score,
        likely_distortion=name,
        confidence=confidence,
        strength=strength,
        **asdict(measure(pixels)),
        position=index,
    )


def percentiles(scores: list[float]) -> list[float]:
    """Return for each score the share of scores that are no higher, in per cent; NaN stays."""
    values: NDArray[np.float64] = np.array(scores, float)
    known = np.sort(values[~np.isnan(values)])
    shares = 100 * np.searchsorted(known, values, side="right") / max(len(known), 1)
    return [NAN if np.isnan(v) else float(share) for v, share in zip(values, shares, strict=True)]
