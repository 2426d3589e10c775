"""A model learns from corrected labels, and says honestly what that is worth."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
from dask import delayed
from numpy.typing import NDArray
from safetensors.torch import load_file
from typer.testing import CliRunner

import napari_cvsuite
from napari_cvsuite.cli import app
from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.jobs import Cancelled, Context, OptionError
from napari_cvsuite.models.catalog import Catalogue, UnknownModelError, user_folder
from napari_cvsuite.models.weights import WeightsError
from napari_cvsuite.segmentation import retrain
from napari_cvsuite.segmentation.corrected import Corrected, CorrectionError
from napari_cvsuite.segmentation.data import IGNORE
from napari_cvsuite.segmentation.options import RetrainOptions
from napari_cvsuite.segmentation.retrain import check, keep, read_corrected, run


def _discs(shape: tuple[int, int] = (160, 192), seed: int = 0) -> NDArray[np.uint8]:
    """Return numbered discs all over a plane."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = [(i, j) for i in range(20, shape[0], 40) for j in range(20, shape[1], 40)]
    for number, (i, j) in enumerate(centres, 1):
        moved = (i + rng.integers(-6, 7), j + rng.integers(-6, 7))
        labels[(y - moved[0]) ** 2 + (x - moved[1]) ** 2 < 100] = number
    return labels


def _seen(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(1).normal(0, 8, labels.shape)
    return np.clip(np.where(labels > 0, 170, 60) + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show few and small parts of the images."""
    monkeypatch.setattr(retrain, "SIDE", 64)
    monkeypatch.setattr(retrain, "CROPS", 4)


def _mask(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    return (labels > 0).astype(np.int64)


def test_every_fourth_plane_is_held_out() -> None:
    planes = [(np.full((8, 8, 3), i, np.float32), np.ones((8, 8), np.int64)) for i in range(9)]
    learned, held = retrain._hold_out(planes)
    assert [int(image[0, 0, 0]) for image, _ in held] == [3, 7]
    assert [int(image[0, 0, 0]) for image, _ in learned] == [0, 1, 2, 4, 5, 6, 8]


@pytest.mark.parametrize("turned", [False, True])
def test_of_one_plane_a_quarter_is_held_out_and_not_learned(turned: bool) -> None:
    mask = _mask(_discs((160, 400)))
    mask = mask.T.copy() if turned else mask
    image = np.random.default_rng(0).random((*mask.shape, 3), np.float32)
    [(shown, learned)], [(seen, counted)] = retrain._hold_out([(image, mask)])
    assert shown is image
    hidden = learned == IGNORE
    assert hidden.mean() == 0.25
    assert (learned[~hidden] == mask[~hidden]).all()
    # What is measured is what was hidden, and the network sees 64 pixels beside it.
    assert (counted != IGNORE).sum() == hidden.sum()
    assert sorted(counted[counted != IGNORE]) == sorted(mask[hidden])
    lines = np.flatnonzero(hidden.any(axis=int(turned)))
    around = slice(max(0, lines[0] - 64), lines[-1] + 65)
    expected = image[around] if turned else image[:, around]
    assert np.array_equal(seen, expected)


def test_the_quarter_is_one_with_labels_in_it_and_beside_it() -> None:
    mask = np.zeros((64, 400), np.int64)
    mask[:, 120:130] = mask[:, 330:340] = 1
    _, [(_, counted)] = retrain._hold_out([(np.zeros((64, 400, 3), np.float32), mask)])
    assert (counted == 1).sum() == 640
    alone = np.zeros_like(mask)
    alone[:, 120:130] = 1
    with pytest.raises(CorrectionError, match="too little"):
        retrain._hold_out([(np.zeros((64, 400, 3), np.float32), alone)])
    with pytest.raises(CorrectionError, match="128 pixels"):
        retrain._hold_out([(np.zeros((64, 100, 3), np.float32), np.eye(64, 100, dtype=np.int64))])


def test_a_model_gets_better_at_what_it_did_not_learn_from(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrain, "SIDE", 64)
    labels = _discs()
    corrected = [Corrected(Image.from_array(_seen(labels)), labels)]
    told: list[str] = []
    context = Context(on_progress=lambda report: told.append(report.message))
    options = RetrainOptions(model=tiny_model, epochs=10, lr=5e-3, class_names=" background, disc ")
    result = run(corrected, options, context)
    assert (result.n, result.base, result.kept) == (1, tiny_model, "")
    assert result.dice_after > 0.7 and result.better
    assert result.dice_after > result.dice_before + 0.2
    assert "measuring the model as it is" in told and any("epoch 10" in text for text in told)
    assert f"{result.dice_before:.3f} before" in result.in_words()

    assert keep(result, "mine") == "mine"
    card = Catalogue().get("mine")
    assert card.metrics == {"dice_before": result.dice_before, "dice_held_out": result.dice_after}
    assert card.description == f"{tiny_model}, retrained on 1 plane of the user's own."
    assert card.training["start"] == tiny_model and card.classes == ("background", "disc")
    other = _discs(seed=3)
    found = napari_cvsuite.segment(_seen(other), model="mine").classes
    assert 2 * (found & (other > 0)).sum() / (found.sum() + (other > 0).sum()) > 0.7
    with pytest.raises(WeightsError, match="choose another name"):
        keep(result, "mine")
    with pytest.raises(WeightsError, match="no name"):
        keep(result, "../mine")
    assert not (user_folder().parent / "mine.safetensors").exists()


def test_what_is_no_better_is_not_kept(tiny_model: str, small: None) -> None:
    labels = _discs()
    # Nothing is learned at this rate.
    options = RetrainOptions(model=tiny_model, name="mine", epochs=1, lr=1e-7)
    result = run([Corrected(Image.from_array(_seen(labels)), labels)], options, Context())
    assert result.kept == ("mine" if result.better else "")
    assert ("mine" in Catalogue()) == result.better
    assert abs(result.dice_after - result.dice_before) < 0.02
    assert result.classes == Catalogue().get(tiny_model).classes


def test_all_doors_teach_the_same(tiny_model: str, small: None, tmp_path: Path) -> None:
    labels = [_discs(seed=i) for i in range(2)]
    images = [_seen(one) for one in labels]
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for i, (image, painted) in enumerate(zip(images, labels, strict=True)):
        tifffile.imwrite(tmp_path / f"images/{i}.tif", image)
        np.save(tmp_path / f"labels/{i}.npy", painted)
    options: dict[str, Any] = {"model": tiny_model, "epochs": 2, "lr": 3e-3, "name": "python"}
    result = napari_cvsuite.retrain(images, labels, **options)
    arguments = ["train", "corrections", "--images", str(tmp_path / "images")]
    arguments += ["--labels", str(tmp_path / "labels"), "--model", tiny_model]
    arguments += ["--epochs", "2", "--lr", "3e-3", "--name", "command"]
    said = CliRunner().invoke(app, [*arguments, "--json"])
    assert said.exit_code == 0, said.output
    facts = json.loads(said.output)
    assert facts == {**result.facts(), "kept": facts["kept"]}
    assert (result.kept, facts["kept"]) == (("python", "command") if result.better else ("", ""))
    if result.better:
        one, two = (load_file(user_folder() / f"{n}.safetensors") for n in ("python", "command"))
        assert all((one[key] == two[key]).all() for key in one)
    arguments[arguments.index("command")] = "third"
    said = CliRunner().invoke(app, arguments)
    assert "of the held-out quarter" in said.output
    with pytest.raises(ValueError, match="give one to each"):
        napari_cvsuite.retrain(images, labels[:1], model=tiny_model)


def _stack(image: Any, labels: Any) -> tuple[Any, Any]:
    return np.stack([image] * 5), np.stack([labels, labels * 0, labels, labels, labels])


GOOD: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "16 bit": lambda image, labels: (image.astype("u2") * 200, labels.astype("i4")),
    "float": lambda image, labels: (image / 255.0, labels.astype("u2")),
    "bool": lambda image, labels: (image > 100, labels > 0),
    "nan": lambda image, labels: (np.where(image > 200, np.nan, image), labels),
    "constant": lambda image, labels: (image * 0, labels),
    "rgb": lambda image, labels: (np.stack([image] * 3, -1), labels),
    "rgba": lambda image, labels: (np.stack([image] * 4, -1), labels),
    "dask": lambda image, labels: (da.from_array(image, chunks=50), da.from_array(labels)),
    "stack": _stack,
    "4D": lambda image, labels: tuple(one[None] for one in _stack(image, labels)),
    "many numbers": lambda image, labels: (image, labels.astype("i8") + (labels > 0) * 100_000),
}


@pytest.mark.parametrize("name", GOOD)
def test_any_image_can_be_learned_from(name: str, tiny_model: str, small: None) -> None:
    labels = _discs()
    image, labels = GOOD[name](_seen(labels), labels)
    options = RetrainOptions(model=tiny_model, epochs=1)
    result = run([Corrected(Image.from_array(image), labels)], options, Context())
    assert result.n == (4 if name in ("stack", "4D") else 1)
    assert 0 <= result.dice_before <= 1 and 0 <= result.dice_after <= 1


BAD: dict[str, tuple[Callable[[Any, Any], tuple[Any, Any]], type[Exception], str]] = {
    "shape": (lambda i, m: (i, m[1:]), CorrectionError, "must lie over each other"),
    "planes": (lambda i, m: (np.stack([i, i]), m), CorrectionError, "must lie over each other"),
    "empty": (lambda i, m: (i, m * 0), CorrectionError, "paint what should be found"),
    "fractions": (lambda i, m: (i, m / 2), CorrectionError, "whole numbers"),
    "one pixel": (lambda i, m: (i[:1, :1], m[:1, :1] + 1), CorrectionError, "too little"),
    "all nan": (lambda i, m: (i * np.nan, m), ImageError, "finite"),
    "channels": (lambda i, m: (np.stack([i] * 5), m), CorrectionError, "lie over each other"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_learned_from_says_why(name: str, tiny_model: str, small: None) -> None:
    spoil, error, text = BAD[name]
    image, labels = spoil(_seen(_discs()), _discs())
    options = RetrainOptions(model=tiny_model, epochs=1)
    corrected = [Corrected(Image.from_array(image), labels)]
    with pytest.raises(error, match=text):
        run(corrected, options, Context())
    if name == "all nan":
        # Only its pixels say so.
        check(corrected, options, Context())
    else:
        with pytest.raises(error, match=text):
            check(corrected, options, Context())


@pytest.mark.parametrize("asked", [run, check])
def test_other_models_and_options_are_refused(
    asked: Callable[..., Any], tiny_model: str, tiny_quality_model: str, small: None
) -> None:
    labels = _discs()
    corrected = [Corrected(Image.from_array(_seen(labels)), labels)]
    with pytest.raises(UnknownModelError, match="no model called"):
        asked(corrected, RetrainOptions(model="other"), Context())
    with pytest.raises(CorrectionError, match="choose another model"):
        asked(corrected, RetrainOptions(model=tiny_quality_model), Context())
    with pytest.raises(WeightsError, match="choose another name"):
        asked(corrected, RetrainOptions(model=tiny_model, name=tiny_model), Context())
    with pytest.raises(OptionError, match="channels"):
        RetrainOptions(channels="1,2,3,4")
    with pytest.raises(OptionError, match="must be 2 different names"):
        asked(corrected, RetrainOptions(model=tiny_model, class_names="a,b,c"), Context())
    with pytest.raises(CorrectionError, match="nothing was corrected"):
        asked([], RetrainOptions(model=tiny_model), Context())


def test_a_check_looks_at_labels_alone(tiny_model: str) -> None:
    def fails() -> Any:
        raise AssertionError("the image was read")

    labels = np.stack([_discs()] * 6)
    image = da.from_delayed(delayed(fails)(), labels.shape, np.uint8)
    corrected = [Corrected(Image.from_array(image), labels)]
    check(corrected, RetrainOptions(model=tiny_model), Context())
    stopped = Context()
    stopped.token.cancel()
    with pytest.raises(Cancelled):
        check(corrected, RetrainOptions(model=tiny_model), stopped)


def test_classes_are_told_from_objects(tiny_model: str, small: None) -> None:
    card = Catalogue().get("qtseg-larynx")
    mask = retrain._classes(np.array([[0, 1, 6]]), card, "frame")
    # Void counts for nothing in this model's training.
    assert mask.tolist() == [[IGNORE, 1, 6]]
    with pytest.raises(CorrectionError, match="correct classes, not objects"):
        retrain._classes(np.array([[0, 7]]), card, "frame")
    two = Catalogue().get(tiny_model)
    assert retrain._classes(np.array([[0, 7]]), two, "frame").tolist() == [[0, 1]]


def test_a_retraining_can_be_cancelled_and_leaves_nothing(tiny_model: str, small: None) -> None:
    labels = _discs()
    corrected = [Corrected(Image.from_array(_seen(labels)), labels)]
    context = Context()
    context.on_progress = lambda report: (
        context.token.cancel() if "loss" in report.message else None
    )
    with pytest.raises(Cancelled):
        run(corrected, RetrainOptions(model=tiny_model, name="mine"), context)
    assert "mine" not in Catalogue()


def test_napari_can_hold_a_result_without_torchs_compiler() -> None:
    code = "import sys, napari_cvsuite.segmentation.retrain; print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_folders_are_read_as_pairs(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    tifffile.imwrite(tmp_path / "images/a.tif", _seen(_discs()))
    tifffile.imwrite(tmp_path / "images/b.tif", _seen(_discs()))
    tifffile.imwrite(tmp_path / "labels/a.tif", _discs())
    [one] = read_corrected(tmp_path / "images", tmp_path / "labels")
    assert one.image.name == "a" and (one.labels == _discs()).all()
    coloured = np.stack([_discs()] * 3, -1)
    tifffile.imwrite(tmp_path / "labels/b.tif", coloured, photometric="rgb")
    with pytest.raises(CorrectionError, match="coloured"):
        read_corrected(tmp_path / "images", tmp_path / "labels")
