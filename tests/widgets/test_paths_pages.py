"""Pages of the Paths dock about more than one image, its files, and numbers without a window."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docks import Held, Wait, opened
from matplotlib.backend_bases import MouseButton, MouseEvent
from PIL import Image as Picture

import napari_cvsuite
from napari_cvsuite.images import Image as Array
from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.request import Request
from napari_cvsuite.models.weights import import_file
from napari_cvsuite.paths import counting, depth, frequency, influence, pruning, scaling, stack
from napari_cvsuite.paths.labelled_options import (
    DepthOptions,
    InfluenceOptions,
    LengthOptions,
    PruneOptions,
    ScaleOptions,
)
from napari_cvsuite.paths.options import FrequencyOptions, TargetOptions, WhatIfOptions
from napari_cvsuite.paths.session import Session
from napari_cvsuite.paths.subject import LabelledInputs, Target
from napari_cvsuite.widgets.paths import PathsDock
from napari_cvsuite.widgets.paths_curves import DEPTH, FREQUENCY, LENGTHS
from napari_cvsuite.widgets.paths_labelled_job import (
    DEPTH as DEPTH_ACCURACY,
)
from napari_cvsuite.widgets.paths_labelled_job import (
    INFLUENCE,
    PRUNE,
    SCALE,
)
from napari_cvsuite.widgets.paths_labelled_page import LabelledPage
from napari_cvsuite.widgets.paths_plot import Curve, PathPlot
from napari_cvsuite.widgets.paths_rows import Column, for_picture, table_rows
from napari_cvsuite.widgets.paths_tabs import COMBINE, CURVES, FOLDER, NUMBERS, PICTURE

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 255, (48, 64, 3), "u1")
STACK = RNG.integers(0, 255, (4, 48, 64), "u1")
CPU = Context(device="cpu")


@pytest.fixture
def dock(viewer: Any, tiny_transformer: str) -> Iterator[PathsDock]:
    yield from opened(PathsDock(viewer), tiny_transformer)


def _said(dock: PathsDock, wait_for: Wait) -> str:
    wait_for(lambda: dock.idle)
    return dock.run_bar.message.text()


def _draw(dock: PathsDock, wait_for: Wait, what: str) -> list[dict[str, Any]]:
    dock.pages.choose(CURVES)
    dock.pages.curves.what.setCurrentText(what)
    dock.pages.curves.button.click()
    assert _said(dock, wait_for).startswith("Done"), dock.run_bar.message.text()
    assert dock.pages.curves.plot.isVisibleTo(dock)
    return dock.pages.curves.table.model.rows


def _measure(
    dock: PathsDock, wait_for: Wait, page: LabelledPage, action: str, **values: Any
) -> list[dict[str, Any]]:
    page.choice.choose(action)
    page.choice.forms[action].set_values(values)
    assert page.choice.button.isEnabled(), page.choice.hint.text()
    page.choice.button.click()
    assert _said(dock, wait_for).startswith("Done"), dock.run_bar.message.text()
    return page.table.model.rows


def _same(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> bool:
    """Return whether rows begin with others; a float may be NaN."""
    known = [{name: row[name] for name in other} for row, other in zip(rows, others, strict=True)]
    return repr(known) == repr(others)


# Curves ----------------------------------------------------------------------------------------


def test_the_prediction_after_each_layer(
    dock: PathsDock, viewer: Any, wait_for: Wait, tiny_transformer: str
) -> None:
    layer = viewer.add_image(COLOUR)
    rows = _draw(dock, wait_for, DEPTH)
    found = depth.run(Array.from_layer(layer), TargetOptions(model=tiny_transformer), CPU)
    assert _same(rows, found.rows()) and [row["layers"] for row in rows] == [0, 1, 2]
    lines = dock.pages.curves.plot.axes.get_lines()
    assert len(lines) == 3
    first = found.classes.index(found.likely[-1][0].name)
    np.testing.assert_allclose(lines[0].get_ydata(), found.probabilities[:, first])
    assert found.likely[-1][0].name in dock.pages.curves.words.text()
    # It looked at the image before.
    assert dock.known is not None and dock.request.job == "paths.depth"


def test_frequencies_of_a_stack_and_of_a_folder(
    dock: PathsDock, viewer: Any, wait_for: Wait, tmp_path: Path, tiny_transformer: str
) -> None:
    layer = viewer.add_image(STACK)
    dock.run()
    wait_for(lambda: dock.idle)
    dock.pages.picture.boxes[1].click()
    wait_for(lambda: dock.idle)
    rows = _draw(dock, wait_for, FREQUENCY)
    plane = dock.known.looked.asked.options.plane
    options = FrequencyOptions(model=tiny_transformer, off="msa_0", plane=plane)
    found = frequency.run([Array.from_layer(layer)], options, CPU)
    assert _same(rows, found.rows()) and found.images == 4
    words = dock.pages.curves.words.text()
    assert "Mean of 4 images" in words and found.words in words
    # Five paths, the sum, and the sum without the path that is off.
    assert len(dock.pages.curves.plot.axes.get_lines()) == 7
    for number in range(2):
        Picture.fromarray(STACK[number]).save(tmp_path / f"{number}.png")
    dock.pages.curves.folder.set_path(tmp_path)
    _draw(dock, wait_for, FREQUENCY)
    assert "Mean of 2 images" in dock.pages.curves.words.text()
    assert dock.request.inputs[0].value == str(tmp_path)
    viewer.layers.clear()
    dock.pages.curves.folder.set_path(None)
    dock.pages.curves.button.click()
    assert "Open an image, or choose a folder" in dock.run_bar.message.text()


def test_lengths_need_no_image(dock: PathsDock, wait_for: Wait, tiny_transformer: str) -> None:
    rows = _draw(dock, wait_for, LENGTHS)
    found = counting.run(LengthOptions(model=tiny_transformer), CPU)
    # Two layers: four modules, each on or off.
    assert [row["routes"] for row in rows] == [1, 4, 6, 4, 1] and _same(rows, found.rows())
    words = dock.pages.curves.words.text()
    assert "3 paths by layer, 5 by module, 9 by head" in words and "16 in all" in words


def test_every_slice_of_a_stack(
    dock: PathsDock, viewer: Any, wait_for: Wait, tiny_transformer: str, tmp_path: Path
) -> None:
    pixels = RNG.integers(0, 255, (2, 3, 48, 64), "u1")
    layer = viewer.add_image(pixels, scale=(2, 3, 1, 1), name="movie")
    page = dock.pages.picture_page
    dock.measures.apply_to_stack()
    assert "switch a path off or weigh one" in dock.run_bar.message.text()
    dock.pages.choose(PICTURE)
    viewer.dims.set_current_step((0, 1), (0, 1))
    dock.run()
    wait_for(lambda: dock.idle)
    page.set_weights({1: 0.0, 4: 0.5})
    page.stack_button.click()
    assert _said(dock, wait_for).startswith("Done"), dock.run_bar.message.text()
    assert dock.pages.name == CURVES
    options = WhatIfOptions(
        model=tiny_transformer,
        plane=1,
        off="msa_0",
        weights="ffn_1=0.5",
        intervention="removed_final",
        estimate=False,
    )
    found = stack.run(Array.from_layer(layer), options, CPU)
    curves = dock.pages.curves
    assert _same(curves.table.model.rows, found.rows())
    assert dock.request.job == "paths.stack" and dock.request.options == options
    before, after, *_ = curves.plot.axes.get_lines()
    np.testing.assert_array_equal(before.get_ydata(), found.target.of(found.before))
    np.testing.assert_array_equal(after.get_ydata(), found.target.of(found.after))
    assert f"changes in {found.changed.sum()} of 6 slices" in curves.words.text()
    # A click on the plot, and one on a row, lead to the slice; the mark follows.
    assert curves.plot.mark.get_xdata()[0] == 1
    _click(curves.plot, 4.2)
    assert viewer.dims.current_step[:2] == (1, 1) and curves.plot.mark.get_xdata()[0] == 4
    curves.table.row_chosen.emit(curves.table.model.rows[2])
    assert viewer.dims.current_step[:2] == (0, 2)
    _click(curves.plot, 5.2)
    assert viewer.dims.current_step[:2] == (1, 2)
    curves.table.save(tmp_path / "slices.csv")
    wait_for((tmp_path / "slices.csv").exists)
    assert "msa_0+ffn_1*0.5" in (tmp_path / "slices.csv").read_text()
    viewer.layers.remove(layer)
    _click(curves.plot, 0.0)
    assert "The stack is gone" in dock.run_bar.message.text()
    # Other curves are clicked for nothing.
    _draw(dock, wait_for, LENGTHS)
    _click(curves.plot, 1.0)
    assert dock.run_bar.message.text().startswith("Done")


def _click(plot: PathPlot, x: float) -> None:
    """Press the left button of the mouse over a plot, in the middle of its height."""
    axes = plot.axes
    plot.canvas.draw()
    place = axes.transData.transform((x, sum(axes.get_ylim()) / 2))
    event = MouseEvent("button_press_event", plot.canvas, *place, MouseButton.LEFT)
    plot.canvas.callbacks.process(event.name, event)


def test_a_stack_can_be_cancelled(
    dock: PathsDock, viewer: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.add_image(STACK)
    dock.run()
    wait_for(lambda: dock.idle)
    dock.pages.picture_page.set_weights({1: 0.0})
    held, real = Held(), Session.on

    def slow(self: Session, planes: Any, plane: int, context: Context) -> Session:
        held.hold(context.check)
        return real(self, planes, plane, context)

    monkeypatch.setattr(Session, "on", slow)
    dock.pages.picture_page.stack_button.click()
    wait_for(held.entered.is_set)
    assert not dock.pages.curves.button.isEnabled()
    dock.run_bar.button.click()
    assert dock.idle and "Cancelled" in dock.run_bar.message.text()
    assert not dock.pages.curves.table.model.rows


# Labelled images -------------------------------------------------------------------------------


def test_pruning_with_its_steps_and_the_model_it_makes(
    dock: PathsDock,
    viewer: Any,
    wait_for: Wait,
    animals: Path,
    tmp_path: Path,
    tiny_transformer: str,
) -> None:
    page = dock.pages.combine
    dock.pages.choose(COMBINE)
    assert not page.choice.button.isEnabled() and "Choose a folder" in page.choice.hint.text()
    page.choice.folder.set_path(animals)
    rows = _measure(dock, wait_for, page, PRUNE, method="loss")
    inputs = LabelledInputs(animals)
    found = pruning.run(inputs, PruneOptions(model=tiny_transformer, method="loss"), CPU)
    assert _same(rows, found.rows()) and len(rows) == 5
    words = page.words.text()
    assert "Pruning may lower accuracy; look at the held-out score." in words
    assert f"{found.steps[found.kept].held_out.accuracy:.1%}" in words
    first, second = page.plot.axes.get_lines()[:2]
    np.testing.assert_allclose(first.get_ydata(), [s.selection.accuracy for s in found.steps])
    np.testing.assert_allclose(second.get_ydata(), [s.held_out.accuracy for s in found.steps])
    assert page.slider.value() == found.kept and page.removed() == found.removed
    # One step back, and that in the picture.
    viewer.add_image(COLOUR)
    dock.run()
    wait_for(lambda: dock.idle)
    page.slider.setValue(2)
    assert page.removed() == tuple(name for step in found.steps[:3] for name in step.paths)
    assert f"Step 2 of {len(rows) - 1}" in page.step_words.text()
    page.show_button.click()
    wait_for(lambda: dock.idle)
    assert dock.pages.name == PICTURE and set(dock.pages.off_names().split(",")) == set(
        page.removed()
    )
    answer = dock.known.answer
    page.wanted.emit(tmp_path / "pruned")
    assert "Done" in _said(dock, wait_for)
    assert "Written to" in page.words.text() and page.slider.value() == 2
    name = import_file(tmp_path / "pruned").name
    again = napari_cvsuite.classify(COLOUR, model=name, device="cpu").likely
    assert [one.name for one in again] == [one.name for one in answer.likely]
    np.testing.assert_allclose(
        [one.logit for one in again], [one.logit for one in answer.likely], atol=1e-5
    )


def test_pruning_by_hand_takes_the_switches(
    dock: PathsDock, viewer: Any, wait_for: Wait, animals: Path
) -> None:
    page = dock.pages.combine
    page.choice.folder.set_path(animals)
    page.choice.forms[PRUNE].set_values({"method": "hand"})
    assert "Switch off the paths" in page.choice.hint.text()
    viewer.add_image(COLOUR)
    dock.run()
    wait_for(lambda: dock.idle)
    for number in (0, 3):
        dock.pages.picture.boxes[number].click()
    wait_for(lambda: dock.idle)
    rows = _measure(dock, wait_for, page, PRUNE)
    assert [row["paths"] for row in rows] == ["", "embed", "msa_1"]
    assert page.removed() == ("embed", "msa_1")


@pytest.mark.parametrize("per", ["scalar", "channel"])
def test_weights_of_paths_before_and_after(
    dock: PathsDock, wait_for: Wait, animals: Path, tmp_path: Path, tiny_transformer: str, per: str
) -> None:
    page = dock.pages.combine
    page.choice.folder.set_path(animals)
    rows = _measure(dock, wait_for, page, SCALE, per=per, steps=4)
    options = ScaleOptions(model=tiny_transformer, per=per, steps=4)
    found = scaling.run(LabelledInputs(animals), options, CPU)
    assert _same(rows, found.rows()) and [row["path"] for row in rows][:2] == ["embed", "msa_0"]
    before, after = found.before, found.after
    words = page.words.text()
    assert f"accuracy {before.accuracy:.1%} became {after.accuracy:.1%}" in words
    assert f"Held out ({after.images} images)" in words and "this project's definitions" in words
    assert not page.show_button.isVisibleTo(page) and page.export_button.isVisibleTo(page)
    page.wanted.emit(tmp_path / "scaled")
    _said(dock, wait_for)
    assert (tmp_path / "scaled" / "model.safetensors").is_file()
    assert (tmp_path / "scaled" / "recipe.json").is_file()


def test_influence_and_depth_over_a_folder(
    dock: PathsDock, wait_for: Wait, animals: Path, tiny_transformer: str
) -> None:
    page = dock.pages.folder
    dock.pages.choose(FOLDER)
    page.choice.folder.set_path(animals)
    for box in page.choice.effects.values():
        box.setChecked(False)
    assert "Tick at least one" in page.choice.hint.text()
    page.choice.effects["removed_final"].setChecked(True)
    page.choice.effects["total_layer"].setChecked(True)
    rows = _measure(dock, wait_for, page, INFLUENCE)
    options = InfluenceOptions(model=tiny_transformer, interventions="removed_final,total_layer")
    found = influence.run(LabelledInputs(animals), options, CPU)
    assert _same(rows, found.rows())
    assert {"accuracy_change", "accuracy_low", "accuracy_high"} <= set(rows[0])
    assert [row["path"] for row in rows][-2:] == ["layer_0", "layer_1"]
    assert f"{found.accuracy.value:.1%} on 36 images" in page.words.text()
    assert not page.export_button.isVisibleTo(page)
    rows = _measure(dock, wait_for, page, DEPTH_ACCURACY)
    options = DepthOptions(model=tiny_transformer)
    assert _same(rows, depth.accuracy(LabelledInputs(animals), options, CPU).rows())
    # A folder that cannot be used is said so, and the last result stays.
    (animals.parent / "empty").mkdir()
    page.choice.folder.set_path(animals.parent / "empty")
    page.choice.button.click()
    assert not _said(dock, wait_for).startswith("Done")
    assert page.table.model.rows == rows


def test_a_table_of_labels(
    dock: PathsDock, wait_for: Wait, animals: Path, tmp_path: Path, tiny_transformer: str
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    lines = ["file,kind"]
    for path in sorted(animals.glob("*/0[0-5].png")):
        path.rename(flat / f"{path.parent.name}{path.name}")
        lines.append(f"{path.parent.name}{path.name},{path.parent.name}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    page = dock.pages.folder
    dock.pages.choose(FOLDER)
    page.choice.folder.set_path(flat)
    assert not page.choice.column.isVisibleTo(dock)
    page.choice.table.set_path(tmp_path / "labels.csv")
    assert page.choice.column.isVisibleTo(dock)
    page.choice.column.setText("kind")
    rows = _measure(dock, wait_for, page, DEPTH_ACCURACY)
    assert rows[0]["n"] == 18
    roles = [one.role for one in dock.request.inputs]
    assert roles == ["images", "table", "column"]


# Files -----------------------------------------------------------------------------------------


def test_table_figure_and_recipe(
    dock: PathsDock, viewer: Any, wait_for: Wait, tmp_path: Path, tiny_transformer: str
) -> None:
    row = dock.save_row
    row.figure_wanted.emit(tmp_path / "none.png")
    assert "no picture on this page" in dock.run_bar.message.text()
    row.recipe_wanted.emit(tmp_path / "none.yaml")
    assert "Run something first" in dock.run_bar.message.text()
    viewer.add_image(COLOUR, name="cell")
    dock.run()
    wait_for(lambda: dock.idle)
    dock.show()
    dock.pages.choose(PICTURE)
    picture = dock.pages.picture
    wanted = (2 * picture.width(), 2 * picture.height())
    row.figure_wanted.emit(tmp_path / "picture.png")
    wait_for((tmp_path / "picture.png").exists)
    with Picture.open(tmp_path / "picture.png") as saved:
        assert saved.size == wanted and saved.getextrema()[0] != (0, 0)
    wait_for(lambda: "Saved" in dock.run_bar.message.text())
    dock.pages.choose(NUMBERS)
    row.figure_wanted.emit(tmp_path / "bars.png")
    wait_for((tmp_path / "bars.png").exists)
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")
    dock.pages.numbers.table.save(tmp_path / "paths.csv")
    wait_for((tmp_path / "paths.csv").exists)
    with (tmp_path / "paths.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert rows[0]["path"] == "embed" and rows[0]["image"] == "cell"
    assert rows[0]["class"] and len(rows[0]["weights_sha256"]) == 64
    assert rows[0]["model"] == tiny_transformer and rows[0]["version"] == napari_cvsuite.__version__
    wait_for(lambda: not row._runner.busy)
    row.recipe_wanted.emit(tmp_path / "paths.yaml")
    wait_for((tmp_path / "paths.yaml").exists)
    request = Request.from_yaml((tmp_path / "paths.yaml").read_text())
    assert request == dock.request and request.job == "paths.contributions"
    assert request.inputs[0].value == "cell" and request.options.model == tiny_transformer


# Numbers and plots without a dock --------------------------------------------------------------


def test_rows_keep_interventions_apart() -> None:
    target = Target(0, 1, "cat - dog")
    names = ("embed", "msa_0", "ffn_0")
    direct = Column("direct", "", (*names, "constant"), np.array([[1, 0], [2, 1], [3, 0], [4, 4]]))
    heads = Column(
        "total_head",
        "zero",
        ("msa_0.head_0", "msa_0.head_1"),
        np.array([[1.0, 0.5], [-3.0, 1.0]]),
    )
    estimate = Column("attribution_patching", "", names, np.array([1.0, 2.0, 3.0]), "cat")
    rows = table_rows([direct, heads, estimate], names, [5, 6, 7], target, {"model": "m"})
    assert [row["path"] for row in rows] == [
        *names,
        "constant",
        "msa_0.head_0",
        "msa_0.head_1",
    ]
    assert [row["direct"] for row in rows[:4]] == [1, 1, 3, 0]
    assert rows[5]["total_head (zero)"] == -4 and np.isnan(rows[0]["total_head (zero)"])
    # The estimate is for another class.
    assert "attribution_patching" not in rows[0]
    assert rows[0]["class"] == "cat - dog" and rows[0]["model"] == "m" and rows[0]["norm"] == 5
    assert for_picture(estimate, names, target) is None
    values, words = for_picture(heads, names, target)
    assert values[1] == -4 and np.isnan(values[0]) and np.isnan(values[2])
    assert "largest" in words and "total_head (zero)" in words


def test_bars_tell_what_they_are(qtbot: Any) -> None:
    plot = PathPlot()
    qtbot.addWidget(plot)
    plot.resize(420, 210)
    names = ["embed", "msa_0", "ffn_0", "msa_1", "ffn_1"]
    plot.show_paths(names, [1.0, -2.0, float("nan"), 0.5, 3.0], 0.25, "direct, logit of cat")
    plot.show()
    heights = {round(bar.get_x() + 0.45, 2): bar.get_height() for bar in plot.axes.patches}
    # The two bars of a layer stand together: 2.4 and 3.4, then 5 and 6.
    assert heights == {0.0: 1.0, 2.4: -2.0, 3.4: 0.0, 5.0: 0.5, 6.0: 3.0}
    colours = [bar.get_facecolor() for bar in plot.axes.patches]
    assert len(set(colours)) == 3
    assert any(list(line.get_ydata()) == [0.25, 0.25] for line in plot.axes.get_lines())
    picked: list[int] = []
    plot.path_chosen.connect(picked.append)

    class Event:
        inaxes, button, xdata = plot.axes, 1, 5.1

    plot._hovered(Event)
    assert plot.canvas.toolTip() == "msa_1: +0.5 (direct, logit of cat)"
    plot._clicked(Event)
    Event.xdata = 4.2
    plot._clicked(Event)
    assert picked == [3]
    plot.show_curves([Curve("one", [0, 1], [2, 3], low=[1, 2], high=[3, 4])], "x", "y")
    plot.set_mark(0.5)
    plot.set_mark(0.75)
    assert [list(line.get_xdata()) for line in plot.axes.get_lines()] == [[0, 1], [0.75, 0.75]]
    plot._clicked(Event)
    assert picked == [3] and plot.png().startswith(b"\x89PNG")
