"""The Quality dock: plot, table, and slices kept or rejected."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docks import Wait, opened, run

from napari_cvsuite.widgets.quality import QualityDock
from napari_cvsuite.widgets.quality_rows import KEY, ranges_of
from napari_cvsuite.widgets.segment import SegmentDock

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 255, (4, 48, 64), "u1")


@pytest.fixture
def dock(viewer: Any, tiny_quality_model: str, tiny_comparing_model: str) -> Iterator[QualityDock]:
    yield from opened(QualityDock(viewer), tiny_quality_model)


def _rows(dock: QualityDock) -> list[dict[str, Any]]:
    return dock.results.model.rows


def test_the_plot_grows_and_follows_the_slider(
    dock: QualityDock, viewer: Any, wait_for: Wait
) -> None:
    viewer.add_image(STACK, scale=(3, 1, 1), translate=(6, 0, 0))
    grown: list[int] = []
    plot = dock.results.plot
    dock.runner.previewed.connect(lambda _: grown.append(plot.length))
    run(dock, wait_for)
    assert grown == [1, 2, 3, 4]
    x, y = plot.points
    np.testing.assert_array_equal(x, range(4))
    np.testing.assert_array_equal(y, [row["score"] for row in _rows(dock)])
    assert [row["percentile"] for row in sorted(_rows(dock), key=lambda r: r["score"])] == [
        25.0,
        50.0,
        75.0,
        100.0,
    ]
    viewer.dims.set_current_step(0, 2)
    assert plot._current == 2 and "slice 2" in dock.results.why.text()
    dock.results.plot.point_chosen.emit(3)
    assert viewer.dims.point[0] == 15 and plot._current == 3
    dock.results.table.row_chosen.emit(_rows(dock)[1])
    assert viewer.dims.point[0] == 9 and plot._current == 1


def test_a_click_finds_the_slice_and_the_line_is_dragged(
    dock: QualityDock, viewer: Any, wait_for: Wait
) -> None:
    from matplotlib.backend_bases import MouseEvent

    viewer.add_image(STACK)
    run(dock, wait_for)
    plot = dock.results.plot
    plot.resize(400, 200)
    plot._redraw()
    x, y = plot.points
    at = plot._axes.transData.transform((x[2], y[2]))
    plot._pressed(MouseEvent("button_press_event", plot.canvas, *at, button=1))
    assert viewer.dims.point[0] == 2
    dock.results.reject.setChecked(True)
    plot._redraw()
    line = dock.results.threshold.value()
    height = plot._axes.transData.transform((0, line))[1]
    plot._pressed(MouseEvent("button_press_event", plot.canvas, at[0], height, button=1))
    aim = float(np.sort(y)[1:3].mean())
    height = plot._axes.transData.transform((0, aim))[1]
    plot._moved(MouseEvent("motion_notify_event", plot.canvas, at[0], height))
    plot._released(None)
    assert dock.results.threshold.value() == pytest.approx(aim, abs=1e-3)
    wait_for(lambda: dock.results.count.text() == "2 of 4 kept")
    assert [row["keep"] for row in _rows(dock)] == list(y >= aim)


def test_rejected_slices_are_listed_hidden_and_left_out(
    dock: QualityDock, viewer: Any, wait_for: Wait, tmp_path: Path, tiny_model: str
) -> None:
    layer = viewer.add_image(STACK, scale=(3, 1, 1))
    segment = SegmentDock(viewer)
    segment.model.choose(tiny_model)
    segment.device.choose("cpu")
    segment.planes.setCurrentText("not rejected")
    assert "score it in the Quality dock" in segment.run_bar.message.text()
    run(dock, wait_for)
    assert segment.run_bar.button.isEnabled()
    scores = [row["score"] for row in _rows(dock)]
    dock.results.reject.setChecked(True)
    dock.results.threshold.setValue(float(np.sort(scores)[1:3].mean()))
    wait_for(lambda: not dock.results._tell_later.isActive())
    lost = sorted(int(i) for i in np.argsort(scores)[:2])
    assert layer.metadata[KEY]["rejected"] == lost and layer.metadata[KEY]["threshold"]
    assert dock.results.model.data(dock.results.model.index(lost[0], 3)) == "rejected"
    dock.results.table.save(tmp_path / "scores.csv")
    wait_for((tmp_path / "scores.csv").exists)
    with (tmp_path / "scores.csv").open() as handle:
        assert [r["keep"] for r in csv.DictReader(handle)].count("False") == 2
    dock.results.hide_rejected.setChecked(True)
    kept = [i for i in range(4) if i not in lost]
    shown = viewer.layers[-1]
    assert not layer.visible and shown is not layer
    np.testing.assert_array_equal(np.asarray(shown.data), STACK[kept])
    np.testing.assert_array_equal(layer.data, STACK)
    # The slices keep their numbers where others are hidden.
    dock.results.slice_chosen.emit(kept[1])
    assert viewer.dims.current_step[0] == 1 and dock.results._current == kept[1]
    viewer.dims.set_current_step(0, 0)
    assert dock.results._current == kept[0]
    dock.results.slice_chosen.emit(lost[0])
    assert "rejected and hidden" in dock.run_bar.message.text()
    dock.results.hide_rejected.setChecked(False)
    assert list(viewer.layers) == [layer] and layer.visible
    segment.image.choose(layer)
    segment.run()
    wait_for(lambda: segment.idle)
    labels = viewer.layers[-1]
    assert not labels.data[lost].any() and labels.data[kept].any()
    options = labels.metadata["napari_cvsuite"]["options"]
    assert options["skip"] == ranges_of(lost)
    segment.close()


def test_a_removed_view_brings_the_image_back(
    dock: QualityDock, viewer: Any, wait_for: Wait
) -> None:
    layer = viewer.add_image(STACK)
    run(dock, wait_for)
    dock.results.reject.setChecked(True)
    dock.results.threshold.setValue(1e5)
    wait_for(lambda: not dock.results._tell_later.isActive())
    dock.results.hide_rejected.setChecked(True)
    assert "All slices are rejected" in dock.run_bar.message.text() and len(viewer.layers) == 1
    dock.results.hide_rejected.setChecked(False)
    dock.results.threshold.setValue(-1e5)
    wait_for(lambda: not dock.results._tell_later.isActive())
    dock.results.hide_rejected.setChecked(True)
    assert len(viewer.layers) == 2
    viewer.layers.remove(viewer.layers[-1])
    assert layer.visible and not dock.results.hide_rejected.isChecked()


def _calls(action: Callable[[], object]) -> int:
    """Return how many functions an action calls, which no busy machine changes."""
    count = 0

    def seen(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


def test_long_stacks_do_not_stall_the_window(qtbot: Any) -> None:
    from napari_cvsuite.quality.score import Row
    from napari_cvsuite.widgets.quality_job import Part
    from napari_cvsuite.widgets.quality_results import Results
    from napari_cvsuite.widgets.quality_rows import Scored, Scores, Subject

    results = Results()
    qtbot.addWidget(results)
    results.resize(360, 600)
    results.show()
    count = 5000
    rows = tuple(Row(i, float(s), position={"z": i}) for i, s in enumerate(RNG.random(count)))
    subject = Subject("stack", (0,), (0,), (count,), "z")
    results.begin(["stack"], [count])
    drawn: list[object] = []
    results.plot.canvas.mpl_connect("draw_event", drawn.append)
    called = [_calls(lambda row=row: results.add(Part(0, row))) for row in rows]
    # A slice that comes late costs what an early one does, and no picture.
    assert called[-1] <= called[1] and not drawn
    results.plot._redraw()
    assert len(drawn) == 1
    # Thousands of marks would take a second.
    assert not any(line.get_marker() for line in results.plot._lines)
    results.show_scores(Scores([Scored(subject, rows, {"model": "m"})]))
    results.reject.setChecked(True)
    results.plot._redraw()
    # The threshold of the worst tenth has three decimals.
    assert abs(int(results.count.text().split()[0]) - 4500) < 5


def test_a_time_series_of_stacks(dock: QualityDock, viewer: Any, wait_for: Wait) -> None:
    movie = RNG.integers(0, 255, (2, 3, 40, 48), "u1")
    layer = viewer.add_image(movie, scale=(10, 2, 1, 1))
    run(dock, wait_for)
    assert [row["slice"] for row in _rows(dock)] == list(range(6))
    assert _rows(dock)[4]["position"] == "t 1, z 1"
    dock.results.slice_chosen.emit(4)
    assert tuple(viewer.dims.point[:2]) == (10, 2)
    viewer.dims.set_current_step(1, 2)
    assert "slice 5" in dock.results.why.text()
    scores = [row["score"] for row in _rows(dock)]
    dock.results.reject.setChecked(True)
    dock.results.threshold.setValue(float(np.sort(scores)[:2].mean()))
    wait_for(lambda: not dock.results._tell_later.isActive())
    (lost,) = layer.metadata[KEY]["rejected"]
    assert lost == int(np.argmin(scores))
    dock.results.hide_rejected.setChecked(True)
    kept = np.delete(movie.reshape(6, 40, 48), lost, axis=0)
    np.testing.assert_array_equal(np.asarray(viewer.layers[-1].data), kept)
    # Another run starts without a threshold, and with the image itself.
    run(dock, wait_for)
    assert list(viewer.layers) == [layer] and layer.visible
    assert layer.metadata[KEY]["rejected"] == []


def test_the_plot_follows_the_theme(dock: QualityDock, viewer: Any) -> None:
    before = dock.results.plot._figure.get_facecolor()
    viewer.theme = "light"
    assert dock.results.plot._figure.get_facecolor() != before
