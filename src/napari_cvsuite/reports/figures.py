"""What the figures of reports have in common."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from napari_cvsuite.reports.intervals import Interval
from napari_cvsuite.training.accuracy import Rate

__all__ = ["COLOURS", "DPI", "Draw", "errors", "legend", "png"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart by colour-blind people, the first two in grey print too (Okabe and Ito 2008)."""
DPI = 130
Draw = Callable[[Figure], None]


def png(width: float, height: float, draw: Draw) -> bytes:
    """Draw a figure of this size, in inches, without pyplot, and return it as PNG."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    kept = io.BytesIO()
    # Without the version of matplotlib, so that the same numbers give the same bytes.
    figure.savefig(kept, format="png", dpi=DPI, metadata={"Software": None})
    return kept.getvalue()


def errors(rows: Sequence[Rate | Interval]) -> list[list[float]]:
    """Return the lengths of the error bars of some values, below and above them."""
    # An interval of resamples need not hold the value itself.
    return [
        [max(0.0, one.value - one.low) for one in rows],
        [max(0.0, one.high - one.value) for one in rows],
    ]


def legend(figure: Figure, axes: Any) -> None:
    """Put the legend above the figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
