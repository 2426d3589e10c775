"""A plot that nobody can see is not drawn, and is up to date once it is seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

from napari_cvsuite.widgets.canvas import PlotCanvas

Wait = Callable[[Callable[[], bool]], None]


def test_drawn_only_while_seen(qtbot: Any, wait_for: Wait) -> None:
    canvas, drawn = PlotCanvas(Figure()), []
    qtbot.addWidget(canvas)
    canvas.mpl_connect("draw_event", drawn.append)
    canvas.draw_idle()
    canvas.resize(300, 200)
    qtbot.wait(50)
    assert not drawn
    canvas.show()
    wait_for(lambda: bool(drawn))
    canvas.hide()
    qtbot.wait(50)
    count = len(drawn)
    canvas.draw_idle()
    qtbot.wait(50)
    assert len(drawn) == count
    canvas.show()
    wait_for(lambda: len(drawn) > count)
