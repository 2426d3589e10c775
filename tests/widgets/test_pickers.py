"""Lists of layers, models and devices stay true."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.widgets.pickers import DevicePicker, LayerPicker, ModelPicker, describe_card

pytestmark = pytest.mark.usefixtures("qtbot")
Wait = Callable[[Callable[[], bool]], None]


def _names(picker: LayerPicker) -> list[str]:
    return [picker.itemText(index) for index in range(picker.count())]


def test_layers_follow_the_viewer() -> None:
    viewer = ViewerModel()
    picker = LayerPicker(viewer, lambda layer: isinstance(layer, Labels), "none")
    told: list[int] = []
    picker.changed.connect(lambda: told.append(1))
    assert _names(picker) == ["none"] and picker.layer() is None
    first = viewer.add_labels(np.zeros((4, 4), int), name="first")
    viewer.add_image(np.zeros((4, 4)))
    second = viewer.add_labels(np.zeros((4, 4), int), name="second")
    assert _names(picker) == ["none", "second", "first"]
    picker.choose(first)
    second.name = "renamed"
    assert _names(picker) == ["none", "renamed", "first"] and picker.layer() is first
    viewer.layers.remove(first)
    assert picker.layer() is None and told
    picker.close_down()
    viewer.add_labels(np.zeros((4, 4), int))
    assert picker.count() == 2


def test_layers_are_listened_to_while_they_are_there() -> None:
    viewer = ViewerModel()
    picker = LayerPicker(viewer, lambda layer: True)
    layers = [viewer.add_image(np.zeros((4, 4))) for _ in range(3)]
    told: list[int] = []
    picker.changed.connect(lambda: told.append(1))
    for number, layer in enumerate(layers):
        layer.name = f"renamed {number}"
        layer.metadata = {"written": True}
    assert len(told) == 6
    viewer.layers.remove(layers[0])
    told.clear()
    layers[0].name, layers[0].metadata = "gone", {}
    assert not told and "gone" not in _names(picker)
    layers[1].metadata = {}
    picker.close_down()
    layers[1].metadata = {}
    assert len(told) == 1


class _Many(Enum):
    ALL = "all of them"


def test_an_entry_below_the_layers_gives_way_unless_it_was_chosen() -> None:
    viewer = ViewerModel()
    picker = LayerPicker(viewer, lambda layer: True, last=lambda: (_Many.ALL,))
    assert picker.layer() is None and picker.other() is _Many.ALL
    first = viewer.add_image(np.zeros((4, 4)), name="first")
    assert picker.layer() is first and picker.other() is None
    assert _names(picker) == ["first", "all of them"]
    picker.choose(_Many.ALL)
    second = viewer.add_image(np.zeros((4, 4)), name="second")
    assert picker.other() is _Many.ALL
    told: list[int] = []
    picker.changed.connect(lambda: told.append(1))
    second.visible = False
    viewer.layers.selection = {first}
    first.metadata = {"a": 1}
    assert len(told) >= 3
    picker.close_down()
    told.clear()
    second.visible = True
    viewer.layers.selection = {second}
    first.metadata = {"a": 2}
    assert not told


def test_models_show_their_card_and_an_own_one_is_added(tmp_path: Path, wait_for: Wait) -> None:
    import torch
    from safetensors.torch import save_file

    from napari_cvsuite.models.qtseg import QTSeg, QTSegConfig

    picker = ModelPicker("segmentation")
    picker.choose("qtseg-nuclei")
    card = picker.card()
    assert card is not None and card.name == "qtseg-nuclei"
    assert card.license in picker.toolTip()
    torch.manual_seed(0)
    save_file(QTSeg(QTSegConfig(n_channel=4)).state_dict(), tmp_path / "own.safetensors")
    picker.add(tmp_path / "own.safetensors")
    wait_for(lambda: picker.card() is not None and picker.card().name == "own")  # type: ignore[union-attr]
    assert "own" in Catalogue()
    failures: list[str] = []
    picker.failed.connect(failures.append)
    (tmp_path / "broken.pt").write_bytes(b"not weights")
    picker.add(tmp_path / "broken.pt")
    wait_for(lambda: bool(failures))
    assert "broken.pt" in failures[0]
    picker.close_down()


def test_a_model_for_another_dock_is_added_and_that_is_said(
    tmp_path: Path, wait_for: Wait, tiny_model: str
) -> None:
    picker, failures = ModelPicker("classification", architecture="vit"), []
    picker.failed.connect(failures.append)
    picker._added(tiny_model)
    assert failures == [
        f"{tiny_model} was added, but is not for this dock: it is a qtseg network for semantic "
        "segmentation, and vit is wanted here."
    ]
    picker.close_down()


def test_card_is_described_for_people() -> None:
    text = describe_card(Catalogue().get("qtseg-nuclei"))
    for part in ("nucleus", "BSD-3-Clause", "CC0", "dice"):
        assert part in text


def test_devices_are_complete_once_the_engine_runs() -> None:
    picker = DevicePicker("cuda:3")
    assert picker.device() == "cuda:3"
    picker.choose("auto")
    before = picker.count()
    picker.complete()
    picker.complete()
    # The CPU is listed already, and nothing twice.
    texts = [picker.itemData(index) for index in range(picker.count())]
    assert picker.count() >= before and len(texts) == len(set(texts))


def test_a_licence_is_asked_for_once_before_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    from qtpy.QtWidgets import QMessageBox

    from napari_cvsuite.models import licences

    answers = [QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes]
    asked: list[str] = []

    def answer(parent: object, title: str, text: str, *_: object) -> object:
        asked.append(text)
        return answers.pop(0)

    monkeypatch.setattr(QMessageBox, "question", answer)
    picker = ModelPicker("quality")
    picker.choose("topiq_nr")
    assert picker.currentText() == "topiq_nr (download)"
    assert not picker.permitted() and not licences.is_accepted(Catalogue().get("topiq_nr"))
    assert picker.permitted() and picker.permitted()
    assert len(asked) == 2 and "CC BY-NC-SA 4.0" in asked[0]
    picker.close_down()


def test_models_that_are_here_need_no_question(tiny_model: str) -> None:
    picker = ModelPicker("segmentation")
    picker.choose(tiny_model)
    assert picker.permitted()
    picker.note_fetched()
    assert picker.currentText() == tiny_model
    picker.close_down()
