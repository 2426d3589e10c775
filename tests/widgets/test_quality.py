"""The Quality dock in a real viewer, with small random networks: runs, and what may go wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docks import Held, Wait, closed, opened, press, problem, run
from napari.layers import Image
from PIL import Image as Picture

import napari_cvsuite
from napari_cvsuite.widgets.quality import RUN_KEY, QualityDock
from napari_cvsuite.widgets.quality_inputs import Many
from napari_cvsuite.widgets.quality_rows import KEY
from napari_cvsuite.widgets.settings import load_state

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 255, (4, 48, 64), "u1")


@pytest.fixture
def dock(viewer: Any, tiny_quality_model: str, tiny_comparing_model: str) -> Iterator[QualityDock]:
    yield from opened(QualityDock(viewer), tiny_quality_model)


def _rows(dock: QualityDock) -> list[dict[str, Any]]:
    return dock.results.model.rows


def test_an_image_is_scored_as_by_the_other_doors(
    dock: QualityDock, viewer: Any, wait_for: Wait, tiny_quality_model: str
) -> None:
    assert "Open an image" in problem(dock)
    pixels = RNG.integers(0, 9999, (48, 64)).astype("u2")
    layer = viewer.add_image(pixels, metadata={"mine": 1})
    said = run(dock, wait_for)
    other = napari_cvsuite.score_quality(pixels, model=tiny_quality_model, device="cpu")
    (row,) = _rows(dock)
    assert row["score"] == other.rows[0].score and row["model"] == tiny_quality_model
    assert row["layer"] == layer.name and row["slice"] == 0 and row["keep"] is True
    assert {"percentile", "likely_distortion", "confidence", "sharpness", "note"} <= set(row)
    window = other.provenance["window"]
    assert said.startswith(f"Score {row['score']:.3f}") and f"Intensity: {window}." in said
    assert f"Score {row['score']:.3f}" in dock.results.why.text()
    facts = layer.metadata[KEY]
    assert layer.metadata["mine"] == 1 and facts["rejected"] == []
    assert facts["rows"][0]["score"] == row["score"]
    assert facts["provenance"]["model"] == tiny_quality_model
    assert list(viewer.layers) == [layer]


def test_all_visible_images_and_only_these(dock: QualityDock, viewer: Any, wait_for: Wait) -> None:
    first = viewer.add_image(STACK[0], name="first")
    viewer.add_image(STACK[1], name="second")
    viewer.add_image(STACK[2], name="hidden", visible=False)
    viewer.add_labels(np.zeros((48, 64), int))
    dock.inputs.image.choose(Many.VISIBLE)
    run(dock, wait_for)
    assert [row["layer"] for row in _rows(dock)] == ["second", "first"]
    assert sorted(row["percentile"] for row in _rows(dock)) == [50.0, 100.0]
    assert KEY in first.metadata and KEY not in viewer.layers["hidden"].metadata
    dock.results.slice_chosen.emit(1)
    assert viewer.layers.selection.active is first
    for layer in viewer.layers:
        layer.visible = False
    assert "Open an image" in problem(dock)
    first.visible = True
    assert dock.run_bar.button.isEnabled()


def test_a_folder_is_scored_and_bad_files_say_why(
    dock: QualityDock, viewer: Any, wait_for: Wait, tmp_path: Path
) -> None:
    dock.inputs.image.choose(Many.FOLDER)
    assert "Choose a folder" in problem(dock)
    folder = tmp_path / "images"
    folder.mkdir()
    dock.inputs.set_folder(folder)
    assert "holds no image" in problem(dock)
    for number in range(3):
        Picture.fromarray(STACK[number]).save(folder / f"{number}.png")
    (folder / "bad.png").write_bytes(b"no picture")
    dock.inputs.set_folder(folder)
    said = run(dock, wait_for)
    rows = {row["layer"]: row for row in _rows(dock)}
    assert list(rows) == ["0.png", "1.png", "2.png", "bad.png"]
    assert "cannot be read" in rows["bad.png"]["note"] and "1 could not be scored" in said
    assert rows["1.png"]["score"] == rows["1.png"]["score"]
    dock.results.slice_chosen.emit(1)
    assert "1.png" in dock.results.why.text()


def test_region_and_current_slice(dock: QualityDock, viewer: Any, wait_for: Wait) -> None:
    layer = viewer.add_image(STACK)
    shapes = viewer.add_shapes([np.array([[4, 10], [40, 52]])], shape_type="rectangle")
    dock.inputs.shapes.choose(shapes)
    dock.inputs.slices.setCurrentText("current slice")
    viewer.dims.set_current_step(0, 2)
    run(dock, wait_for)
    (row,) = _rows(dock)
    assert row["slice"] == 2
    other = napari_cvsuite.score_quality(STACK[2, 4:40, 10:52], model=row["model"], device="cpu")
    assert row["score"] == pytest.approx(other.rows[0].score)
    assert layer.metadata[KEY]["rows"][0]["slice"] == 2


class _Held(Held):
    """Holds the job after its second slice."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, deaf: bool = False) -> None:
        from napari_cvsuite.quality import score

        super().__init__(deaf)
        original = score.score_slice

        def slow(scorer: Any, planes: Any, number: int, *others: Any) -> Any:
            if number == 2:
                self.hold(planes._check)
            return original(scorer, planes, number, *others)

        monkeypatch.setattr(score, "score_slice", slow)


def test_cancel_frees_the_dock_and_the_last_result_stays(
    dock: QualityDock, viewer: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer.add_image(STACK)
    run(dock, wait_for)
    dock.results.reject.setChecked(True)
    held = _Held(monkeypatch, deaf=True)
    dock.run()
    wait_for(held.entered.is_set)
    wait_for(lambda: dock.results.plot.length == 2)
    dock.run_bar.button.click()
    assert not held.left.is_set()
    held.release.set()
    assert dock.run_bar.button.text() == "Score" and dock.idle
    assert "Cancelled" in dock.run_bar.message.text()
    assert dock.results.plot.length == 4 and len(_rows(dock)) == 4
    assert dock.results.count.text() == "3 of 4 kept"


def test_a_layer_removed_meanwhile_has_its_scores_in_the_table(
    dock: QualityDock, viewer: Any, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = viewer.add_image(STACK, name="gone")
    held = _Held(monkeypatch)
    dock.run()
    wait_for(held.entered.is_set)
    viewer.layers.remove(layer)
    held.release.set()
    wait_for(lambda: dock.idle)
    assert "gone is gone; its scores are in the table" in dock.run_bar.message.text()
    assert len(_rows(dock)) == 4 and KEY not in layer.metadata
    dock.results.slice_chosen.emit(1)
    assert "is gone" in dock.run_bar.message.text()


def test_failure_is_told(dock: QualityDock, viewer: Any, wait_for: Wait) -> None:
    viewer.add_image(np.zeros((48, 64), "u1"))
    assert "all pixels are equal" in run(dock, wait_for)
    viewer.add_image(np.zeros((8, 8), "u1"))
    dock.inputs.image.setCurrentIndex(0)
    assert "32 x 32" in problem(dock)
    dock.inputs.image.setCurrentIndex(1)
    dock.inputs.form.set_values({"channels": "4"})
    assert "channels" in problem(dock)
    dock.inputs.form.set_values({"channels": "", "intensity": "fixed", "low": 5.0})
    assert "white must be above black" in problem(dock)


def test_shortcut_runs(dock: QualityDock, viewer: Any, wait_for: Wait) -> None:
    viewer.add_image(STACK[0])
    press(viewer, RUN_KEY)
    wait_for(lambda: dock.idle)
    assert len(_rows(dock)) == 1


def test_state_survives_a_restart(viewer: Any, tiny_quality_model: str) -> None:
    first = QualityDock(viewer)
    first.inputs.model.choose(tiny_quality_model)
    first.inputs.form.set_values({"intensity": "percentile", "step": 33})
    first.inputs.slices.setCurrentText("current slice")
    first.inputs.set_mode("Map")
    first.close()
    assert load_state("quality")["mode"] == "Map"
    second = QualityDock(viewer)
    card = second.inputs.model.card()
    assert card is not None and card.name == tiny_quality_model
    values = second.inputs.form.values()
    assert values["intensity"] == "percentile" and values["step"] == 33
    assert second.inputs.mode == "Map" and second.run_bar.button.text() == "Map"
    assert second.inputs.slices.currentText() == "current slice"
    second.close()


def test_closing_cancels_and_frees(
    viewer: Any, tiny_quality_model: str, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _Held(monkeypatch)
    viewer.add_image(STACK)
    dock = QualityDock(viewer)
    dock.inputs.model.choose(tiny_quality_model)
    dock.run()
    wait_for(held.entered.is_set)
    handle = dock.runner._hold.handle
    assert handle is not None
    dock.close()
    wait_for(lambda: handle.state == "cancelled")


def test_a_closed_dock_is_freed(viewer: Any, tiny_quality_model: str, wait_for: Wait) -> None:
    viewer.add_image(STACK)
    dock = QualityDock(viewer)
    dock.inputs.model.choose(tiny_quality_model)
    run(dock, wait_for)
    dock.results.reject.setChecked(True)
    freed = closed(dock)
    del dock
    wait_for(freed)


def test_opening_the_dock_loads_no_torch() -> None:
    code = "import sys; import napari_cvsuite.widgets.quality; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_only_images_are_offered(dock: QualityDock, viewer: Any) -> None:
    viewer.add_labels(np.zeros((48, 64), int))
    layer = viewer.add_image(STACK[0])
    assert isinstance(dock.inputs.image.layer(), Image)
    names = [dock.inputs.image.itemText(i) for i in range(dock.inputs.image.count())]
    assert names == [layer.name, "all visible images", "folder of files…"]
