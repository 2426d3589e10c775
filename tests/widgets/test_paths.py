"""The Paths dock in a real viewer: looking, switching, numbers, maps, and what goes wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from docks import Held, Wait, closed, opened, press, problem, run
from napari.layers import Image
from qtpy.QtCore import Qt

from napari_cvsuite.images import Image as Array
from napari_cvsuite.jobs import Context
from napari_cvsuite.paths import contributions, maps, whatif
from napari_cvsuite.paths.options import (
    INTERVENTIONS,
    ContributionOptions,
    MapOptions,
    WhatIfOptions,
)
from napari_cvsuite.widgets.paths import RUN_KEY, PathsDock
from napari_cvsuite.widgets.paths_tabs import MAPS, NUMBERS, PICTURE
from napari_cvsuite.widgets.settings import load_state
from napari_cvsuite.widgets.views import View

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 255, (48, 64, 3), "u1")
STACK = RNG.integers(0, 255, (3, 48, 64), "u1")


@pytest.fixture
def dock(viewer: Any, tiny_transformer: str) -> Iterator[PathsDock]:
    yield from opened(PathsDock(viewer), tiny_transformer)


def _map(dock: PathsDock, wait_for: Wait, **chosen: Any) -> None:
    dock.asks.show_map({"kind": "share", **chosen})
    wait_for(lambda: dock.idle)


def _numbers(dock: PathsDock) -> list[float]:
    return [box.value for box in dock.pages.picture.boxes]


def _rows(dock: PathsDock) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in dock.pages.numbers.table.model.rows}


def _shares(image: Any, model: str, **given: Any) -> contributions.Contributions:
    options = ContributionOptions(model=model, **given)
    return contributions.run(Array.from_layer(image), options, Context(device="cpu"))


def _effects(image: Any, model: str, others: Any = (), **given: Any) -> whatif.WhatIf:
    options = WhatIfOptions(model=model, **given)
    found = [Array.from_layer(one) for one in others]
    return whatif.run(Array.from_layer(image), options, Context(device="cpu"), found)


def test_a_look_shows_prediction_shares_and_their_sum(
    dock: PathsDock, viewer: Any, wait_for: Wait, tiny_transformer: str
) -> None:
    assert "Open an image" in problem(dock)
    layer = viewer.add_image(COLOUR, name="cell")
    assert run(dock, wait_for).startswith("Done on cpu. Intensity: type uint8")
    found = _shares(layer, tiny_transformer)
    assert dock.prediction.glances[0].likely == found.likely
    names = [box.name for box in dock.pages.picture.boxes]
    assert names == ["embed", "msa_0", "ffn_0", "msa_1", "ffn_1"]
    best = found.target.one
    np.testing.assert_array_equal(_numbers(dock), found.shares[:-1, best])
    row = _rows(dock)["msa_1"]
    assert row["direct"] == pytest.approx(float(found.shares[3, best]))
    assert row["removed_final"] == pytest.approx(float(found.removed_final[3, best]))
    assert row["norm"] == pytest.approx(float(found.norms[3]))
    parts = _rows(dock)
    total = sum(parts[name]["direct"] for name in (*names, "constant"))
    assert total == pytest.approx(float(found.logits[best]), abs=5e-6)
    heads = sum(parts[f"msa_1.{part}"]["direct"] for part in ("head_0", "head_1", "head_2", "bias"))
    assert heads == pytest.approx(row["direct"], abs=5e-6)
    words = dock.pages.numbers.words.text()
    assert f"{found.logits[best]:+.3f}" in words and f"{found.residual:.1e}" in words
    assert "A path's direct share says what it writes" in words
    assert "Not evidence for a diagnosis." in words
    # The middle square is outlined; the classifier of the picture says what the bars say.
    assert viewer.layers[-1].name == "cell: seen by the network"
    first = found.likely[0]
    assert f"{first.name} {first.probability:.1%}" in dock.pages.picture._outcome


def test_classes_change_without_another_look(
    dock: PathsDock, viewer: Any, wait_for: Wait, tiny_transformer: str
) -> None:
    layer = viewer.add_image(COLOUR)
    run(dock, wait_for)
    found, looked = _shares(layer, tiny_transformer), dock.known.looked
    dock.inputs.label.choose("dog")
    np.testing.assert_array_equal(_numbers(dock), found.shares[:-1, 1])
    dock.inputs.against.choose("bird")
    np.testing.assert_array_equal(_numbers(dock), found.shares[:-1, 1] - found.shares[:-1, 2])
    assert "dog - bird" in dock.pages.picture._title
    assert {row["class"] for row in _rows(dock).values()} == {"dog - bird"}
    dock.inputs.against.choose("dog")
    assert "Both classes are the same" in problem(dock)
    dock.inputs.label.choose("")
    dock.inputs.label.setCurrentIndex(0)
    assert "needs a class" in problem(dock)
    dock.inputs.against.setCurrentIndex(0)
    assert dock.run_bar.button.isEnabled() and dock.known.looked is looked


def test_switches_change_the_prediction_live(
    dock: PathsDock, viewer: Any, wait_for: Wait, tiny_transformer: str
) -> None:
    layer = viewer.add_image(COLOUR)
    # The first switch looks before.
    assert not dock.pages.picture.boxes
    run(dock, wait_for)
    boxes = dock.pages.picture.boxes
    for number in (1, 3, 2, 3):
        boxes[number].click()
    assert dock.pages.off_names() == "msa_0,ffn_0"
    wait_for(lambda: dock.idle)
    given = {"off": "msa_0,ffn_0", "estimate": False}
    found = _effects(layer, tiny_transformer, intervention="removed_final", **given)
    whole, changed = dock.prediction.glances
    assert changed.likely == found.after and whole.likely == found.before
    assert changed.model == "2 paths off"
    assert "was" in dock.pages.picture._outcome
    dock.effect.choose_off("total_module")
    wait_for(lambda: dock.idle)
    found = _effects(layer, tiny_transformer, intervention="total_module", **given)
    assert dock.prediction.glances[1].likely == found.after
    assert dock.known.answer.intervention == "total_module"
    assert dock.request.options.off == "msa_0,ffn_0"
    dock.pages.picture_page.all_button.click()
    assert len(dock.prediction.glances) == 1 and not dock.pages.picture.off


def test_a_slider_weighs_the_picked_path(
    dock: PathsDock, viewer: Any, wait_for: Wait, tiny_transformer: str
) -> None:
    layer = viewer.add_image(COLOUR)
    run(dock, wait_for)
    page = dock.pages.picture_page
    assert not page.weight.isVisibleTo(page)
    page.picture.boxes[3].picked.emit()
    wait_for(lambda: dock.idle)
    assert page.weight.isVisibleTo(page) and page.weight.value() == 1
    assert "msa_1" in page._weight_of.text()
    for intervention in ("removed_final", "total_module"):
        dock.effect.choose_off(intervention)
        page.weight.setValue(0.5)
        page.picture.boxes[2].click()
        wait_for(lambda: dock.idle)
        given = {"intervention": intervention, "off": "ffn_0", "weights": "msa_1=0.5"}
        found = _effects(layer, tiny_transformer, **given, estimate=False)
        assert dock.prediction.glances[1].likely == found.after != found.before
        assert dock.prediction.glances[1].model == "2 paths changed"
        options = dock.request.options
        assert (options.off, options.weights) == ("ffn_0", "msa_1=0.5")
        page.all_button.click()
        assert page.weight.value() == 1 and len(dock.prediction.glances) == 1
    # Nothing is left of it at 0, and the switch and the slider say the same.
    page.weight.setValue(0.0)
    assert page.picture.off == {3} and dock.pages.changes() == ("msa_1", "")
    page.picture.boxes[3].click()
    assert page.weight.value() == 1 and not page.picture.weights
    wait_for(lambda: dock.idle)


def test_only_the_newest_of_rapid_switches_counts(
    dock: PathsDock, viewer: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.add_image(COLOUR)
    run(dock, wait_for)
    held, asked, shown = Held(deaf=True), [], []
    from napari_cvsuite.paths.session import Session

    real = Session.weighed

    def slow(self: Any, off: Any, *others: Any) -> Any:
        asked.append(tuple(off))
        held.hold(others[-1].check)
        return real(self, off, *others)

    monkeypatch.setattr(Session, "weighed", slow)
    dock.live.done.connect(lambda pair: shown.append(tuple(pair[1].weights)))
    boxes = dock.pages.picture.boxes
    boxes[1].click()
    wait_for(lambda: bool(asked))
    for number in (2, 3, 4):
        boxes[number].click()
    # The window waits for none of them.
    assert not held.left.is_set()
    held.release.set()
    wait_for(lambda: dock.idle)
    assert shown == [("msa_0", "ffn_0", "msa_1", "ffn_1")]
    assert len(dock.prediction.glances) == 2


def test_numbers_of_interventions_stand_side_by_side(
    dock: PathsDock, viewer: Any, wait_for: Wait, tiny_transformer: str
) -> None:
    layer = viewer.add_image(STACK)
    viewer.dims.set_current_step(0, 0)
    run(dock, wait_for)
    effect = dock.effect
    effect.choose("removed_final")
    assert not effect.button.isVisibleTo(effect)
    assert _numbers(dock)[1] == pytest.approx(_rows(dock)["msa_0"]["removed_final"])
    for kind, instead, title in (
        ("total_module", "zero", "total_module (zero)"),
        ("total_module", "slices", "total_module (mean of slices)"),
        ("total_layer", "zero", "total_layer (zero)"),
        ("total_head", "zero", "total_head (zero)"),
        ("total_edge", "zero", "total_edge (zero)"),
    ):
        effect.choose(kind)
        effect.choose_instead(instead)
        assert effect.button.isVisibleTo(effect)
        assert all(np.isnan(_numbers(dock)))
        effect.button.click()
        wait_for(lambda: dock.idle)
        assert not effect.button.isVisibleTo(effect), dock.run_bar.message.text()
        replacement = "mean" if instead == "slices" else "zero"
        found = _effects(layer, tiny_transformer, intervention=kind, replacement=replacement)
        rows = _rows(dock)
        for name, value in zip(found.names, found.target.of(found.effects), strict=True):
            assert rows[name][title] == pytest.approx(float(value), abs=1e-6)
    assert {"direct", "removed_final", "total_module (zero)"} <= set(_rows(dock)["msa_0"])
    # Of a layer both boxes show it; of heads the largest.
    effect.choose("total_layer")
    assert _numbers(dock)[3] == _numbers(dock)[4] == _rows(dock)["layer_1"]["total_layer (zero)"]
    effect.choose("total_head")
    heads = [_rows(dock)[f"msa_1.head_{head}"]["total_head (zero)"] for head in range(3)]
    assert _numbers(dock)[3] == max(heads, key=abs) and np.isnan(_numbers(dock)[4])
    effect.choose("attribution_patching")
    effect.button.click()
    wait_for(lambda: dock.idle)
    found = _effects(layer, tiny_transformer, intervention="total_module")
    estimates = [_rows(dock)[name]["attribution_patching"] for name in found.names]
    np.testing.assert_allclose(estimates, found.estimates, rtol=1e-4, atol=1e-6)
    # An estimate is for the class that it was made for.
    dock.inputs.label.choose("bird" if found.target.name != "bird" else "cat")
    assert effect.button.isVisibleTo(effect)
    assert "attribution_patching" not in _rows(dock)["msa_0"]


def test_what_another_image_writes(
    dock: PathsDock, viewer: Any, wait_for: Wait, tiny_transformer: str
) -> None:
    layer, other = viewer.add_image(COLOUR, name="one"), viewer.add_image(STACK, name="two")
    dock.inputs.image.choose(layer)
    run(dock, wait_for)
    viewer.dims.set_current_step(0, 2)
    dock.effect.choose("total_module")
    dock.effect.choose_instead("other", other)
    dock.effect.button.click()
    wait_for(lambda: dock.idle)
    slice_of = Array.from_array(STACK[2:3], axes="zyx")
    options = WhatIfOptions(model=tiny_transformer, replacement="other")
    found = whatif.run(Array.from_layer(layer), options, Context(device="cpu"), [slice_of])
    title = next(name for name in _rows(dock)["msa_0"] if name.startswith("total_module (two"))
    assert _rows(dock)["ffn_1"][title] == pytest.approx(
        float(found.target.of(found.effects)[found.names.index("ffn_1")]), abs=1e-6
    )
    dock.effect.choose("direct_difference")
    dock.effect.button.click()
    wait_for(lambda: dock.idle)
    both = contributions.run(
        Array.from_layer(layer),
        ContributionOptions(model=tiny_transformer),
        Context(device="cpu"),
        slice_of,
    )
    np.testing.assert_allclose(_numbers(dock), both.target.of(both.shares)[:-1], atol=1e-6)
    assert dock.request.inputs[1].value == "two"
    dock.effect.choose("total_module")
    dock.effect.choose_instead("layers")
    viewer.layers.remove(other)
    dock.effect.button.click()
    assert "needs another open image" in dock.run_bar.message.text()
    dock.effect.choose_instead("slices")
    dock.effect.button.click()
    wait_for(lambda: dock.idle)
    assert "no other slices" in dock.run_bar.message.text()


def test_a_picked_path_lays_its_map_where_the_network_looked(
    dock: PathsDock, viewer: Any, wait_for: Wait, tiny_transformer: str
) -> None:
    layer = viewer.add_image(COLOUR, scale=(2, 2), translate=(10, 20), name="cell")
    run(dock, wait_for)
    picture = dock.pages.picture
    picture.boxes[3].picked.emit()
    wait_for(lambda: dock.idle)
    shown = viewer.layers[-1]
    options = MapOptions(model=tiny_transformer, path="msa_1")
    found = maps.run(Array.from_layer(layer), options, Context(device="cpu"))
    np.testing.assert_array_equal(shown.data, found.values)
    low, high = shown.contrast_limits
    assert low == -high and high == pytest.approx(np.abs(found.values).max())
    np.testing.assert_array_equal(
        shown.colormap.map(np.array([0.0, 0.5, 1.0]))[:, :3], [[0, 0, 1], [1, 1, 1], [1, 0, 0]]
    )
    # Patches of 12 pixels on the middle square, which begins at column 8; not resampled.
    assert shown.data.shape == (4, 4) and shown.interpolation2d == "nearest"
    corners = shown.data_to_world((-0.5, -0.5)), shown.data_to_world((3.5, 3.5))
    np.testing.assert_allclose(corners[0], layer.data_to_world((-0.5, 7.5)))
    np.testing.assert_allclose(corners[1], layer.data_to_world((47.5, 55.5)))
    facts = shown.metadata["napari_cvsuite"]
    assert (facts["path"], facts["class"], facts["intervention"]) == (
        "msa_1",
        found.target,
        "direct",
    )
    assert len(facts["weights_sha256"]) == 64 and f"share of msa_1 in {found.target}" in shown.name
    assert f"{found.total:+.3f}" in dock.pages.picture_page.words.text()
    # The next one takes the same layer; one that is asked for by button a layer of its own.
    picture.boxes[1].picked.emit()
    wait_for(lambda: dock.idle)
    assert viewer.layers[-1] is shown and "msa_0" in shown.name and len(viewer.layers) == 3
    picture.boxes[2].picked.emit()
    assert dock.idle and "acts on the class token alone" in dock.pages.picture_page.words.text()
    dock.pages.choose(MAPS)
    dock.pages.maps.kind.setCurrentIndex(1)
    dock.pages.maps.button.click()
    wait_for(lambda: dock.idle)
    assert len(viewer.layers) == 4 and not shown.visible
    attention = viewer.layers[-1]
    assert "attention of layer 1, mean of 3 heads" in attention.name
    assert attention.contrast_limits[0] == 0
    for number in range(2, 6):
        dock.pages.maps.kind.setCurrentIndex(number)
        dock.pages.maps.button.click()
        wait_for(lambda: dock.idle)
        assert dock.run_bar.message.text().startswith("Done"), dock.run_bar.message.text()
    assert len(viewer.layers) == 8 and "token norm" in viewer.layers[-1].name


class _Click:
    """A press of the mouse that is released where it was."""

    def __init__(self, position: Any) -> None:
        self.position, self.pos, self.type = position, np.zeros(2), "mouse_press"

    def on(self, layer: Any) -> None:
        (callback,) = layer.mouse_drag_callbacks
        handler = callback(layer, self)
        next(handler)
        self.type = "mouse_release"
        next(handler, None)


@pytest.mark.parametrize("pool", ["token", "avg_norm_before"])
def test_a_clicked_patch_shows_what_paths_draw_from_it(
    viewer: Any, wait_for: Wait, install_transformer: Callable[..., str], pool: str
) -> None:
    name = install_transformer(pool=pool)
    dock = PathsDock(viewer)
    dock.inputs.model.choose(name)
    layer = viewer.add_image(COLOUR)
    run(dock, wait_for)
    dock.pages.picture.boxes[3].picked.emit()
    wait_for(lambda: dock.idle)
    shown = viewer.layers[-1]
    _Click(shown.data_to_world((2, 1))).on(shown)
    wait_for(lambda: dock.idle)
    found = maps.run(
        Array.from_layer(layer), MapOptions(model=name, path="msa_1"), Context(device="cpu")
    )
    assert _numbers(dock)[3] == pytest.approx(float(found.values[2, 1]), abs=1e-6)
    assert np.isnan(_numbers(dock)[2]) == (pool == "token")
    assert "patch (2, 1)" in dock.pages.picture._title
    # A map of an earlier look does not answer for a later one.
    run(dock, wait_for)
    assert not shown.mouse_drag_callbacks
    _map(dock, wait_for, path="msa_0")
    assert len(viewer.layers[-1].mouse_drag_callbacks) == 1
    dock.close()


def test_region_view_and_the_slice_that_is_followed(
    dock: PathsDock, viewer: Any, wait_for: Wait, tiny_transformer: str
) -> None:
    layer = viewer.add_image(STACK, scale=(3, 1, 1))
    dock.show()
    run(dock, wait_for)
    dock.pages.picture.boxes[1].click()
    wait_for(lambda: dock.settled)
    viewer.dims.set_current_step(0, 2)
    wait_for(lambda: dock.settled and dock.current is not None)
    found = _shares(layer, tiny_transformer, plane=2)
    assert dock.prediction.glances[0].likely == found.likely
    # Switches stay as they are, and are heeded.
    assert dock.pages.picture.off == {1} and len(dock.prediction.glances) == 2
    dock.inputs.region.choose(View.WHOLE)
    wait_for(lambda: dock.settled and dock.current is not None)
    found = _shares(layer, tiny_transformer, plane=2, view="whole")
    np.testing.assert_allclose(_numbers(dock), found.target.of(found.shares)[:-1], atol=1e-6)
    shapes = viewer.add_shapes([np.array([[400, 400], [420, 420]])], shape_type="rectangle")
    dock.inputs.region.choose(shapes)
    assert "outside" in problem(dock)
    wait_for(lambda: dock.settled)
    assert not dock.prediction.isEnabled()


def test_what_is_wrong_is_said(
    dock: PathsDock, viewer: Any, wait_for: Wait, tiny_transformer: str
) -> None:
    layer = viewer.add_image(np.full((48, 64), np.nan, np.float32))
    assert "no finite" in run(dock, wait_for)
    assert list(viewer.layers) == [layer] and dock.known is None
    dock.inputs.planes.set_values({"channels": "4"})
    assert "channels" in problem(dock)
    viewer.layers.clear()
    assert "Open an image" in problem(dock)


def test_without_a_transformer_the_dock_says_how_to_get_one(
    viewer: Any, tiny_classifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cvsuite.models.catalog import Catalogue

    cards = [card for card in Catalogue() if card.architecture != "vit"]
    assert tiny_classifier in [card.name for card in cards]
    monkeypatch.setattr(Catalogue, "__iter__", lambda self: iter(cards))
    dock = PathsDock(viewer)
    viewer.add_image(COLOUR)
    assert dock.inputs.model.count() == 1
    assert "no vision transformer" in problem(dock) and "Add model" in problem(dock)
    dock.close()


def test_a_transformer_whose_logits_are_no_sum_can_still_be_switched(
    viewer: Any, wait_for: Wait, install_transformer: Callable[..., str]
) -> None:
    name = install_transformer(pre_logits=8)
    dock = PathsDock(viewer)
    dock.inputs.model.choose(name)
    layer = viewer.add_image(COLOUR)
    run(dock, wait_for)
    assert "tanh" in dock.pages.numbers.words.text() and all(np.isnan(_numbers(dock)))
    dock.pages.picture.boxes[1].click()
    wait_for(lambda: dock.idle)
    found = _effects(layer, name, intervention="removed_final", off="msa_0", estimate=False)
    assert dock.prediction.glances[1].likely == found.after
    dock.close()


class _Held(Held):
    """Holds total effects, whether they are cancelled or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(deaf=True)
        real = whatif.of_session

        def slow(*arguments: Any) -> Any:
            self.hold(arguments[2].check)
            return real(*arguments)

        monkeypatch.setattr(whatif, "of_session", slow)


def test_cancel_frees_the_dock_and_changes_nothing(
    dock: PathsDock, viewer: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.add_image(COLOUR)
    run(dock, wait_for)
    before, layers = _rows(dock), list(viewer.layers)
    held = _Held(monkeypatch)
    dock.effect.choose("total_module")
    dock.effect.button.click()
    wait_for(held.entered.is_set)
    assert not dock.effect.button.isEnabled() and not dock.pages.maps.button.isEnabled()
    dock.run_bar.button.click()
    assert dock.run_bar.button.text() == "Look" and dock.idle
    assert not held.left.is_set()
    held.release.set()
    assert "Cancelled" in dock.run_bar.message.text()
    assert _rows(dock) == before and list(viewer.layers) == layers
    assert dock.effect.button.isEnabled() and dock.pages.maps.button.isEnabled()


def test_a_layer_removed_meanwhile_is_survived(
    dock: PathsDock, viewer: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cvsuite.paths.session import Session

    held, real = Held(), Session.start.__func__

    def slow(cls: Any, image: Any, options: Any, context: Any) -> Any:
        held.hold(context.check)
        return real(cls, image, options, context)

    monkeypatch.setattr(Session, "start", classmethod(slow))
    layer = viewer.add_image(COLOUR, name="gone", translate=(5, 5))
    dock.asks.show_map({"kind": "share", "path": "msa_1"})
    wait_for(held.entered.is_set)
    viewer.layers.remove(layer)
    held.release.set()
    wait_for(lambda: dock.idle)
    assert "gone is gone" in dock.run_bar.message.text()
    assert viewer.layers[-1].name.startswith("gone: share of msa_1")
    np.testing.assert_allclose(viewer.layers[-1].data_to_world((-0.5, -0.5)), [4.5, 12.5])


def test_shortcut_runs(dock: PathsDock, viewer: Any, wait_for: Wait) -> None:
    viewer.add_image(COLOUR)
    press(viewer, RUN_KEY)
    wait_for(lambda: dock.idle)
    assert dock.known is not None


def test_rows_and_bars_lead_to_paths(dock: PathsDock, viewer: Any, wait_for: Wait) -> None:
    viewer.add_image(COLOUR)
    run(dock, wait_for)
    dock.pages.choose(NUMBERS)
    dock.pages.numbers.plot.path_chosen.emit(3)
    wait_for(lambda: dock.idle)
    assert "msa_1" in viewer.layers[-1].name and dock.pages.picture.boxes[3].marked
    table = dock.pages.numbers.table
    table.row_chosen.emit(_rows(dock)["msa_0.head_2"])
    wait_for(lambda: dock.idle)
    assert "msa_0 head 2" in viewer.layers[-1].name
    table.row_chosen.emit(_rows(dock)["constant"])
    assert dock.idle
    # What is the same in every row is for the file.
    columns = table.model.columns
    hidden = {name for n, name in enumerate(columns) if table.view.isColumnHidden(n)}
    assert hidden == {"class", "model", "weights_sha256", "image", "version"}


def test_state_survives_a_restart(viewer: Any, tiny_transformer: str) -> None:
    first = PathsDock(viewer)
    first.inputs.model.choose(tiny_transformer)
    first.inputs.region.choose(View.WHOLE)
    first.effect.choose("total_layer")
    first.effect.choose_off("total_module")
    first.pages.choose(MAPS)
    first.close()
    assert load_state("paths")["model"] == tiny_transformer
    second = PathsDock(viewer)
    assert second.inputs.model_name() == tiny_transformer
    assert second.inputs.region.other() is View.WHOLE
    assert second.effect.intervention == "total_layer"
    assert second.effect.off_intervention == "total_module" and second.pages.name == MAPS
    second.pages.choose(PICTURE)
    second.close()


def test_a_closed_dock_is_let_go(viewer: Any, tiny_transformer: str, wait_for: Wait) -> None:
    viewer.add_image(COLOUR)
    dock = PathsDock(viewer)
    dock.inputs.model.choose(tiny_transformer)
    _map(dock, wait_for, path="msa_1")
    assert len(viewer.layers) == 3
    freed = closed(dock)
    del dock
    wait_for(freed)
    viewer.dims.set_current_step(0, 0)
    viewer.theme = "light"


def test_closing_cancels_what_runs(
    dock: PathsDock, viewer: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.add_image(COLOUR)
    run(dock, wait_for)
    held = _Held(monkeypatch)
    dock.effect.choose("total_module")
    dock.effect.button.click()
    wait_for(held.entered.is_set)
    dock.close()
    assert not dock.runner.busy and not held.left.is_set()
    held.release.set()


def test_numbers_are_explained_before_the_first_look(dock: PathsDock) -> None:
    effect = dock.effect
    for place in range(effect.number.count()):
        effect.number.setCurrentIndex(place)
        tip = effect.number.itemData(place, Qt.ItemDataRole.ToolTipRole)
        assert effect.words.text() == f"<i>{tip}</i>" and tip.endswith(".")
    effect.choose("removed_final")
    assert INTERVENTIONS["removed_final"] in effect.words.text()


def test_opening_the_dock_loads_no_torch() -> None:
    code = "import sys; import napari_cvsuite.widgets.paths; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_only_images_and_transformers_are_offered(
    dock: PathsDock, viewer: Any, tiny_classifier: str, tiny_transformer: str
) -> None:
    viewer.add_labels(np.zeros((48, 64), int))
    layer = viewer.add_image(COLOUR)
    viewer.add_image(STACK, metadata={"napari_cvsuite": {}})
    assert isinstance(dock.inputs.image.layer(), Image)
    names = [dock.inputs.image.itemText(i) for i in range(dock.inputs.image.count())]
    assert names == [layer.name]
    dock.inputs.model.refresh()
    models = [dock.inputs.model.itemText(i) for i in range(dock.inputs.model.count())]
    assert tiny_transformer in models and tiny_classifier not in models
