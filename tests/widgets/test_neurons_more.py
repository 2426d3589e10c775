"""The Neurons dock: the share of a map on an object, distorted copies, bars and the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docks import Wait, opened, rows_of_run
from matplotlib.backend_bases import MouseEvent
from PIL import Image as Picture
from qtpy.QtCore import Qt

from napari_cvsuite.images import Image as Array
from napari_cvsuite.jobs import Context
from napari_cvsuite.neurons import copies, dissecting, dream, explain, silence, simplicity
from napari_cvsuite.neurons.copy_options import CopyOptions
from napari_cvsuite.neurons.options import (
    AblateOptions,
    DissectOptions,
    MaximiseOptions,
    SaliencyOptions,
    SmoothnessOptions,
)
from napari_cvsuite.widgets import neurons_words as words
from napari_cvsuite.widgets.neurons import NeuronsDock
from napari_cvsuite.widgets.neurons_actions import (
    ABLATE,
    COPIES,
    DISSECT,
    MAXIMISE,
    REPORT,
    SALIENCY,
    SIMPLICITY,
)
from napari_cvsuite.widgets.neurons_inputs import pair_name
from napari_cvsuite.widgets.neurons_plot import Bars, Line, Plot

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 255, (48, 64, 3), "u1")
OBJECT = np.zeros((48, 64), "u1")
OBJECT[12:36, 20:40] = 3


@pytest.fixture
def dock(viewer: Any, tiny_classifier: str) -> Iterator[NeuronsDock]:
    yield from opened(NeuronsDock(viewer), tiny_classifier)


def test_the_share_of_a_map_on_an_object(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, tiny_classifier: str
) -> None:
    layer = viewer.add_image(COLOUR)
    labels = viewer.add_labels(OBJECT.copy(), name="cell")
    choice = dock.inputs.choice
    assert choice.mask_picker.isVisibleTo(dock) and choice.mask_picker.layer() is None
    rows = rows_of_run(dock, wait_for, SALIENCY)
    assert not any("mask" in row["measure"] for row in rows)
    choice.mask_picker.choose(labels)
    rows = {row["measure"]: row for row in rows_of_run(dock, wait_for, SALIENCY)}
    inside = explain.run(
        Array.from_layer(layer),
        SaliencyOptions(model=tiny_classifier),
        Context(),
        Array.from_layer(labels),
    ).inside
    assert inside is not None
    text = dock.shower.panels[SALIENCY].words.text()
    assert f"relevance mass in it {inside.mass:.3f} (random maps {inside.area:.3f})" in text
    assert "Pointing game: the most relevant pixel lies" in text
    row = rows["relevance mass inside the mask"]
    assert row[tiny_classifier] == inside.mass and row["source"] == "arXiv 2003.07258"
    assert row[f"random map, {tiny_classifier}"] == inside.area
    row = rows["pointing game, most relevant pixel inside the mask"]
    assert row[tiny_classifier] == inside.pointing and row["source"] == "arXiv 1608.00507"
    np.testing.assert_array_equal(labels.data, OBJECT)
    labels.data = np.zeros_like(OBJECT)
    dock.run()
    wait_for(lambda: dock.idle)
    assert "cell marks nothing in what the network sees" in dock.run_bar.message.text()
    # Masks of channels are no objects, and a layer that is gone is none.
    viewer.layers.remove(labels)
    assert choice.mask_picker.layer() is None and choice.mask_picker.count() == 1


def test_distorted_copies_as_layers(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, tiny_classifier: str
) -> None:
    layer = viewer.add_image(COLOUR, name="cell", scale=(2, 2))
    labels = viewer.add_labels(OBJECT, name="object")
    rows = rows_of_run(dock, wait_for, COPIES)
    other = copies.run(Array.from_layer(layer), CopyOptions(model=tiny_classifier), Context())
    made = {one.name.removeprefix("cell: "): one for one in viewer.layers[3:]}
    assert list(made) == [one.title for one in reversed(other.copies)] and len(made) == 12
    for one in other.copies:
        shown = made[one.title]
        np.testing.assert_array_equal(shown.data, one.pixels)
        assert shown.rgb and shown.metadata["napari_cvsuite"]["distortion"] == one.title
        # Over the middle square, which begins at column 8.
        np.testing.assert_allclose(
            shown.data_to_world((-0.5, -0.5)), layer.data_to_world((-0.5, 7.5))
        )
        np.testing.assert_allclose(
            shown.data_to_world((31.5, 31.5)), layer.data_to_world((47.5, 55.5))
        )
    assert [name for name, one in made.items() if one.visible] == ["scrambled 2"]
    assert [row["copy"] for row in rows] == ["as it is", *(one.title for one in other.copies)]
    assert rows[0][tiny_classifier] == other.likely[0].name and rows[0]["tag"] == ""
    first = other.copies[0].likely[0]
    assert rows[1][tiny_classifier] == first.name and rows[1]["tag"] == "secondary"
    assert rows[1][f"{tiny_classifier}, probability"] == first.probability
    panel = dock.shower.panels[COPIES]
    panel.table.row_chosen.emit(rows[5])
    assert [name for name, one in made.items() if one.visible] == [rows[5]["copy"]]
    panel.table.row_chosen.emit(rows[0])
    assert not any(one.visible for one in made.values())
    # One of them; a silhouette needs the object.
    count = len(viewer.layers)
    rows_of_run(dock, wait_for, COPIES, distortion="blur", level=3.0)
    assert [one.name for one in viewer.layers[count:]] == ["cell: blur 3"]
    dock.inputs.choice.form.set_values({"distortion": "silhouette", "level": 0.0})
    assert "Choose the Labels layer that shows the object" in dock.run_bar.message.text()
    dock.inputs.choice.mask_picker.choose(labels)
    rows_of_run(dock, wait_for, COPIES)
    drawn = viewer.layers[-1].data
    assert set(np.unique(drawn)) == {0, 1} and drawn.mean() == pytest.approx(24 * 20 / 48**2, 0.1)
    dock.inputs.choice.form.set_values({"distortion": "grey"})
    assert not dock.inputs.choice.mask_picker.isVisibleTo(dock)


def test_copies_of_two_networks_are_shown_once(
    dock: NeuronsDock,
    viewer: Any,
    wait_for: Wait,
    tiny_classifier: str,
    other_classifier: str,
) -> None:
    dock.inputs.other.refresh()
    dock.inputs.other.choose(other_classifier)
    viewer.add_image(COLOUR)
    rows = rows_of_run(dock, wait_for, COPIES, distortion="grey")
    assert len(viewer.layers) == 3 and len(rows) == 2
    assert {tiny_classifier, other_classifier} <= set(rows[0])


def _press(plot: Plot, x: float, y: float) -> None:
    plot.canvas.draw()
    at = plot.axes.transData.transform((x, y))
    plot.canvas.callbacks.process(
        "button_press_event", MouseEvent("button_press_event", plot.canvas, *at, button=1)
    )


def test_bars_lead_to_the_rows_of_a_dissection(
    dock: NeuronsDock,
    viewer: Any,
    wait_for: Wait,
    tiny_classifier: str,
    other_classifier: str,
) -> None:
    dock.inputs.other.refresh()
    dock.inputs.other.choose(other_classifier)
    stack = RNG.integers(0, 255, (6, 48, 64), "u1")
    viewer.add_image(stack)
    for name, where in (("bright", stack > 128), ("dark", stack < 60)):
        labels = viewer.add_labels(where.astype("u1"), name=name)
        dock.inputs.choice.concepts.tick(labels)
    rows = rows_of_run(dock, wait_for, DISSECT, shifts=0, cut=0.2)
    panel = dock.shower.panels[DISSECT]
    axes = panel.plot.axes
    # Top to bottom as the concepts; of each a bar for each network, of detectors among channels.
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(names) == ["bright", "dark"] and panel.plot.isVisibleTo(panel)
    models = (tiny_classifier, other_classifier)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(models)
    units = {row["channel"] for row in rows if row["model"] == tiny_classifier}
    assert 0 < sum(row["detector"] for row in rows) < 2 * len(units)
    for model, bars in zip(models, axes.containers, strict=True):
        for name, bar in zip(names, bars, strict=True):
            own = [row for row in rows if row["model"] == model and row["concept"] == name]
            found = sum(row["detector"] for row in own)
            assert bar.get_width() == pytest.approx(found / len(units))
            _press(panel.plot, bar.get_x() + 1e-4, bar.get_y() + bar.get_height() / 2)
            (chosen,) = panel.table.view.selectionModel().selectedRows()
            place = panel.table.model.place(chosen)
            best = max(own, key=lambda row: (row["detector"], row["iou"]))
            assert rows[place] == best
    # Also where the user has sorted the table.
    panel.table.view.sortByColumn(1, Qt.SortOrder.DescendingOrder)
    _press(panel.plot, 1e-4, 0.2)
    (chosen,) = panel.table.view.selectionModel().selectedRows()
    place = panel.table.model.place(chosen)
    assert (rows[place]["model"], rows[place]["concept"]) == (other_classifier, names[0])


def test_bars_of_nothing_and_clicks_beside_them(qtbot: Any) -> None:
    plot = Plot()
    qtbot.addWidget(plot)
    met: list[tuple[str, str]] = []
    plot.bar_chosen.connect(lambda *one: met.append(one))
    _press(plot, 0.5, 0.5)
    plot.show_bars(("a", "b"), [Bars("S", (0.0, 0.0), (0, 0))], "share")
    _press(plot, 0.9, 1.45)
    assert met == [("S", "b")] and plot.axes.get_xlim() == (0, 1)
    plot.show_lines([Line("loss", (0, 1), (1, 0))], "x", "y")
    _press(plot, 0.5, 0.5)
    assert len(met) == 1


def test_many_concepts_are_counted_by_group() -> None:
    from napari_cvsuite.neurons.dissecting import Dissected
    from napari_cvsuite.neurons.overlap import Concept
    from napari_cvsuite.neurons.units import Dissection

    def found(n: int) -> Dissected:
        concepts = tuple(Concept(k + 1, f"c{k}", k % 2) for k in range(n))
        iou = np.eye(3, n)
        flat = np.zeros((3, n))
        units = Dissection(
            "layer", concepts, ("even", "odd"), "plain", 0.5, flat[0], flat, flat, flat[0], iou, iou
        )
        return Dissected(units, "layer", 4, {"model": "m"})

    assert words.detectors([found(12)]) == (
        tuple(f"c{k}" for k in range(12)), {"m": (1, 1, 1, *[0] * 9)}, "concept"
    )  # fmt: skip
    assert words.detectors([found(13)]) == (("even", "odd"), {"m": (2, 1)}, "group")


def test_a_report_is_written_and_found(
    dock: NeuronsDock,
    viewer: Any,
    wait_for: Wait,
    tmp_path: Path,
    tiny_classifier: str,
    other_classifier: str,
) -> None:
    stimuli = tmp_path / "stimuli"
    stimuli.mkdir()
    for name in ("cat1-dog1", "dog1-bird1", "bird1-cat1"):
        Picture.fromarray(RNG.integers(0, 255, (32, 32, 3), "u1")).save(stimuli / f"{name}.png")
    dock.inputs.choice.set_action(REPORT)
    data = dock.inputs.choice.data
    assert data.isVisibleTo(dock) and not dock.run_bar.button.isEnabled()
    data.paths["stimuli"].set_path(stimuli)
    assert "Choose a folder for the report" in dock.run_bar.message.text()
    data.paths["out"].set_path(tmp_path / "out <1>")
    assert "NAME-s with NAME-r" in dock.run_bar.message.text()
    dock.inputs.other.refresh()
    dock.inputs.other.choose(other_classifier)
    # It needs no open image, and runs behind the window.
    rows = rows_of_run(dock, wait_for, REPORT)
    page = tmp_path / "out <1>" / "report.html"
    assert page.exists() and not viewer.layers
    text = dock.shower.panels[REPORT].words.text()
    assert page.as_uri() in text and "out &lt;1&gt;" in text and "report.json" in text
    facts = json.loads((page.parent / "report.json").read_text())
    assert [row["verdict"] for row in rows] == [one["verdict"] for one in facts["claims"]]
    assert facts["bias"]["standard"]["bias"]["total"]["n"] == 3
    assert facts["models"][0]["name"] == tiny_classifier
    data.column.setText("kind")
    data.paths["stimuli"].clear_button.click()
    assert data.value().stimuli is None
    dock.close()
    again = NeuronsDock(viewer)
    kept = again.inputs.choice.data.value()
    assert kept.out == page.parent and kept.column == "kind" and kept.stimuli is None
    assert again.inputs.action.name == REPORT
    again.close()


def test_the_dock_gives_what_python_gives(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, tiny_classifier: str
) -> None:
    layer, labels = viewer.add_image(COLOUR), viewer.add_labels(OBJECT, name="object")
    image, name = Array.from_layer(layer), {"model": tiny_classifier}
    dock.inputs.choice.channel.setValue(3)
    rows = {row["measure"]: row[tiny_classifier] for row in rows_of_run(dock, wait_for, SIMPLICITY)}
    smooth = simplicity.run(image, SmoothnessOptions(**name), Context())
    assert rows["length of the gradient"] == smooth.gradient_length
    assert rows["total variation of the first kernels"] == smooth.kernel_tv
    for row in smooth.layers:
        assert rows[f"{row.layer}: change under noise / activation"] == row.change
    rows = rows_of_run(dock, wait_for, ABLATE, mode="mean")
    silenced = silence.run(image, AblateOptions(**name, mode="mean"), Context())
    assert {row["channels"]: row["drop"] for row in rows} == {
        row["channels"]: row["drop"] for row in silenced.rows()
    }
    rows_of_run(dock, wait_for, MAXIMISE, steps=2)
    liked = dream.run(MaximiseOptions(**name, steps=2, channel=3), Context())
    np.testing.assert_array_equal(viewer.layers[-1].data, liked.image)
    dock.inputs.choice.concepts.tick(labels)
    rows = rows_of_run(dock, wait_for, DISSECT, preset="paper", quantile=0.1)
    marked = Array.from_array((OBJECT > 0).astype("u1"))
    options = DissectOptions(**name, preset="paper", quantile=0.1)
    found = dissecting.run([dissecting.Pair(image, (marked,))], options, Context())
    assert {row["channel"]: row["iou"] for row in rows} == {
        row["channel"]: row["iou"] for row in found.units.rows()
    }


def test_pairs_by_name() -> None:
    assert pair_name(("cifar-resnet-s", "cifar-resnet-r")) == "cifar-resnet"
    for models in ((), ("a-s",), ("a-r", "a-s"), ("a-s", "b-r"), ("a", "a-r")):
        with pytest.raises(ValueError, match="NAME-s with NAME-r"):
            pair_name(models)
