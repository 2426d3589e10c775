"""Pieces of an HTML page: text, tables and figures, all escaped."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape

from napari_cvsuite.neurons.report_parts import Interval
from napari_cvsuite.training.accuracy import Rate

__all__ = ["figure", "note", "table", "text"]

ALT = "The numbers are in the table below."


def text(value: object) -> str:
    """Return a value as text of a page."""
    return escape(str(value), quote=True)


def note(words: str) -> str:
    """Return a small paragraph."""
    return f'<p class="note">{text(words)}</p>'


def figure(png: bytes, caption: str) -> str:
    """Return a picture, within the page, and its caption."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img alt="{text(caption)} {ALT}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )


def _cell(value: object) -> str:
    if isinstance(value, (Rate, Interval)):
        shown = f"{_number(value.value)} [{_number(value.low)}, {_number(value.high)}]"
    elif isinstance(value, float):
        shown = _number(value)
    elif value is None:
        shown = "none"
    else:
        shown = str(value)
    kind = "" if isinstance(value, str) else ' class="number"'
    return f"<td{kind}>{text(shown)}</td>"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "none"
    if 0 < abs(value) < 0.01:
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table whose first column names the rows; values with intervals have these."""
    titles = "".join(f'<th scope="col">{text(one)}</th>' for one in header)
    head = f"<thead><tr>{titles}</tr></thead>" if any(header) else ""
    lines = "".join(
        f'<tr><th scope="row">{text(first)}</th>{"".join(map(_cell, cells))}</tr>'
        for first, *cells in rows
    )
    return (
        f'<div class="wide"><table><caption>{text(caption)}</caption>{head}'
        f"<tbody>{lines}</tbody></table></div>"
    )
