"""The Neurons dock in a real viewer, with small random networks: maps, attacks, what goes wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from docks import Held, Wait, choose_and_run, closed, opened, press, problem, shown
from napari.layers import Image

import napari_cvsuite
from napari_cvsuite.widgets.neurons import RUN_KEY, NeuronsDock
from napari_cvsuite.widgets.neurons_actions import ACTIONS, ATTACK, CHANNELS, MAXIMISE, SALIENCY
from napari_cvsuite.widgets.neurons_inputs import View
from napari_cvsuite.widgets.settings import load_state

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 255, (48, 64, 3), "u1")
STACK = RNG.integers(0, 255, (3, 48, 64), "u1")


@pytest.fixture
def dock(viewer: Any, tiny_classifier: str) -> Iterator[NeuronsDock]:
    yield from opened(NeuronsDock(viewer), tiny_classifier)


def _run(dock: NeuronsDock, wait_for: Wait, action: str = "", **values: Any) -> str:
    return choose_and_run(dock, wait_for, action or dock.inputs.action.name, **values)


def _glance(dock: NeuronsDock, wait_for: Wait) -> list[Any]:
    wait_for(lambda: dock.settled)
    return dock.prediction.glances


def _rows(dock: NeuronsDock) -> list[dict[str, Any]]:
    return dock.shower.panels[dock.inputs.action.name].rows


def _words(dock: NeuronsDock) -> str:
    return dock.shower.panels[dock.inputs.action.name].words.text()


def test_the_prediction_follows_what_is_chosen(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, tiny_classifier: str
) -> None:
    viewer.add_image(COLOUR)
    wait_for(lambda: dock.settled)
    # Nobody sees it yet.
    assert not dock.prediction.glances
    dock.show()
    wait_for(lambda: bool(dock.prediction.glances))
    (one,) = dock.prediction.glances
    likely = napari_cvsuite.classify(COLOUR, model=tiny_classifier, device="cpu").likely
    assert one.likely == likely
    first = dock.prediction.bars[0][0]
    assert first.text() == f" {likely[0].name}  {likely[0].probability:.1%}"
    # The network has three classes.
    assert [bar.isVisibleTo(dock) for bar in dock.prediction.bars[0]] == [True] * 3 + [False] * 2
    assert dock.inputs.choice.layer.count() == len(one.layers) + 1
    viewer.add_image(STACK)
    dock.inputs.image.setCurrentIndex(0)
    wait_for(lambda: dock.settled)
    viewer.dims.set_current_step(0, 2)
    wait_for(lambda: dock.settled)
    likely = napari_cvsuite.classify(STACK, model=tiny_classifier, device="cpu", plane=2).likely
    assert dock.prediction.glances[0].likely == likely
    viewer.layers.clear()
    wait_for(lambda: dock.settled)
    assert not dock.prediction.glances


def test_a_pair_is_found_and_shown_side_by_side(
    viewer: Any, wait_for: Wait, tiny_classifier: str, other_classifier: str
) -> None:
    dock = NeuronsDock(viewer)
    dock.inputs.model.choose(tiny_classifier)
    assert dock.inputs.models() == (tiny_classifier, other_classifier)
    viewer.add_image(COLOUR)
    dock.show()
    wait_for(lambda: len(dock.prediction.glances) == 2)
    assert dock.prediction.titles[1].text() == f"<b>{other_classifier}</b>"
    _run(dock, wait_for, SALIENCY)
    below, above = viewer.layers[-2:]
    assert other_classifier in below.name and not below.visible
    assert tiny_classifier in above.name and above.visible
    columns = set(_rows(dock)[0])
    assert {tiny_classifier, other_classifier, "measure", "source"} <= columns
    # Both explain one class, that which the first network predicts.
    target = dock.prediction.glances[0].likely[0].name
    assert all(f" of {target}," in layer.name for layer in (below, above))
    # A pair goes with its first model; what the user has chosen stays.
    dock.inputs.model.choose(other_classifier)
    assert dock.inputs.models() == (other_classifier,)
    dock.inputs.other.choose(tiny_classifier)
    dock.inputs.model.choose(tiny_classifier)
    assert "Both models are the same" in problem(dock)
    dock.inputs.other.choose_none()
    assert dock.inputs.models() == (tiny_classifier,)
    dock.close()


def test_a_signed_map_lies_where_the_network_looked(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, tiny_classifier: str
) -> None:
    assert "Open an image" in problem(dock)
    layer = viewer.add_image(COLOUR, scale=(2, 2), translate=(10, 20), name="cell")
    said = _run(dock, wait_for, SALIENCY, method="gradient")
    seen, shown = viewer.layers[1:]
    other = napari_cvsuite.saliency(COLOUR, model=tiny_classifier, device="cpu")
    np.testing.assert_array_equal(shown.data, other.values)
    assert shown.contrast_limits == [-1, 1]
    np.testing.assert_array_equal(
        shown.colormap.map(np.array([0.0, 0.5, 1.0]))[:, :3], [[0, 0, 1], [1, 1, 1], [1, 0, 0]]
    )
    # The middle square of 48 x 64 pixels begins at column 8; 32 cells are 1.5 pixels wide.
    corners = shown.data_to_world(np.array([-0.5, -0.5])), shown.data_to_world((31.5, 31.5))
    np.testing.assert_allclose(corners[0], layer.data_to_world((-0.5, 7.5)))
    np.testing.assert_allclose(corners[1], layer.data_to_world((47.5, 55.5)))
    np.testing.assert_allclose(seen.data[0], [[-0.5, 7.5], [-0.5, 55.5], [47.5, 55.5], [47.5, 7.5]])
    assert seen.name == "cell: seen by the network" and shown.name.startswith("cell: gradient of")
    assert shown.metadata["napari_cvsuite"]["model"] == tiny_classifier
    assert "not a diagnosis" in _words(dock) and "Intensity: type uint8" in said
    measures = {row["measure"]: row for row in _rows(dock)}
    row = measures["total variation of the map"]
    assert row[tiny_classifier] == other.total_variation and row["source"] == "arXiv 2006.09373"
    # The outline is one, and stays hidden where the user hides it; results are no images.
    seen.visible = False
    _run(dock, wait_for)
    assert viewer.layers[1] is seen and not seen.visible and len(viewer.layers) == 4
    # Earlier maps are hidden, not lost.
    assert not shown.visible and viewer.layers[-1].visible and layer.visible
    assert dock.inputs.image.layer() is layer and dock.inputs.image.count() == 1
    assert dock.inputs.region.layer() is None


def test_a_map_with_its_check_and_a_difference_of_classes(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, tiny_classifier: str
) -> None:
    viewer.add_image(COLOUR)
    dock.inputs.choice.set_action(SALIENCY)
    dock.inputs.choice.against.choose("dog")
    assert "A difference needs a class" in problem(dock)
    dock.inputs.choice.target.choose("bird")
    said = _run(dock, wait_for, method="gradcam", check=True)
    assert said.startswith("Done"), said
    shown = viewer.layers[-1]
    assert shown.contrast_limits == [0, 1] and "bird - dog" in shown.name
    assert shown.data.shape[0] < 32 and shown.interpolation2d == "linear"
    rows = {row["measure"]: row for row in _rows(dock)}
    area = rows["insertion, area (higher is better)"]
    assert 0 <= area[tiny_classifier] <= 1 and 0 <= area[f"random map, {tiny_classifier}"] <= 1
    assert any("rank correlation" in name for name in rows)
    assert "random map" in _words(dock)


def test_stack_region_and_view(dock: NeuronsDock, viewer: Any, wait_for: Wait) -> None:
    layer = viewer.add_image(STACK, scale=(3, 1, 1))
    shapes = viewer.add_shapes([np.array([[4, 10], [20, 26]])], shape_type="rectangle")
    dock.inputs.region.choose(shapes)
    viewer.dims.set_current_step(0, 2)
    _run(dock, wait_for, SALIENCY)
    shown = viewer.layers[-1]
    # The slice, and on it the box of 16 x 16 pixels.
    assert shown.data.shape == (1, 32, 32) and shown.translate[0] == 6
    np.testing.assert_allclose(shown.data_to_world((0, -0.5, -0.5)), [6, 3.5, 9.5])
    np.testing.assert_allclose(shown.data_to_world((0, 31.5, 31.5)), [6, 19.5, 25.5])
    assert shown.metadata["napari_cvsuite"]["index"] == {"z": 2}
    dock.inputs.region.choose(View.WHOLE)
    _run(dock, wait_for)
    np.testing.assert_allclose(viewer.layers[-1].data_to_world((0, 31.5, 31.5)), [6, 47.5, 63.5])
    shapes.data = [np.array([[400, 400], [420, 420]])]
    dock.inputs.region.choose(shapes)
    assert "outside" in problem(dock)
    viewer.layers.remove(shapes)
    assert dock.run_bar.button.isEnabled() and layer in viewer.layers


def test_an_attack_shows_the_image_the_change_and_the_steps(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, tiny_classifier: str
) -> None:
    viewer.add_image(COLOUR, name="cell")
    dock.inputs.choice.set_action(ATTACK)
    dock.inputs.choice.radius.set_value(2.0)
    _run(dock, wait_for, steps=4)
    change, after = viewer.layers[-2:]
    other = napari_cvsuite.attack(COLOUR, model=tiny_classifier, device="cpu", eps=2.0, steps=4)
    np.testing.assert_array_equal(after.data, other.after)
    assert after.rgb and "adversarial" in after.name
    np.testing.assert_allclose(after.data_to_world((-0.5, -0.5)), [-0.5, 7.5])
    np.testing.assert_allclose(change.data, other.change.mean(axis=2))
    low, high = change.contrast_limits
    assert low == -high and high == pytest.approx(np.abs(change.data).max())
    # Beside the image, as high as what was changed.
    assert change.data_to_world((0, -0.5))[1] > 63.5
    assert change.data_to_world((31.5, 0))[0] == pytest.approx(47.5)
    rows = _rows(dock)
    assert [row["step"] for row in rows] == list(range(5))
    assert [row["loss"] for row in rows] == list(other.loss)
    verdict = "breaks" if other.broken else "holds"
    assert f"{tiny_classifier} {verdict}" in _words(dock)
    assert f"{other.likely_after[0].name} {other.likely_after[0].probability:.1%}" in _words(dock)


class _Held(Held):
    """Holds a map."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, deaf: bool = False) -> None:
        from napari_cvsuite.neurons.saliency import explain

        super().__init__(deaf)

        def slow(*arguments: Any) -> Any:
            self.hold(arguments[-1].check)
            return explain(*arguments)

        monkeypatch.setattr("napari_cvsuite.neurons.explain.explain", slow)


def test_cancel_frees_the_dock_and_leaves_no_layer(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = viewer.add_image(COLOUR)
    held = _Held(monkeypatch, deaf=True)
    dock.run()
    wait_for(held.entered.is_set)
    dock.run_bar.button.click()
    assert dock.run_bar.button.text() == "Map" and dock.idle
    assert not held.left.is_set()
    held.release.set()
    assert "Cancelled" in dock.run_bar.message.text() and list(viewer.layers) == [layer]


def test_a_layer_removed_meanwhile_is_survived(
    dock: NeuronsDock, viewer: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = viewer.add_image(COLOUR, name="gone", translate=(5, 5))
    held = _Held(monkeypatch)
    dock.run()
    wait_for(held.entered.is_set)
    viewer.layers.remove(layer)
    held.release.set()
    wait_for(lambda: dock.idle)
    assert "gone is gone" in dock.run_bar.message.text()
    assert viewer.layers[-1].name.startswith("gone: gradient")
    np.testing.assert_allclose(viewer.layers[-1].data_to_world((-0.5, -0.5)), [4.5, 12.5])


def test_failure_changes_no_layer(dock: NeuronsDock, viewer: Any, wait_for: Wait) -> None:
    layer = viewer.add_image(np.full((48, 64), np.nan, np.float32))
    assert "no finite" in _run(dock, wait_for, SALIENCY)
    assert list(viewer.layers) == [layer] and not _rows(dock)
    dock.inputs.planes.set_values({"channels": "4"})
    assert "channels" in problem(dock)
    dock.show()
    wait_for(lambda: "channels" in dock.prediction.words.text())


def test_shortcut_runs(dock: NeuronsDock, viewer: Any, wait_for: Wait) -> None:
    viewer.add_image(COLOUR)
    press(viewer, RUN_KEY)
    wait_for(lambda: dock.idle)
    assert len(viewer.layers) == 3


def test_the_button_and_the_fields_follow_the_tab(dock: NeuronsDock) -> None:
    for name, action in ACTIONS.items():
        dock.inputs.choice.set_action(name)
        assert dock.inputs.action.name == name and dock.run_bar.button.text() == action.button
        assert dock.shower.panels[name].isVisibleTo(dock)
        assert sum(panel.isVisibleTo(dock) for panel in dock.shower.panels.values()) == 1
        assert dock.inputs.choice.folder_button.isVisibleTo(dock) == ("folder" in action.asks)
    dock.inputs.choice.set_action(SALIENCY)
    assert not dock.inputs.choice.layer.isVisibleTo(dock)
    dock.inputs.choice.form.set_values({"method": "layercam"})
    assert dock.inputs.choice.layer.isVisibleTo(dock)


def test_state_survives_a_restart(
    viewer: Any, tiny_classifier: str, other_classifier: str, wait_for: Wait
) -> None:
    first = NeuronsDock(viewer)
    first.inputs.model.choose(tiny_classifier)
    first.inputs.other.choose_none()
    first.inputs.choice.set_action(ATTACK)
    first.inputs.choice.form.set_values({"steps": 33, "norm": "linf"})
    first.inputs.choice.radius.set_value(0.05)
    first.inputs.region.choose(View.WHOLE)
    first.inputs.choice.set_action(MAXIMISE)
    first.inputs.choice.layer.choose("features.4")
    first.close()
    assert load_state("neurons")["action"] == MAXIMISE
    second = NeuronsDock(viewer)
    # A second model that was taken away does not come back as the pair of the first.
    assert second.inputs.models() == (tiny_classifier,)
    assert second.inputs.action.name == MAXIMISE and second.run_bar.button.text() == "Maximise"
    assert second.inputs.region.other() is View.WHOLE
    second.inputs.choice.set_action(ATTACK)
    values = second.inputs.choice.form.values()
    assert values["steps"] == 33 and values["norm"] == "linf"
    assert second.inputs.choice.radius.value() == 0.05
    # The layer is chosen as soon as the network has said which it has.
    viewer.add_image(COLOUR)
    second.show()
    wait_for(lambda: second.inputs.choice.layer.value() == "features.4")
    second.close()


def test_closing_cancels_and_frees(
    viewer: Any, tiny_classifier: str, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _Held(monkeypatch)
    viewer.add_image(COLOUR)
    dock = NeuronsDock(viewer)
    dock.inputs.model.choose(tiny_classifier)
    dock.run()
    wait_for(held.entered.is_set)
    handle = dock.runner._hold.handle
    assert handle is not None
    dock.close()
    wait_for(lambda: handle.state == "cancelled")
    assert shown(RUN_KEY) not in map(str, viewer.keymap)


def test_a_closed_dock_is_freed(viewer: Any, tiny_classifier: str, wait_for: Wait) -> None:
    viewer.add_image(COLOUR)
    viewer.add_labels(np.zeros((48, 64), int))
    dock = NeuronsDock(viewer)
    dock.inputs.model.choose(tiny_classifier)
    dock.show()
    _glance(dock, wait_for)
    _run(dock, wait_for, CHANNELS)
    freed = closed(dock)
    del dock
    wait_for(freed)


def test_opening_the_dock_loads_no_torch() -> None:
    code = "import sys; import napari_cvsuite.widgets.neurons; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_only_images_are_offered(dock: NeuronsDock, viewer: Any) -> None:
    viewer.add_labels(np.zeros((48, 64), int))
    layer = viewer.add_image(COLOUR)
    viewer.add_image(STACK, metadata={"napari_cvsuite": {}})
    assert isinstance(dock.inputs.image.layer(), Image)
    names = [dock.inputs.image.itemText(i) for i in range(dock.inputs.image.count())]
    assert names == [layer.name]
