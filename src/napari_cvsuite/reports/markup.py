"""Pieces of an HTML page: text, tables and figures, all escaped."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape

from napari_cvsuite.reports.intervals import Interval
from napari_cvsuite.training.accuracy import Rate

__all__ = ["figure", "note", "page", "table", "text"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #767676; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { border: 1px solid #b0b0b0; padding: .25rem .6rem; text-align: left;
  vertical-align: top; }
thead th { background: #ececec; }
td.number { text-align: right; white-space: nowrap; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; }
figcaption, .note { color: #4a4a4a; font-size: .9rem; }
.skipped { border-left: .3rem solid #767676; padding-left: .8rem; }
.wide { overflow-x: auto; }
code { overflow-wrap: anywhere; background: #f2f2f2; padding: 0 .2rem; }
@media print { body { max-width: none; margin: 0; font-size: 10pt; } a { color: inherit; }
  h2 { break-after: avoid; } figure, tr { break-inside: avoid; } .wide { overflow: visible; } }
"""
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


def page(title: str, body: Iterable[str]) -> str:
    """Return a whole page that needs no other file.

    Parameters
    ----------
    title : str
    body : iterable of str
        Markup.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        "<body>\n<main>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )
