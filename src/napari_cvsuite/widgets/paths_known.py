"""What the Paths dock knows of the image it has looked at; knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from napari.layers import Layer

from napari_cvsuite.jobs.request import InputReference, Request
from napari_cvsuite.widgets.neurons_layers import Spot
from napari_cvsuite.widgets.paths_inputs import reference
from napari_cvsuite.widgets.paths_rows import Column, columns_of, for_picture, table_rows

if TYPE_CHECKING:
    from napari_cvsuite.paths.session import Answer
    from napari_cvsuite.paths.subject import Target
    from napari_cvsuite.widgets.paths_job import Looked

__all__ = ["Known", "Place", "outcome"]


@dataclass(frozen=True)
class Place:
    """What was looked at, and where it lay.

    Parameters
    ----------
    key : object
        Equal where the same is looked at.
    spot : Spot
    layer : Layer
        The image, which may be gone meanwhile.
    """

    key: object
    spot: Spot
    layer: Layer


@dataclass
class Known:
    """A network run on an image, and all numbers that were asked for since.

    Parameters
    ----------
    looked : Looked
    place : Place
    columns : list of Column
    answer : Answer or None
        The prediction while some paths are off.
    """

    looked: Looked
    place: Place
    columns: list[Column] = field(default_factory=list)
    answer: Answer | None = None

    @classmethod
    def of(cls, looked: Looked, place: Place) -> Known:
        """Begin with what is known at once."""
        found = looked.found
        return cls(looked, place, [] if found is None else columns_of(found))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the paths."""
        return self.looked.session.names

    @property
    def likely(self) -> tuple[Any, ...]:
        """The likeliest classes of the whole network."""
        session = self.looked.session
        return session.subject.likely(session.logits)

    def add(self, column: Column) -> None:
        """Take a column, in the place of the one that had its name and class."""
        same = (column.title, column.target)
        self.columns = [one for one in self.columns if (one.title, one.target) != same]
        self.columns.append(column)

    def column(self, intervention: str, replacement: str, target: Target) -> Column | None:
        """Return the numbers of an intervention for a class, None where they are not known."""
        for one in reversed(self.columns):
            named = (one.intervention, one.replacement) == (intervention, replacement)
            if named and one.of(target):
                return one
        return None

    def picture(self, column: Column, target: Target) -> tuple[list[float], str]:
        """Return a number for each path, and what it is."""
        found = for_picture(column, self.names, target)
        assert found is not None
        return found

    def rows(self, target: Target) -> list[dict[str, Any]]:
        """Return the table."""
        found, session = self.looked.found, self.looked.session
        norms = found.norms if found is not None else [float("nan")] * len(self.names)
        facts = session.provenance(self.looked.asked.options)
        return table_rows(self.columns, self.names, list(norms), target, facts)

    def words(self, target: Target) -> str:
        """Return the sum, its residual, and what to keep in mind."""
        from napari_cvsuite.paths.contributions import SENTENCE

        found = self.looked.found
        if found is None:
            return self.looked.problem
        logit = float(target.of(found.logits))
        return (
            f"Logit of {target.name}: <b>{logit:+.3f}</b>, the sum of all direct shares and the "
            f"constant <span style='font-size:small'>(|sum − logits| at most "
            f"{found.residual:.1e})</span>.<br><i>{SENTENCE}</i>"
        )

    def request(self, job: str, options: Any, *others: InputReference) -> Request:
        """Return a job on this image, and on others, as data."""
        return Request(job, options, (reference(self.place.layer), *others))

    def contributions(self, target: str) -> Request:
        """Return the job that gives what is known at once."""
        options = replace(self.looked.asked.options, target=target)
        return self.request("paths.contributions", options)


def outcome(before: tuple[Any, ...], answer: Answer | None) -> str:
    """Return a prediction in a line, with what it was."""
    one = before[0]
    if answer is None:
        return f"{one.name} {one.probability:.1%}"
    after = answer.likely[0]
    return f"{after.name} {after.probability:.1%} (was {one.name} {one.probability:.1%})"
