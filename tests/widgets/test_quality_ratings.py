"""Ratings in the table of the Quality dock, and a model fitted to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from docks import Wait, answered
from qtpy.QtCore import QModelIndex, Qt
from qtpy.QtWidgets import QInputDialog

from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.widgets.quality import QualityDock

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
