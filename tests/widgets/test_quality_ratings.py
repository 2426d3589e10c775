"""Ratings in the table of the Quality dock, and a model fitted to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docks import Wait, answered, run
from qtpy.QtCore import QModelIndex, Qt
from qtpy.QtWidgets import QInputDialog
from skimage.io import imsave

from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.widgets.quality import QualityDock
from napari_cvsuite.widgets.quality_rows import RATINGS

RNG = np.random.default_rng(0)


@pytest.fixture
def dock(make_napari_viewer: Any, tiny_quality_model: str, wait_for: Wait) -> Iterator[QualityDock]:
    """Return a dock that has scored a stack whose noise grows in steps."""
    from skimage.data import camera

    from napari_cvsuite.quality.distortions import distort

    viewer = make_napari_viewer()
    plane = camera()[:64, 200:264]
    noisy = [distort(plane, "gaussian noise", number % 6, number) for number in range(24)]
    viewer.add_image(np.stack(noisy))
    made = QualityDock(viewer)
    made.inputs.model.choose(tiny_quality_model)
    made.inputs.device.choose("cpu")
    made.run()
    wait_for(lambda: made.idle)
    yield made
    made.close()


def _rate(dock: QualityDock, slice_: int, text: str) -> bool:
    model = dock.results.model
    index = model.index(slice_, model.columns.index("rating"), QModelIndex())
    assert model.flags(index) & Qt.ItemFlag.ItemIsEditable
    return model.setData(index, text)


def test_the_button_waits_for_twenty_ratings(dock: QualityDock) -> None:
    button = dock.results.fit_button
    # isVisible is about the whole window, which is not shown here.
    assert not button.isHidden() and not button.isEnabled() and "0 of 20" in button.text()
    assert not _rate(dock, 0, "good") and not _rate(dock, 0, "inf")
    for number in range(20):
        assert _rate(dock, number, f"{number % 6},5")
    assert button.isEnabled() and dock.results.model.rows[1]["rating"] == 1.5
    assert _rate(dock, 0, "") and not button.isEnabled()
    other = dock.results.model.columns.index("score")
    index = dock.results.model.index(0, other, QModelIndex())
    assert not dock.results.model.flags(index) & Qt.ItemFlag.ItemIsEditable
    assert not dock.results.model.setData(index, "1")


def test_ratings_outlive_another_run_and_the_dock(dock: QualityDock, wait_for: Wait) -> None:
    viewer, (layer,) = dock.viewer, dock.viewer.layers
    for number in range(20):
        _rate(dock, number, str(number))
    _rate(dock, 3, "")
    dock.run()
    wait_for(lambda: dock.idle)
    ratings = [row["rating"] for row in dock.results.model.rows]
    assert ratings[4] == 4 and ratings[19] == 19 and np.isnan([ratings[3], ratings[20]]).all()
    assert layer.metadata[RATINGS] == {"z": {n: float(n) for n in range(20) if n != 3}}
    dock.results.reject_below(0.5)
    rejected = [not row["keep"] for row in dock.results.model.rows]
    dock.close()
    again = QualityDock(viewer)
    rows = again.results.model.rows
    np.testing.assert_array_equal([row["rating"] for row in rows], ratings)
    assert [not row["keep"] for row in rows] == rejected and again.results.reject.isChecked()
    assert "Scored before with" in again.run_bar.message.text()
    # What was scored can be clicked, and slices are found again.
    again.results.table.row_chosen.emit(rows[7])
    assert viewer.dims.current_step[0] == 7 and again.results._current == 7
    _rate(again, 3, "3")
    again.fit_to_ratings()
    assert "Score the image again" in again.run_bar.message.text()
    again.close()
    assert layer.metadata[RATINGS]["z"][3] == 3


def test_ratings_of_files_outlive_another_run(
    make_napari_viewer: Any, tiny_quality_model: str, tmp_path: Path, wait_for: Wait
) -> None:
    for name in "ab":
        imsave(tmp_path / f"{name}.png", RNG.integers(0, 255, (48, 64), "u1"))
    made = QualityDock(make_napari_viewer())
    made.inputs.model.choose(tiny_quality_model)
    made.inputs.set_folder(tmp_path)
    run(made, wait_for)
    _rate(made, 1, "2")
    run(made, wait_for)
    assert [row["rating"] for row in made.results.model.rows] == [
        pytest.approx(np.nan, nan_ok=True),
        2,
    ]
    # Files of the same names in another folder are other images.
    (tmp_path / "other").mkdir()
    for name in "ab":
        imsave(tmp_path / f"other/{name}.png", RNG.integers(0, 255, (48, 64), "u1"))
    made.inputs.set_folder(tmp_path / "other")
    run(made, wait_for)
    assert np.isnan([row["rating"] for row in made.results.model.rows]).all()
    made.close()


def test_the_fit_says_what_it_promises_and_is_kept_under_a_name(
    dock: QualityDock, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answered(monkeypatch, "mine")
    for number in range(24):
        _rate(dock, number, str(6 - number % 6))
    dock.results.fit_button.click()
    wait_for(lambda: bool(asked) and not dock.ratings.keeper.busy and dock.idle)
    assert "before" in asked[0] and "held out" in asked[0]
    wait_for(lambda: "Kept as mine" in dock.run_bar.message.text())
    card = dock.inputs.model.card()
    assert card is not None and card.name == "mine" and "mine" in Catalogue()


def test_a_fit_that_is_no_better_is_not_offered(
    dock: QualityDock, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: pytest.fail("was asked"))
    for number, row in enumerate(dock.results.model.rows):
        _rate(dock, number, repr(row["score"]))
    dock.fit_to_ratings()
    wait_for(lambda: "not kept" in dock.run_bar.message.text())
