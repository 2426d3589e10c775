"""The Segment dock in a real viewer, with a small random network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from docks import Held, Wait, closed, opened, press, problem, run
from napari.layers import Labels

import napari_cvsuite
from napari_cvsuite.widgets import segment
from napari_cvsuite.widgets.segment import RUN_KEY, SegmentDock
from napari_cvsuite.widgets.settings import load_state

RNG = np.random.default_rng(0)


@pytest.fixture
def dock(viewer: Any, tiny_model: str) -> Iterator[SegmentDock]:
    yield from opened(SegmentDock(viewer), tiny_model)


def test_without_an_image_run_is_off_and_says_why(dock: SegmentDock, viewer: Any) -> None:
    assert "Open an image" in problem(dock)
    viewer.add_image(np.zeros((64, 64), "u1"))
    assert dock.run_bar.button.isEnabled()
    assert dock.run_bar.message.text() == ""


def test_run_adds_labels_maps_and_table(dock: SegmentDock, viewer: Any, wait_for: Wait) -> None:
    image = viewer.add_image(
        RNG.integers(0, 255, (64, 96, 3), "u1"), rgb=True, scale=(0.5, 0.5), translate=(3, 4)
    )
    run(dock, wait_for)
    added = [layer for layer in viewer.layers if layer is not image]
    assert {layer.name.split(": ")[1] for layer in added} == {
        "objects",
        "probability",
        "uncertainty",
    }
    for layer in added:
        assert layer.data.shape == (64, 96)
        np.testing.assert_allclose(layer.scale, image.scale)
        np.testing.assert_allclose(layer.translate, image.translate)
    labels = viewer.layers.selection.active
    assert isinstance(labels, Labels) and labels is viewer.layers[-1]
    facts = labels.metadata["napari_cvsuite"]
    assert facts["model"] and facts["weights_sha256"] and facts["request"]
    rows = dock.table.model.rows
    assert len(rows) == len(np.unique(labels.data)) - 1
    assert "objects" in dock.run_bar.message.text()
    assert labels.editable
    labels.paint((5, 5), 7)
    assert labels.data[5, 5] == 7
    labels.undo()
    assert len(np.unique(labels.data)) - 1 == len(rows)


def test_the_dock_gives_the_pixels_of_the_other_doors(
    dock: SegmentDock, viewer: Any, wait_for: Wait, tiny_model: str
) -> None:
    image = RNG.integers(0, 255, (150, 170, 3), "u1")
    viewer.add_image(image, rgb=True)
    dock.form.set_values({"tile": 96, "halo": 16})
    dock.show_as.setCurrentText("classes")
    run(dock, wait_for)
    other = napari_cvsuite.segment(image, model=tiny_model, device="cpu", tile=96, halo=16)
    np.testing.assert_array_equal(viewer.layers[-1].data, other.classes)


def test_every_kind_of_layer_is_segmented(dock: SegmentDock, viewer: Any, wait_for: Wait) -> None:
    cases: list[tuple[Any, dict[str, Any]]] = [
        (RNG.integers(0, 65535, (40, 50), "u2"), {}),
        (RNG.random((40, 50)) > 0.5, {}),
        (np.where(RNG.random((40, 50)) > 0.9, np.nan, 1.0), {}),
        (RNG.integers(0, 255, (40, 50, 4), "u1"), {"rgb": True}),
        (RNG.random((3, 40, 50), "f4"), {}),
        (RNG.random((2, 2, 40, 50), "f4"), {}),
        (da.from_array(RNG.random((2, 40, 50))), {}),
        ([RNG.random((64, 64)), RNG.random((32, 32))], {"multiscale": True}),
        (np.zeros((1, 1)), {}),
    ]
    for data, options in cases:
        viewer.layers.clear()
        image = viewer.add_image(data, **options)
        run(dock, wait_for)
        assert len(viewer.layers) == 4, dock.run_bar.message.text()
        finest = image.data[0] if image.multiscale else image.data
        shape = finest.shape[:-1] if image.rgb else finest.shape
        assert viewer.layers[-1].data.shape == shape


def test_bad_layers_disable_run_with_a_remedy(dock: SegmentDock, viewer: Any) -> None:
    viewer.add_image(np.zeros((2, 2, 2, 8, 8)))
    assert "pick a part" in problem(dock)
    viewer.layers.clear()
    viewer.add_image(np.zeros((8, 8)))
    dock.form.set_values({"stain": "hematoxylin"})
    assert "needs an RGB image" in problem(dock)
    dock.form.set_values({"stain": "none"})
    dock.form.set_values({"tile": 100})
    assert "multiple of 32" in problem(dock)


def test_region_of_shapes_is_segmented_in_place(
    dock: SegmentDock, viewer: Any, wait_for: Wait
) -> None:
    viewer.add_image(RNG.random((64, 64)))
    shapes = viewer.add_shapes([np.array([[10, 20], [42, 52]])], shape_type="rectangle")
    dock.shapes.choose(shapes)
    run(dock, wait_for)
    labels = viewer.layers[-1]
    assert labels.data.shape == (32, 32)
    np.testing.assert_allclose(labels.translate, (10, 20))


def test_current_plane_alone(dock: SegmentDock, viewer: Any, wait_for: Wait) -> None:
    viewer.add_image(RNG.random((4, 32, 32)))
    viewer.dims.set_current_step(0, 2)
    dock.planes.setCurrentText("current plane")
    run(dock, wait_for)
    assert viewer.layers[-1].data.shape == (1, 32, 32)
    np.testing.assert_allclose(viewer.layers[-1].translate, (2, 0, 0))


def _choose_target(dock: SegmentDock, viewer: Any, mode: str, painted: np.ndarray) -> Labels:
    target = viewer.add_labels(painted.copy())
    dock.mode.setCurrentText(mode)
    dock.target.choose(target)
    # Classes, so that a random network surely marks something.
    dock.show_as.setCurrentText("classes")
    return target


@pytest.mark.parametrize("mode", ["replace", "fill empty only"])
def test_writing_into_labels_is_undone_at_once(
    dock: SegmentDock, viewer: Any, wait_for: Wait, mode: str
) -> None:
    viewer.add_image(RNG.random((64, 64)))
    painted = np.zeros((64, 64), "i4")
    painted[:, :32] = 9
    target = _choose_target(dock, viewer, mode, painted)
    run(dock, wait_for)
    assert "Ctrl+Z" in dock.run_bar.message.text()
    if mode == "fill empty only":
        assert (target.data[:, :32] == 9).all()
    target.undo()
    np.testing.assert_array_equal(target.data, painted)


def test_no_target_chosen_is_said_before_run(dock: SegmentDock, viewer: Any) -> None:
    viewer.add_image(np.zeros((16, 16)))
    viewer.add_labels(np.zeros((8, 8), int))
    dock.mode.setCurrentText("replace")
    # The only Labels layer has another shape and is not offered.
    assert dock.target.count() == 1
    assert "Choose the Labels layer" in problem(dock)


def test_too_large_to_undo_goes_to_a_new_layer(
    dock: SegmentDock, viewer: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "preference", lambda *_: 0)
    viewer.add_image(RNG.random((64, 64)))
    # Label 9 everywhere: whatever the network finds, all pixels change.
    target = _choose_target(dock, viewer, "replace", np.full((64, 64), 9))
    run(dock, wait_for)
    assert "Too large to undo" in dock.run_bar.message.text()
    assert (target.data == 9).all() and viewer.layers[-1] is not target


class _Held(Held):
    """Holds the job before it computes, or `after` it has shown its tiles."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, after: bool = False, deaf: bool = False
    ) -> None:
        from napari_cvsuite.segmentation import predict

        super().__init__(deaf)
        original = predict.run

        def slow(image: Any, options: Any, context: Any) -> Any:
            early = original(image, options, context) if after else None
            self.hold(context.check)
            return original(image, options, context) if early is None else early

        monkeypatch.setattr(predict, "run", slow)


def test_cancel_leaves_no_trace(
    dock: SegmentDock, viewer: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _Held(monkeypatch, deaf=True)
    viewer.add_image(RNG.random((64, 64)))
    before = list(viewer.layers)
    dock.run()
    wait_for(held.entered.is_set)
    assert dock.run_bar.button.text() == "Cancel"
    dock.run_bar.button.click()
    assert dock.run_bar.button.text() == "Segment" and not dock.runner.busy
    assert not held.left.is_set()
    held.release.set()
    wait_for(lambda: dock.idle)
    assert list(viewer.layers) == before
    assert "Cancelled" in dock.run_bar.message.text()
    run(dock, wait_for)
    assert len(viewer.layers) == 4


def test_a_cancelled_preview_is_hidden_at_once_and_goes(
    dock: SegmentDock, viewer: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Held(monkeypatch, after=True)
    viewer.add_image(RNG.random((64, 64)))
    dock.run()
    assert "in progress" in viewer.layers[1].name
    dock.cancel()
    assert not viewer.layers[1].visible
    wait_for(lambda: dock.idle)
    assert len(viewer.layers) == 1


@pytest.mark.parametrize("mode", ["new layer", "replace"])
def test_the_preview_is_gone_or_the_result(
    dock: SegmentDock,
    viewer: Any,
    wait_for: Wait,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    stuck = _Held(monkeypatch, after=True)
    viewer.add_image(RNG.random((64, 64)))
    if mode == "replace":
        _choose_target(dock, viewer, mode, np.zeros((64, 64), int))
    before = list(viewer.layers)
    dock.run()
    assert len(viewer.layers) == len(before) + 1
    shown = viewer.layers[-1]
    stuck.release.set()
    wait_for(lambda: dock.idle)
    assert (shown in viewer.layers) == (mode == "new layer")
    assert not [layer for layer in viewer.layers if "in progress" in layer.name]
    assert len(viewer.layers) == len(before) + (3 if mode == "new layer" else 2)


def test_closing_the_dock_takes_the_preview_away(
    dock: SegmentDock, viewer: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Held(monkeypatch, after=True)
    viewer.add_image(RNG.random((64, 64)))
    dock.run()
    assert len(viewer.layers) == 2
    dock.close()
    assert len(viewer.layers) == 1


def test_closing_while_the_result_is_shown_leaves_it_whole(
    dock: SegmentDock, viewer: Any, wait_for: Wait
) -> None:
    viewer.add_image(RNG.random((64, 64)))
    dock.run()
    shown = viewer.layers[-1]
    wait_for(lambda: "in progress" not in shown.name)
    assert not dock.idle
    dock.close()
    assert shown in viewer.layers and shown.visible and shown.editable
    usual = {name: one.visible for name, one in Labels(np.zeros((2, 2), int))._overlays.items()}
    assert {name: one.visible for name, one in shown._overlays.items()} == usual
    assert viewer.window._qt_window.updatesEnabled() and dock.idle


def test_layers_removed_meanwhile(
    dock: SegmentDock, viewer: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _Held(monkeypatch)
    image = viewer.add_image(RNG.random((64, 64)))
    target = _choose_target(dock, viewer, "replace", np.zeros((64, 64), int))
    dock.run()
    wait_for(held.entered.is_set)
    viewer.layers.remove(image)
    viewer.layers.remove(target)
    held.release.set()
    wait_for(lambda: dock.idle)
    assert "is gone" in dock.run_bar.message.text()
    assert viewer.layers[-1].data.shape == (64, 64)


def test_closing_the_dock_is_a_cancel(
    viewer: Any, tiny_model: str, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _Held(monkeypatch)
    dock = SegmentDock(viewer)
    dock.model.choose(tiny_model)
    viewer.add_image(RNG.random((64, 64)))
    dock.run()
    wait_for(held.entered.is_set)
    handle = dock.runner._hold.handle
    assert handle is not None
    dock.close()
    wait_for(lambda: handle.state == "cancelled")


def test_a_closed_dock_is_freed(viewer: Any, wait_for: Wait) -> None:
    dock = SegmentDock(viewer)
    freed = closed(dock)
    del dock
    wait_for(freed)


def test_failure_is_told_and_changes_nothing(
    dock: SegmentDock, viewer: Any, wait_for: Wait
) -> None:
    image = viewer.add_image(np.full((8, 8), np.nan))
    run(dock, wait_for)
    assert "no finite pixel" in dock.run_bar.message.text()
    assert list(viewer.layers) == [image]


def test_shortcut_runs(dock: SegmentDock, viewer: Any, wait_for: Wait) -> None:
    viewer.add_image(RNG.random((32, 32)))
    press(viewer, RUN_KEY)
    wait_for(lambda: dock.idle)
    assert len(viewer.layers) == 4


def test_state_survives_a_restart(viewer: Any, tiny_model: str) -> None:
    first = SegmentDock(viewer)
    first.model.choose(tiny_model)
    first.form.set_values({"tta": True, "min_size": 77})
    first.planes.setCurrentText("current plane")
    first.close()
    assert load_state("segment")["model"] == tiny_model
    second = SegmentDock(viewer)
    card = second.model.card()
    assert card is not None and card.name == tiny_model
    values = second.form.values()
    assert values["tta"] is True and values["min_size"] == 77
    assert second.planes.currentText() == "current plane"
    second.close()


def test_click_on_a_row_flies_there(dock: SegmentDock, viewer: Any, wait_for: Wait) -> None:
    viewer.add_image(RNG.random((3, 32, 32)), scale=(5.0, 0.5, 0.5))
    dock.form.set_values({"min_size": 0})
    run(dock, wait_for)
    row = next(row for row in dock.table.model.rows if row["plane"] == 2)
    dock.table.row_chosen.emit(row)
    assert viewer.dims.point[0] == 10.0
    labels = viewer.layers[-1]
    assert labels.selected_label == row["index"]
    y, x = viewer.dims.point[1:]
    assert (y, x) == pytest.approx((row["centroid_y"], row["centroid_x"]))


def test_table_is_saved(dock: SegmentDock, tmp_path: Path, wait_for: Wait) -> None:
    dock.table.set_rows([{"index": 1, "area": 2.5}, {"index": 2, "area": 3.5}])
    dock.table.save(tmp_path / "t.csv")
    wait_for((tmp_path / "t.csv").exists)
    assert (tmp_path / "t.csv").read_text().split() == ["index,area", "1,2.5", "2,3.5"]
    told: list[str] = []
    dock.table.failed.connect(told.append)
    wait_for(lambda: not dock.table._runner.busy)
    dock.table.save(tmp_path / "no such folder" / "t.csv")
    wait_for(lambda: bool(told))
    assert "Not saved" in told[0]
