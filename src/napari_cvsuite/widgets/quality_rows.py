"""Scores as people read them: rows of a table, words, slices kept and rejected; knows no Qt."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer

from napari_cvsuite.images import Image, cut_along
from napari_cvsuite.widgets.regions import Selection, whole

if TYPE_CHECKING:
    from napari_cvsuite.quality.score import Row

__all__ = [
    "KEY",
    "RATINGS",
    "Scored",
    "Scores",
    "Subject",
    "ranges_of",
    "recalled",
    "skip_of",
    "stack_axes",
    "verdict",
]

KEY = "napari_cvsuite_quality"
"""Where a layer's metadata hold its scores."""
RATINGS = "napari_cvsuite_ratings"
"""Where they hold what the user rated: for the names of stack axes, ratings by number of slice."""
UNSURE = 0.5
"""Below this confidence a distortion is a guess and is called one."""
_LEVELS = ("slight", "mild", "moderate", "strong", "severe")


@dataclass(frozen=True)
class Subject:
    """What was scored: a part of a layer, which may be gone by now, or a file.

    Parameters
    ----------
    name : str
    axes : tuple of int
        Axes of the layer along which the slices follow one another, the last one fastest.
    start, shape : tuple of int
        First index that was scored, and extent of the layer, along these axes.
    letters : str
        Names of these axes.
    file : str
        Path of a file; empty for a layer.
    """

    name: str
    axes: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    letters: str = ""
    file: str = ""
    _layer: Any = field(default=lambda: None, repr=False, compare=False)

    @classmethod
    def of(cls, layer: Layer, selection: Selection, axis: str) -> Subject:
        """Describe a part of a layer that is cut into slices along `axis`."""
        letters = _letters(layer, axis)
        start = tuple(selection.start[i] for i in _places_of(layer, letters))
        return cls._along(layer, letters, start)

    @classmethod
    def _along(cls, layer: Layer, letters: str, start: tuple[int, ...]) -> Subject:
        axes, extent = _places_of(layer, letters), whole(layer).shape
        shape = tuple(extent[i] for i in axes)
        # Weak, since a result must not keep alive the pixels of a layer that was removed.
        return cls(str(layer.name), axes, start, shape, letters, _layer=weakref.ref(layer))

    @property
    def layer(self) -> Layer | None:
        """The layer, unless it was a file or nobody holds the layer any more."""
        found: Layer | None = self._layer()
        return found

    def place(self, row: Row) -> tuple[int, ...]:
        """Return the index of a slice along :attr:`axes`, in the whole layer."""
        inside = row.position.values()
        if not self.axes:
            return tuple(inside)
        return tuple(a + b for a, b in zip(self.start, inside, strict=True))

    def number(self, row: Row) -> int:
        """Return the number of a slice in the whole layer, from 0 on."""
        place = self.place(row)
        return int(np.ravel_multi_index(place, self.shape)) if self.axes else row.index


@dataclass(frozen=True)
class Scored:
    """The scores of one layer or file."""

    subject: Subject
    rows: tuple[Row, ...]
    provenance: dict[str, Any]


class Scores:
    """The scores of all that a run scored, and which slices are kept.

    Parameters
    ----------
    parts : sequence of Scored

    Attributes
    ----------
    rows : list of dict
        One a slice, for the table.
    """

    def __init__(self, parts: Sequence[Scored]) -> None:
        self.parts = list(parts)
        self.flat = [(number, row) for number, part in enumerate(parts) for row in part.rows]
        self._starts = np.cumsum([0, *(len(part.rows) for part in parts)]).tolist()
        several = any(len(part.subject.letters) > 1 for part in parts)
        self.rows = [_table_row(self.parts[number], row, several) for number, row in self.flat]
        self._at = {
            (number, self.parts[number].subject.place(row)): index
            for index, (number, row) in enumerate(self.flat)
        }

    def values(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return all scores, NaN where there is none."""
        return np.array([row.score for _, row in self.flat], float)

    def subject(self, index: int) -> Subject:
        """Return what the slice at `index` belongs to."""
        return self.parts[self.flat[index][0]].subject

    def part_of(self, layer: Layer) -> int | None:
        """Return the number of the part that is `layer`."""
        return next((n for n, part in enumerate(self.parts) if part.subject.layer is layer), None)

    def find(self, part: int, place: tuple[int, ...]) -> int | None:
        """Return the index of the slice at a place of a part."""
        return self._at.get((part, place))

    def of_number(self, part: int, number: int) -> int | None:
        """Return the index of the slice that has a number in the whole layer of a part."""
        subject = self.parts[part].subject
        place = np.unravel_index(number, subject.shape) if subject.axes else (number,)
        return self.find(part, tuple(int(i) for i in place))

    def rated(self) -> list[tuple[int, Row, float]]:
        """Return part, row and rating of the slices that the user rated."""
        rows = zip(self.flat, self.rows, strict=True)
        return [
            (number, row, float(shown["rating"]))
            for (number, row), shown in rows
            if math.isfinite(shown["rating"]) and math.isfinite(row.score)
        ]

    def recall_ratings(self, before: Scores | None) -> None:
        """Take over what the user rated: from metadata of layers, and of files from `before`."""
        files: dict[str, dict[int, float]] = {}
        if before is not None:
            files = {p.subject.file: before._ratings(n) for n, p in enumerate(before.parts)}
        for number, part in enumerate(self.parts):
            subject, layer = part.subject, part.subject.layer
            known = files.get(subject.file, {}) if subject.file else {}
            if layer is not None:
                known = layer.metadata.get(RATINGS, {}).get(subject.letters, {})
            for row, shown in self._of(number):
                shown["rating"] = known.get(subject.number(row), math.nan)

    def _of(self, part: int) -> Iterator[tuple[Row, dict[str, Any]]]:
        """Yield the slices of a part, and how the table shows them."""
        rows = self.parts[part].rows
        start = self._starts[part]
        return zip(rows, self.rows[start : start + len(rows)], strict=True)

    def _ratings(self, part: int) -> dict[int, float]:
        """Return the ratings of a part by the numbers of its slices; NaN where there is none."""
        subject = self.parts[part].subject
        return {subject.number(row): shown["rating"] for row, shown in self._of(part)}

    def _among(self, layers: Iterable[Layer]) -> Iterator[tuple[int, Scored, Layer]]:
        """Yield the parts whose layers are still among `layers`."""
        there = list(layers)
        for number, part in enumerate(self.parts):
            layer = part.subject.layer
            if layer is not None and layer in there:
                yield number, part, layer

    def write_ratings(self, layers: Iterable[Layer]) -> None:
        """Keep the ratings in the metadata of those layers that are still among `layers`."""
        for number, part, layer in self._among(layers):
            letters, known = part.subject.letters, layer.metadata.get(RATINGS, {})
            # Slices that were not scored this time keep theirs.
            all_ = {**known.get(letters, {}), **self._ratings(number)}
            kept = {slice_: rating for slice_, rating in all_.items() if not math.isnan(rating)}
            layer.metadata = {**layer.metadata, RATINGS: {**known, letters: kept}}

    def reject_below(self, threshold: float | None) -> None:
        """Reject the slices with a lower score; what could not be judged is kept."""
        for row in self.rows:
            row["keep"] = threshold is None or not row["score"] < threshold

    def kept(self) -> list[bool]:
        """Return whether each slice is kept."""
        return [bool(row["keep"]) for row in self.rows]

    def rejected(self, part: int) -> list[int]:
        """Return the numbers of the rejected slices of a part, in its whole layer."""
        subject = self.parts[part].subject
        return [subject.number(row) for row, shown in self._of(part) if not shown["keep"]]

    def write_metadata(self, threshold: float | None, layers: Iterable[Layer]) -> None:
        """Keep the scores in the metadata of those layers that are still among `layers`."""
        for number, part, layer in self._among(layers):
            facts = {
                "rows": [asdict(row) | {"slice": part.subject.number(row)} for row in part.rows],
                "provenance": part.provenance,
                "threshold": threshold,
                "rejected": self.rejected(number),
                "axes": part.subject.letters,
                "start": part.subject.start,
                "extent": whole(layer).shape,
            }
            # Assigned, so that those who listen to the layer hear of it.
            layer.metadata = {**layer.metadata, KEY: facts}


def _letters(layer: Layer, axis: str) -> str:
    return "".join(cut_along(Image.from_layer(layer), axis).source[:-2])


def stack_axes(layer: Layer, axis: str) -> tuple[int, ...]:
    """Return the axes of a layer along which its slices follow one another, the last one fastest.

    Parameters
    ----------
    layer : napari Layer
    axis : str
        What the layer is cut along; see :func:`napari_cvsuite.images.cut_along`.
    """
    return _places_of(layer, _letters(layer, axis))


def _places_of(layer: Layer, letters: str) -> tuple[int, ...]:
    spatial = [letter for letter in Image.from_layer(layer).axes if letter != "c"]
    return tuple(spatial.index(letter) for letter in letters)


def recalled(layer: Layer) -> Scored | None:
    """Return the scores that a layer's metadata hold; None if there are none that fit it."""
    facts = layer.metadata.get(KEY)
    if not isinstance(facts, dict) or facts.get("extent") != whole(layer).shape:
        return None
    subject = Subject._along(layer, facts["axes"], facts["start"])
    # Here, since it imports torch, which opening a dock must not load.
    from napari_cvsuite.quality.score import Row

    names = [one.name for one in fields(Row)]
    rows = tuple(Row(**{name: row[name] for name in names}) for row in facts["rows"])
    return Scored(subject, rows, facts["provenance"])


def _table_row(part: Scored, row: Row, several: bool) -> dict[str, Any]:
    subject = part.subject
    shown: dict[str, Any] = {"layer": subject.name, "slice": subject.number(row)}
    if several:
        letters = subject.letters or "".join(row.position)
        shown["position"] = ", ".join(
            f"{a} {b}" for a, b in zip(letters, subject.place(row), strict=True)
        )
    return shown | {
        "score": row.score,
        "keep": True,
        "rating": math.nan,
        "percentile": row.percentile,
        "likely_distortion": row.likely_distortion,
        "confidence": row.confidence,
        "strength": row.strength,
        "model": part.provenance.get("model", ""),
        "sharpness": row.sharpness,
        "noise": row.noise,
        "clipped": row.clipped,
        "note": row.note,
    }


def verdict(row: Row) -> str:
    """Return in words what probably spoils a slice, as carefully as the network is sure."""
    if row.note:
        return f"No score: {row.note}."
    if not row.likely_distortion:
        return "This model names no distortions."
    share, nothing = f"{100 * row.confidence:.0f} %", row.likely_distortion == "none"
    if not row.confidence >= UNSURE:
        guess = "nothing is wrong" if nothing else row.likely_distortion
        return f"Unclear; perhaps {guess} ({share})."
    if nothing:
        return f"Probably no distortion ({share})."
    level = min(max(round(row.strength), 1), 5) if math.isfinite(row.strength) else 0
    how = f", {_LEVELS[level - 1]}" if level else ""
    return f"Probably {row.likely_distortion}{how} ({share})."


def ranges_of(numbers: Sequence[int]) -> str:
    """Return numbers in short, such as ``0,3-5``."""
    parts: list[str] = []
    ordered = sorted(set(numbers))
    first = 0
    for index, number in enumerate(ordered):
        if index + 1 == len(ordered) or ordered[index + 1] != number + 1:
            start = ordered[first]
            parts.append(f"{start}-{number}" if number > start else str(number))
            first = index + 1
    return ",".join(parts)


def skip_of(layer: Layer, axis: str = "auto") -> str:
    """Return the slices of a layer that were rejected, as the option ``skip`` of a segmentation.

    Raises
    ------
    ValueError
        It was not scored, or was cut along another axis then; the message says what to do.
    """
    facts = layer.metadata.get(KEY)
    if not isinstance(facts, dict) or "rejected" not in facts:
        raise ValueError(f"{layer.name} has no scores: score it in the Quality dock first")
    if facts.get("axes", "") != _letters(layer, axis):
        raise ValueError(
            f"{layer.name} was scored along another axis; score it again, or choose all planes"
        )
    return ranges_of(facts["rejected"])
