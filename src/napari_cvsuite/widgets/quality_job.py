"""What the Quality dock computes on the worker thread; knows no Qt, and loads torch when called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images import READERS, Cut, Image, ImageError, cut_along, read
from napari_cvsuite.jobs import Cancelled, Context, Progress
from napari_cvsuite.quality.options import MapOptions, RatingsOptions, ScoreOptions
from napari_cvsuite.widgets.quality_rows import Scored, Scores, Subject

if TYPE_CHECKING:
    from napari_cvsuite.quality.compare import Version
    from napari_cvsuite.quality.ratings import RatingsResult
    from napari_cvsuite.quality.score import Row

__all__ = [
    "Compared",
    "Item",
    "LocalMap",
    "Mapped",
    "Part",
    "compare",
    "files_of",
    "fit_to_ratings",
    "image_file",
    "map_one",
    "score",
    "sizes_fit",
]


MOST_DIFFERENCES = 1 << 28
"""Above this many pixels of all versions their differences, 4 bytes each, are left out."""


@dataclass(frozen=True)
class Item:
    """One image to judge.

    Parameters
    ----------
    subject : Subject
    load : callable
        Returns the image; called on the worker thread.
    reference : Image, optional
    """

    subject: Subject
    load: Callable[[], Image]
    reference: Image | None = None


@dataclass(frozen=True)
class Part:
    """A slice that has just been scored: the number of its item, and its row."""

    item: int
    row: Row


@dataclass(frozen=True)
class LocalMap:
    """An array that lies over a part of an image.

    Parameters
    ----------
    name : str
    data : ndarray of float32
        In the order of the axes of the image.
    step, origin : tuple of float
        Distance of its values and position of the first one along every axis, in pixels of the
        part that was judged.
    limits : tuple of float
        Values for the two ends of the colours.
    smooth : bool
        Whether to blend between its values.
    """

    name: str
    data: NDArray[np.float32]
    step: tuple[float, ...]
    origin: tuple[float, ...]
    limits: tuple[float, float]
    smooth: bool = False


@dataclass(frozen=True)
class Mapped:
    """Outcome of a map: that of the scores first, then those of the attention."""

    maps: list[LocalMap]
    mean: float
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Compared:
    """Outcome of a comparison, from best to worst.

    Parameters
    ----------
    ranking : list of dict
        One row a version, for the table.
    scores : Scores
        Their slices, in the same order.
    order : list of int
        Number of the item that each version was.
    maps : list of LocalMap
        Differences from the reference; empty without one.
    """

    ranking: list[dict[str, Any]]
    scores: Scores
    order: list[int]
    maps: list[LocalMap] = field(default_factory=list)


def files_of(folder: Path) -> list[Path]:
    """Return the images in a folder, in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in READERS)


def sizes_fit(image: Image, reference: Image, axis: str, resize: bool) -> None:
    """Check that a reference fits an image, without loading either.

    Raises
    ------
    ImageError
        It does not; the message says what to do.
    """
    one, other = cut_along(image, axis).image, cut_along(reference, axis).image
    if other.n_planes not in (1, one.n_planes):
        raise ImageError(
            f"The reference has {other.n_planes} slices, {image.name} has {one.n_planes}: choose "
            "a reference with one slice or as many."
        )
    sizes = [f"{each.size('x')} x {each.size('y')}" for each in (one, other)]
    if sizes[0] != sizes[1] and not resize:
        raise ImageError(
            f"{image.name} has {sizes[0]} pixels, the reference {sizes[1]}: choose another, or "
            "tick 'Resize reference' in the options."
        )


def score(items: Sequence[Item], options: ScoreOptions, context: Context) -> Scores:
    """Score every slice of every item; of several, one that fails does not stop the others.

    Reports every finished slice through ``context.progress`` as a :class:`Part`.
    """
    from napari_cvsuite.quality.score import Row, percentiles, run

    parts: list[Scored] = []
    for number, item in enumerate(items):
        inner = _numbered(context, number, len(items), item.subject.name)
        try:
            found = run(item.load(), options, inner, item.reference)
            parts.append(Scored(item.subject, found.rows, found.provenance))
        except Cancelled:
            raise
        # One bad file of a folder must not cost the user the rest; its row says why.
        except Exception as error:
            if len(items) == 1:
                raise
            context.log.debug("%s failed", item.subject.name, exc_info=True)
            empty = {axis: 0 for axis in item.subject.letters}
            row = Row(0, float("nan"), note=f"not scored: {error}", position=empty)
            parts.append(Scored(item.subject, (row,), {}))
    if not any(part.provenance for part in parts):
        raise ImageError(f"none could be scored; {parts[0].subject.name}: {parts[0].rows[0].note}")
    if len(parts) > 1:
        # A slice of one image has no place among itself; among all it has.
        ranks = iter(percentiles([row.score for part in parts for row in part.rows]))
        parts = [
            replace(part, rows=tuple(replace(row, percentile=next(ranks)) for row in part.rows))
            for part in parts
        ]
    return Scores(parts)


def _numbered(context: Context, number: int, total: int, name: str) -> Context:
    """Return a context whose previews say which item they belong to."""
    outer = context.part(number, total, name) if total > 1 else context

    def forward(progress: Progress) -> None:
        row = progress.preview
        preview = None if row is None else Part(number, row)
        outer.progress(progress.done, progress.total, progress.message, preview)

    return Context(
        context.device,
        context.job_class,
        context.token,
        forward,
        context.on_warning,
        context.on_pause,
        context.log,
    )


def _laid_out(
    cut: Cut,
    data: NDArray[np.float32],
    step: tuple[float, float],
    origin: tuple[float, float],
    name: str,
    limits: tuple[float, float],
) -> LocalMap:
    """Bring an array of cut planes back to the order of the axes of the image."""
    steps = dict(zip(cut.source[-2:], step, strict=True))
    firsts = dict(zip(cut.source[-2:], origin, strict=True))
    return LocalMap(
        name,
        np.ascontiguousarray(cut.restore(data)),
        tuple(steps.get(axis, 1.0) for axis in cut.axes),
        tuple(firsts.get(axis, 0.0) for axis in cut.axes),
        limits,
        # Where some are unknown, blending would make more of them.
        step != (1.0, 1.0) and not np.isnan(data).any(),
    )


def _limits(data: NDArray[np.float32]) -> tuple[float, float]:
    low, high = float(np.nanmin(data)), float(np.nanmax(data))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def map_one(item: Item, options: MapOptions, context: Context) -> Mapped:
    """Map the local quality of one image."""
    from napari_cvsuite.quality.map import run

    image = item.load()
    found = run(image, options, context, item.reference)
    cut = cut_along(image, options.axis)
    grid = found.grid
    maps = [_laid_out(cut, found.scores, grid.step, grid.origin, "quality", _limits(found.scores))]
    count = len(found.attention)
    for level, (seen, grid) in enumerate(
        zip(found.attention, found.attention_grids, strict=True), 1
    ):
        name = f"where it looked, scale {level} of {count}"
        maps.append(_laid_out(cut, seen, grid.step, grid.origin, name, (0.0, float(seen.max()))))
    return Mapped(maps, float(np.nanmean(found.scores)), found.provenance)


def compare(items: Sequence[Item], options: ScoreOptions, context: Context) -> Compared:
    """Rank versions of one image, which have different names."""
    from napari_cvsuite.quality.compare import run

    images = [item.load() for item in items]
    pixels = sum(image.n_planes * image.size("y") * image.size("x") for image in images)
    differences = pixels <= MOST_DIFFERENCES
    if items[0].reference is not None and not differences:
        context.warn("The images are too large to show differences, too: choose a region.")
    found = run(images, options, context, items[0].reference, differences)
    names = [image.name for image in images]
    order = [names.index(version.name) for version in found.versions]
    shown = [v.difference for v in found.versions if v.difference is not None]
    top = max((float(np.max(one)) for one in shown), default=0.0) or 1.0
    parts, ranking, maps = [], [], []
    for version, number in zip(found.versions, order, strict=True):
        parts.append(Scored(items[number].subject, version.rows, found.provenance))
        ranking.append(_ranking_row(version, found.provenance))
        if version.difference is not None:
            cut = cut_along(images[number], options.axis)
            whole = ((1.0, 1.0), (0.0, 0.0))
            maps.append(_laid_out(cut, version.difference, *whole, "difference", (0.0, top)))
    return Compared(ranking, Scores(parts), order, maps)


def _ranking_row(version: Version, provenance: dict[str, Any]) -> dict[str, Any]:
    worst = min(version.rows, key=lambda row: row.score if row.score == row.score else np.inf)
    return {
        "rank": version.rank,
        "layer": version.name,
        "score": version.score,
        "slices": len(version.rows),
        "worst_slice": worst.score,
        "likely_distortion": worst.likely_distortion,
        "confidence": worst.confidence,
        "model": provenance.get("model", ""),
    }


def fit_to_ratings(
    items: Sequence[Item],
    rated: Sequence[tuple[int, Row, float]],
    options: ScoreOptions,
    context: Context,
) -> RatingsResult:
    """Fit the model of some options to the user's ratings of slices that were scored with it.

    Parameters
    ----------
    items : sequence of Item
        What was scored.
    rated : sequence of (number of the item, row, rating)
    options : ScoreOptions
    context : Context
    """
    from napari_cvsuite.quality.ratings import Rated, run

    images = {number: items[number].load() for number in {number for number, _, _ in rated}}
    given = [
        Rated(images[number], rating, row.index, items[number].reference)
        for number, row, rating in rated
    ]
    shared = {f.name: getattr(options, f.name) for f in fields(ScoreOptions)}
    return run(given, RatingsOptions(**shared), context)


def image_file(path: Path, reference: Image | None = None) -> Item:
    """Return a file as an item."""
    return Item(Subject(path.name, file=str(path)), lambda: read(path), reference)
