"""The tabs of the Neurons dock besides maps and attacks: channels, dissection, bias, ablation."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docks import Wait, rows_of_run
from napari.layers import Labels
from PIL import Image as Picture

import napari_cvsuite
from napari_cvsuite.images import Image as Array
from napari_cvsuite.jobs import Context
from napari_cvsuite.neurons import bias, browse, favourites
from napari_cvsuite.neurons.control_accuracy import control_rows, controls_of_folder
from napari_cvsuite.neurons.options import (
    ActivationOptions,
    BiasOptions,
    PatchOptions,
)
from napari_cvsuite.widgets.neurons import NeuronsDock
from napari_cvsuite.widgets.neurons_actions import (
    ABLATE,
    BIAS,
    CHANNELS,
    CONTROLS,
    DISSECT,
    FOLDER_PATCHES,
    MAXIMISE,
    PATCHES,
    SIMPLICITY,
)

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 255, (48, 64, 3), "u1")
STACK = RNG.integers(0, 255, (6, 48, 64), "u1")
LAYER = "features.4"


@pytest.fixture
def dock(viewer: Any, tiny_classifier: str) -> Iterator[NeuronsDock]:
    made = NeuronsDock(viewer)
    made.inputs.model.choose(tiny_classifier)
    made.inputs.device.choose("cpu")
    made.inputs.choice.layer.set_entries((LAYER, "features.11"))
    made.inputs.choice.layer.choose(LAYER)
    yield made
    made.close()


def _choose(dock: NeuronsDock, action: str, place: int) -> dict[str, Any]:
    panel = dock.shower.panels[action]
    panel.table.row_chosen.emit(panel.rows[place])
    return panel.rows[place]


class _Click:
    """A press of the mouse, and its release at once or after a way."""

    def __init__(self, position: Any) -> None:
        self.position, self.pos, self.type = position, np.zeros(2), "mouse_press"

    def on(self, layer: Any, way: float = 0.0) -> None:
        (callback,) = layer.mouse_drag_callbacks
        handler = callback(layer, self)
        next(handler)
        self.pos, self.type = self.pos + way, "mouse_release"
        next(handler, None)


def test_channels_in_a_montage_and_over_the_image(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, tiny_classifier: str
) -> None:
    layer = viewer.add_image(COLOUR, name="cell", scale=(2, 2))
    rows = rows_of_run(dock, wait_for, CHANNELS)
    options = ActivationOptions(model=tiny_classifier, layer=LAYER)
    other = browse.run(Array.from_layer(layer), options, Context())
    assert [row["channel"] for row in rows] == list(range(len(other.maps)))
    assert rows[5]["mean"] == pytest.approx(other.maps[5].mean())
    assert rows[5]["maximum"] == pytest.approx(other.maps[5].max())
    variation = sum(np.abs(np.diff(other.maps[5], axis=axis)).sum() for axis in (0, 1))
    assert rows[5]["total_variation"] == pytest.approx(variation, rel=1e-4)
    tiles = viewer.layers[-1]
    np.testing.assert_array_equal(tiles.data, browse.montage(other.maps))
    # Beside the image, as high as what the network sees.
    assert tiles.data_to_world((0, -0.5))[1] > layer.data_to_world((0, 63.5))[1]
    ends = tiles.data_to_world((-0.5, 0))[0], tiles.data_to_world((tiles.data.shape[0] - 0.5, 0))[0]
    np.testing.assert_allclose(ends, [-1, 95])
    # 96 channels stand in ten columns, 16 + 1 cells apart: this is row 1, column 2.
    assert other.maps.shape == (96, 16, 16)
    click = _Click(tiles.data_to_world((17 + 4, 2 * 17 + 3)))
    click.on(tiles, way=20)
    assert viewer.layers[-1] is tiles
    _Click(click.position).on(tiles)
    shown = viewer.layers[-1]
    np.testing.assert_array_equal(shown.data, other.maps[12])
    assert "features.4 channel 12" in shown.name and dock.inputs.choice.channel.value() == 12
    # Cells of 3 pixels over the square that begins at column 8, in a world of half pixels.
    np.testing.assert_allclose(shown.scale, [6, 6])
    np.testing.assert_allclose(shown.data_to_world((-0.5, -0.5)), layer.data_to_world((-0.5, 7.5)))
    assert viewer.layers.selection.active is tiles
    # The same layer shows the next channel.
    _choose(dock, CHANNELS, 7)
    np.testing.assert_array_equal(shown.data, other.maps[7])
    dock.inputs.choice.channel.setValue(3)
    np.testing.assert_array_equal(viewer.layers[-1].data, other.maps[3])
    viewer.layers.remove(shown)
    dock.inputs.choice.channel.setValue(4)
    np.testing.assert_array_equal(viewer.layers[-1].data, other.maps[4])


def test_the_image_that_a_channel_likes(dock: NeuronsDock, viewer: Any, wait_for: Wait) -> None:
    dock.inputs.choice.set_action(MAXIMISE)
    dock.inputs.choice.channel.setValue(2)
    # It needs no image.
    rows = rows_of_run(dock, wait_for, MAXIMISE, steps=3)
    shown = viewer.layers[-1]
    assert shown.rgb and shown.data.shape == (32, 32, 3) and "channel 2" in shown.name
    assert [row["step"] for row in rows] == list(range(len(rows))) and len(rows) >= 3
    layer = viewer.add_image(COLOUR)
    rows_of_run(dock, wait_for, MAXIMISE)
    assert viewer.layers[-1].data_to_world((0, -0.5))[1] > layer.data_to_world((0, 63.5))[1]


def test_top_patches_are_shown_where_they_lie(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, tiny_classifier: str
) -> None:
    layer = viewer.add_image(STACK, scale=(3, 1, 1), name="stack")
    dock.inputs.choice.set_action(PATCHES)
    dock.inputs.choice.channel.setValue(5)
    rows = rows_of_run(dock, wait_for, PATCHES, top=4)
    options = PatchOptions(model=tiny_classifier, layer=LAYER, channel=5, top=4)
    other = favourites.run([Array.from_layer(layer)], options, Context())
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert [row["slice"] for row in rows] == [one.slice for one in other.rows]
    row = _choose(dock, PATCHES, 1)
    assert viewer.dims.point[0] == 3 * row["slice"]
    tiles = next(one for one in viewer.layers if "top patches" in one.name)
    side = other.pictures.shape[2]
    assert tiles.data.shape == (1, 2 * side, 2 * side, 3)
    np.testing.assert_array_equal(tiles.data[0, :side, side:], other.pictures[0, 1])
    box = next(one for one in viewer.layers if one.name == "stack: patch")
    corners = np.array([box.data_to_world(point) for point in box.data[0]])
    np.testing.assert_allclose(corners[:, 0], 3 * row["slice"])
    np.testing.assert_allclose(corners[:, 1].min(), row["top"] - 0.5)
    np.testing.assert_allclose(np.ptp(corners[:, 2]), row["width"])
    count = len(viewer.layers)
    row = _choose(dock, PATCHES, 3)
    assert len(viewer.layers) == count and viewer.dims.point[0] == 3 * row["slice"]
    viewer.layers.remove(layer)
    _choose(dock, PATCHES, 0)
    assert len(viewer.layers) == count - 1


def test_top_patches_of_a_folder(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, tmp_path: Path
) -> None:
    dock.inputs.choice.set_action(FOLDER_PATCHES)
    assert "Choose a folder with images" in dock.run_bar.message.text()
    for number in range(3):
        Picture.fromarray(STACK[number]).save(tmp_path / f"{number}.png")
    dock.inputs.choice.set_folder(tmp_path)
    dock.inputs.choice.channel.setValue(1)
    rows = rows_of_run(dock, wait_for, FOLDER_PATCHES, top=2)
    assert len(rows) == 2 and all(Path(row["image"]).parent == tmp_path for row in rows)
    _choose(dock, FOLDER_PATCHES, 0)
    assert viewer.layers[-1].rgb and "channel 1" in viewer.layers[-1].name


def test_dissection_of_what_is_labelled(
    dock: NeuronsDock,
    viewer: Any,
    wait_for: Wait,
    tmp_path: Path,
    tiny_classifier: str,
    other_classifier: str,
) -> None:
    # It was added after the dock was opened.
    dock.inputs.other.refresh()
    viewer.add_image(STACK, name="stack")
    painted = (STACK > 128).astype("u1") * RNG.integers(1, 4, STACK.shape, "u1")
    bright = viewer.add_labels(painted, name="bright")
    dark = viewer.add_labels((STACK < 60).astype("u1"), name="dark")
    dock.inputs.choice.set_action(DISSECT)
    assert "Tick the Labels layers" in dock.run_bar.message.text()
    dock.inputs.choice.concepts.tick(bright)
    dock.inputs.choice.concepts.tick(dark)
    dark.name = "shadow"
    rows = rows_of_run(dock, wait_for, DISSECT, shifts=20)
    # Each layer is one concept, whatever the numbers in it.
    assert {row["concept"] for row in rows} == {"bright", "shadow"} and len(rows) == 2 * 96
    assert {"iou", "chance", "ceiling", "p", "p_family"} <= set(rows[0])
    assert [row["iou"] for row in rows] == sorted((row["iou"] for row in rows), reverse=True)
    panel = dock.shower.panels[DISSECT]
    panel.table.save(tmp_path / "units.csv")
    wait_for((tmp_path / "units.csv").exists)
    with (tmp_path / "units.csv").open() as handle:
        assert len(list(csv.DictReader(handle))) == len(rows)
    viewer.dims.set_current_step(0, 4)
    before = painted.copy()
    row = _choose(dock, DISSECT, 0)
    wait_for(lambda: dock.idle)
    mask = viewer.layers[-1]
    assert isinstance(mask, Labels) and mask.translate[0] == 4
    assert f"channel {row['channel']} as {row['concept']}" in mask.name
    assert 0 < mask.data.mean() < 1 and mask.data.shape == (1, 32, 32)
    np.testing.assert_array_equal(bright.data, before)
    # Masks of ours are no concepts; a second network is compared with the first.
    concepts = dock.inputs.choice.concepts
    assert len(concepts.layers()) == concepts.count() == 2
    dock.inputs.choice.together.setChecked(False)
    dock.inputs.other.choose(other_classifier)
    rows = rows_of_run(dock, wait_for, DISSECT, preset="paper")
    assert len({row["concept"] for row in rows}) == 4
    assert {row["model"] for row in rows} == {tiny_classifier, other_classifier}
    assert "gained" in panel.words.text() and "lost" in panel.words.text()


def test_shape_bias_and_distorted_copies_of_folders(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, tmp_path: Path, tiny_classifier: str
) -> None:
    names = ("cat", "dog", "bird")
    stimuli, labelled = tmp_path / "stimuli", tmp_path / "labelled"
    stimuli.mkdir()
    for name in names:
        (labelled / name).mkdir(parents=True)
        for number in range(3):
            picture = Picture.fromarray(RNG.integers(0, 255, (40, 40, 3), np.uint8))
            picture.save(labelled / name / f"{number}.png")
            if name != names[number]:
                picture.save(stimuli / f"{name}1-{names[number]}1.png")
    dock.inputs.choice.set_action(BIAS)
    assert "SHAPE1-TEXTURE1" in dock.run_bar.message.text()
    dock.inputs.choice.set_folder(stimuli)
    rows = rows_of_run(dock, wait_for, BIAS)
    total = bias.conflict(stimuli, BiasOptions(model=tiny_classifier), Context()).bias.total
    assert rows[0]["category"] == "all" and rows[0]["images"] == 6
    assert (rows[0]["shape"], rows[0]["texture"]) == (total.n_shape, total.n_texture)
    panel = dock.shower.panels[BIAS]
    assert "People: 0.92 to 0.99" in panel.words.text()
    assert panel.plot.isVisibleTo(panel) and panel.plot.axes.get_xlim() == (0, 1)
    dock.inputs.choice.set_action(CONTROLS)
    assert not dock.run_bar.button.isEnabled()
    dock.inputs.choice.set_folder(labelled)
    rows = rows_of_run(dock, wait_for, CONTROLS)
    assert rows[0]["control"] == "none" and rows[0]["n"] == 9
    assert {"level", "tag", tiny_classifier} <= set(rows[0]) and not viewer.layers
    assert not any(name.endswith("CE") for name in rows[0])


def test_corruption_errors_of_two_networks_are_those_of_python(
    dock: NeuronsDock,
    viewer: Any,
    wait_for: Wait,
    animals: Path,
    tiny_classifier: str,
    other_classifier: str,
) -> None:
    dock.inputs.other.refresh()
    dock.inputs.other.choose(other_classifier)
    dock.inputs.choice.set_action(CONTROLS)
    dock.inputs.choice.set_folder(animals)
    rows = rows_of_run(dock, wait_for, CONTROLS)
    models = (tiny_classifier, other_classifier)
    found = controls_of_folder(animals, models, BiasOptions(model=models[0]), Context())
    assert rows == control_rows(found, models)
    assert rows[-1]["control"] == "mean corruption error" and f"{models[1]} CE" in rows[-1]
    panel = dock.shower.panels[CONTROLS]
    assert "in the place of AlexNet" in panel.words.text()
    # What a row does not have stays empty.
    columns = panel.table.model.columns
    cell = panel.table.model.index(len(rows) - 1, columns.index(models[0]))
    assert panel.table.model.data(cell) == ""


def test_simplicity_says_where_measures_come_from(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, tiny_classifier: str
) -> None:
    viewer.add_image(COLOUR)
    rows = rows_of_run(dock, wait_for, SIMPLICITY)
    known = {row["measure"]: row for row in rows}
    one = known["total variation of the first kernels"]
    other = known["total variation / sum of magnitudes, first kernels"]
    assert one["source"] == "arXiv 2006.09373" and other["source"] == "definition of this project"
    assert one[tiny_classifier] > 0 and "features.11: total variation, noisy / clean" in known


def test_ablation_leads_to_the_channel(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, tiny_classifier: str
) -> None:
    viewer.add_image(COLOUR)
    rows = rows_of_run(dock, wait_for, ABLATE)
    assert len(rows) == 96
    assert [row["drop"] for row in rows] == sorted((r["drop"] for r in rows), reverse=True)
    _choose(dock, ABLATE, 0)
    wait_for(lambda: dock.idle)
    channel = int(rows[0]["channels"])
    shown = viewer.layers[-1]
    options = ActivationOptions(model=tiny_classifier, layer=LAYER, channel=channel)
    other = browse.run(Array.from_layer(viewer.layers[0]), options, Context())
    np.testing.assert_array_equal(shown.data, other.maps[0])
    rows = rows_of_run(dock, wait_for, ABLATE, silenced="1,3-5", mode="keep")
    assert rows[0]["channels"] == "1,3,4,5" and "became" in dock.shower.panels[ABLATE].words.text()
    likely = napari_cvsuite.classify(COLOUR, model=tiny_classifier, device="cpu").likely[0]
    said = dock.shower.panels[ABLATE].words.text()
    assert f"{likely.name} {likely.probability:.1%} became" in said
    dock.inputs.choice.form.set_values({"silenced": "one"})
    assert "channels are numbers" in dock.run_bar.message.text()


def test_the_picture_follows_the_theme(dock: NeuronsDock, viewer: Any) -> None:
    plot = dock.shower.panels[BIAS].plot
    before = plot.axes.get_facecolor()
    viewer.theme = "light"
    assert plot.axes.get_facecolor() != before


def test_the_slider_of_the_radius_fits_the_norm(dock: NeuronsDock) -> None:
    dock.inputs.choice.set_action("Attack")
    radius = dock.inputs.choice.radius
    assert radius.value() == 0 and radius.number.text() == "suggested"
    radius.slider.setValue(100)
    # Ten times what is suggested for 32 pixels, 0.008 sqrt(3) 32, at the end.
    assert radius.value() == pytest.approx(5 * 0.008 * 3**0.5 * 32, abs=1e-4)
    dock.inputs.choice.form.set_values({"norm": "linf"})
    assert radius.slider.value() == radius.slider.maximum()
    radius.set_value(0.03)
    assert radius.slider.value() == round(0.03 / 0.125 * radius.slider.maximum())
    assert dock.inputs.problem()[1] is dock.inputs.image
