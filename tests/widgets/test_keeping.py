"""A new model is kept only if it is better, and only under a name that somebody gave."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docks import Wait, answered
from qtpy.QtWidgets import QWidget

from napari_cvsuite.models.weights import WeightsError
from napari_cvsuite.widgets.bridge import JobRunner
from napari_cvsuite.widgets.keeping import ModelKeeper
from napari_cvsuite.widgets.pickers import ModelPicker
from napari_cvsuite.widgets.run_bar import RunBar


class _Stage:
    """A keeper, and what it does."""

    def __init__(self) -> None:
        self.parent = QWidget()
        self.bar = RunBar(JobRunner(self.parent), "Run", self.parent)
        self.model = ModelPicker("segmentation")
        self.model.setParent(self.parent)
        self.keeper = ModelKeeper(self.model, self.bar, "Keep", "mine", self.parent)
        self.kept: list[str] = []

    def keep(self, name: str) -> str:
        self.kept.append(name)
        if name == "taken":
            raise WeightsError("choose another name")
        return "qtseg-vessels"

    def said(self) -> str:
        return str(self.bar.message.text())


@pytest.fixture
def stage(qtbot: object) -> Iterator[_Stage]:
    made = _Stage()
    yield made
    made.keeper.close_down()
    made.model.close_down()
    made.parent.close()


def test_what_is_better_is_kept_and_chosen(
    stage: _Stage, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answered(monkeypatch, " mine ")
    stage.keeper.offer("0.5 before, 0.6 after.", True, stage.keep)
    wait_for(lambda: "Kept as" in stage.said())
    assert stage.kept == ["mine"] and not stage.keeper.busy
    assert asked == ["0.5 before, 0.6 after.\nName of the new model: mine"]
    card = stage.model.card()
    assert card is not None and card.name == "qtseg-vessels"


@pytest.mark.parametrize(("name", "yes"), [("mine", False), ("  ", True)])
def test_who_gives_no_name_keeps_nothing(
    name: str, yes: bool, stage: _Stage, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(monkeypatch, name, yes)
    stage.keeper.offer("Better.", True, stage.keep)
    wait_for(lambda: stage.said() == "Better. Not kept.")
    assert stage.kept == []


def test_what_is_no_better_is_not_offered(stage: _Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answered(monkeypatch, "mine")
    stage.keeper.offer("Worse.", False, stage.keep)
    assert stage.said() == "Worse. No better, so it is not kept." and asked == []


def test_a_name_that_is_taken_is_said(
    stage: _Stage, wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(monkeypatch, "taken")
    stage.keeper.offer("Better.", True, stage.keep)
    wait_for(lambda: stage.said() == "choose another name")


def test_a_dock_that_was_closed_asks_nothing(
    stage: _Stage, qtbot: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answered(monkeypatch, "mine")
    stage.keeper.offer("Better.", True, stage.keep)
    stage.keeper.close_down()
    qtbot.wait(50)  # type: ignore[attr-defined]
    assert asked == [] and stage.kept == []
