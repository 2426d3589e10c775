"""The frame that all reports have: where the numbers come from, and numbered sections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from napari_cvsuite.reports.claims import Skipped
from napari_cvsuite.reports.markup import text

__all__ = ["Made", "Section", "again", "origin", "sections"]

Section = tuple[str, Any, Callable[[Any], Iterable[str]]]
"""Title, numbers or :class:`Skipped`, and what shows the numbers."""


class Made(Protocol):
    """What every report says of its making."""

    @property
    def command(self) -> str:
        """What makes the report again, in the folder that holds the data."""

    @property
    def date(self) -> str:
        """When it was made."""

    @property
    def version(self) -> str:
        """Of this package."""

    @property
    def seconds(self) -> float:
        """That it took."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Device, precision and threads."""


@runtime_checkable
class _Worded(Protocol):
    def in_words(self) -> str:
        """Return the numbers in a sentence."""


def origin(report: Made) -> list[tuple[str, str]]:
    """Return rows of a table: when, by what and on what the report was made."""
    known = report.provenance
    return [
        ("date", report.date),
        ("made by", f"napari-cvsuite {report.version}, in {report.seconds:.0f} s"),
        ("computed on", f"{known['device']}, {known['precision']}, threads: {known['threads']}"),
    ]


def again(report: Made) -> str:
    """Return the paragraph with the command that makes the report again."""
    return (
        "<p>To make this report again, in the folder that holds the data: "
        f"<code>{text(report.command)}</code></p>"
    )


def sections(parts: Iterable[Section]) -> Iterator[str]:
    """Yield numbered sections; one without numbers says why."""
    for number, (title, part, shown) in enumerate(parts, 1):
        yield f'<section><h2 id="s{number}">{number}. {text(title)}</h2>'
        if isinstance(part, Skipped):
            yield f'<p class="skipped">Not measured. {text(part.reason)}</p>'
        else:
            if isinstance(part, _Worded):
                yield f"<p>{text(part.in_words())}</p>"
            yield from shown(part)
        yield "</section>"
