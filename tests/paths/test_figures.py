"""Figures of results: what is drawn stays on the picture."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from napari_cvsuite.models.vit import path_names
from napari_cvsuite.paths import figures
from napari_cvsuite.paths.frequency import Frequencies
from napari_cvsuite.reports.figures import Draw


@pytest.mark.parametrize(
    ("off", "named"),
    [(1, "without embed"), (3, "without embed, msa_0, ffn_0"), (13, "without 13 paths")],
)
def test_the_legend_has_room(off: int, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []

    def keep(width: float, height: float, draw: Draw) -> bytes:
        figure = Figure(figsize=(width, height), layout="constrained")
        canvas = FigureCanvasAgg(figure)
        draw(figure)
        canvas.draw()
        drawn.append(figure)
        return b""

    monkeypatch.setattr(figures, "png", keep)
    names = path_names(8)
    flat = np.zeros(4, np.float32)
    curves = np.zeros((len(names), 4), np.float32)
    figures.frequency_figure(
        Frequencies(names, flat, curves, flat, names[:off], flat, "raise", "", 1, {})
    )
    (legend,) = drawn[0].legends
    assert [one.get_text() for one in legend.get_texts()] == ["embedding", "sum", named]
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= drawn[0].bbox.width
