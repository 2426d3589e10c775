"""Claims of a paper, judged by numbers; and sections of a report that have none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from napari_cvsuite.reports.markup import note, table

__all__ = ["HOLDS", "NOT", "UNKNOWN", "Claim", "Skipped", "claims_table", "verdict"]

HOLDS, NOT, UNKNOWN = "holds", "does not hold", "not measured"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, judged.

    Parameters
    ----------
    text : str
    verdict : str
        One of :data:`HOLDS`, :data:`NOT` and :data:`UNKNOWN`.
    rule : str
        When it holds.
    because : str
        The numbers, or why there are none.
    """

    text: str
    verdict: str
    rule: str
    because: str


@dataclass(frozen=True)
class Skipped:
    """A section without numbers, and why."""

    reason: str


def verdict(holds: bool) -> str:
    """Return :data:`HOLDS` or :data:`NOT`."""
    return HOLDS if holds else NOT


def claims_table(claims: Iterable[Claim], caution: str) -> Iterator[str]:
    """Yield the section of a page that judges the claims.

    Parameters
    ----------
    claims : iterable of Claim
    caution : str
        What to remember of these verdicts.
    """
    yield '<section><h2 id="claims">Do the paper&#x27;s claims hold?</h2>'
    marks = {HOLDS: "✓ ", NOT: "✗ "}
    rows = [
        (one.text, marks.get(one.verdict, "– ") + one.verdict, one.because, one.rule)
        for one in claims
    ]
    yield table("Claims", ("claim", "verdict", "numbers", "holds if"), rows)
    yield note(caution)
    yield "</section>"
