from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from safetensors.torch import save_file

import napari_cvsuite
from napari_cvsuite.jobs import Context
from napari_cvsuite.models import store
from napari_cvsuite.models.qtseg import QTSeg, QTSegConfig
from napari_cvsuite.models.weights import import_file
from napari_cvsuite.segmentation.evaluate import MEAN, EvaluateInputs, evaluate
from napari_cvsuite.segmentation.metrics import dice


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two noise images, and masks that a random model of three classes gives them, but for a part.

    In the second mask class 2 is swapped for class 1 in the upper half.
    """
    torch.manual_seed(0)
    path = tmp_path / "three.safetensors"
    save_file(QTSeg(QTSegConfig(num_classes=3, n_channel=4)).state_dict(), path)
    import_file(path)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        pixels = rng.integers(0, 255, (64, 64, 3), dtype="u1")
        Picture.fromarray(pixels).save(tmp_path / f"images/{number}.png")
        mask = napari_cvsuite.segment(pixels, model="three", device="cpu").classes.astype("u1")
        assert set(np.unique(mask)) >= {1, 2}, "the test needs a model that tells classes apart"
        if number:
            mask[:32] = np.where(mask[:32] == 2, 1, mask[:32])
        Picture.fromarray(mask).save(tmp_path / f"masks/{number}.png")
    return tmp_path


@pytest.fixture(autouse=True)
def _forget_models() -> None:
    store.default_store().evict_all()


@pytest.mark.parametrize("tta", [False, True])
def test_classes_are_measured_over_the_pixels_of_all_images(folder: Path, tta: bool) -> None:
    inputs = EvaluateInputs(folder / "images", folder / "masks")
    report = evaluate(inputs, "three", Context(device="cpu"), tta)
    predicted, truth = [], []
    for number in range(2):
        pixels = np.asarray(Picture.open(folder / f"images/{number}.png"))
        found = napari_cvsuite.segment(pixels, model="three", device="cpu", tta=tta)
        predicted.append(found.classes)
        truth.append(np.asarray(Picture.open(folder / f"masks/{number}.png")))
    p, t = np.concatenate(predicted), np.concatenate(truth)
    expected = [dice(p == value, t == value) for value in (1, 2)]
    assert min(expected) < 0.99
    measured = {name: score.dice for name, score in report.classes.items()}
    assert list(measured.values()) == pytest.approx([*expected, np.mean(expected)])
    assert list(measured)[-1] == MEAN
    assert all(score.low <= score.dice <= score.high for score in report.classes.values())


def test_a_class_can_be_kept_apart(folder: Path) -> None:
    inputs = EvaluateInputs(folder / "images", folder / "masks", apart=("class 1",))
    classes = evaluate(inputs, "three", Context(device="cpu")).classes
    assert classes[MEAN] == classes["class 2"] and "class 1" in classes


def test_a_class_apart_must_be_one_of_the_model(folder: Path) -> None:
    inputs = EvaluateInputs(folder / "images", folder / "masks", apart=("tumour",))
    with pytest.raises(ValueError, match=r"no class 'tumour'; it has .*class 1"):
        evaluate(inputs, "three", Context(device="cpu"))
