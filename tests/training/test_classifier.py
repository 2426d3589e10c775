"""Training of classifiers: usable models, resuming, adversarial examples within their ball."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from napari_cvsuite.jobs import Cancelled, CancelToken, Context
from napari_cvsuite.jobs.request import Request
from napari_cvsuite.models.catalog import CardError, Catalogue
from napari_cvsuite.models.cnn import Classifier, build
from napari_cvsuite.models.weights import WeightsError, import_file
from napari_cvsuite.training.accuracy import evaluate
from napari_cvsuite.training.accuracy_options import AccuracyOptions
from napari_cvsuite.training.classifier import TrainInputs, mislead, run
from napari_cvsuite.training.classifier_options import ClassifierOptions

SMALL = {"arch": "alexnet-small", "size": 16, "epochs": 2, "batch": 8, "held_out": 0.25}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes that brightness alone tells apart."""
    rng = np.random.default_rng(0)
    for name, low in (("bright", 150), ("dark", 0)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(low, low + 100, (20, 24, 3), np.uint8)
            Picture.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    return tmp_path / "data"


@pytest.mark.parametrize("adversarial", ["none", "l2", "linf"])
def test_training_leaves_a_model_that_can_be_measured(
    folder: Path, tmp_path: Path, adversarial: str
) -> None:
    options = ClassifierOptions(**SMALL, adversarial=adversarial, eps=0.05)  # type: ignore[arg-type]
    result = run(TrainInputs(folder, tmp_path / "run"), options, Context())
    assert (result.trained_on, result.validated_on, result.resumed) == (18, 6, 0)
    assert 0 <= result.best_score <= 1 and result.model is not None
    card = import_file(result.model)
    assert card.classes == ("bright", "dark") and card.task == "classification"
    assert card.input.tile == 16 and card.options["network"] == "alexnet-small"
    assert card.training["adversarial"] == adversarial
    assert ("eps" in card.training) == (adversarial != "none")
    found = evaluate(
        folder, [card.name], AccuracyOptions(attack="linf", eps=0.05, steps=2), Context()
    )[card.name]
    assert found.clean.n == 24 and found.attacked is not None and found.area is not None
    assert found.attacked.value <= found.clean.value


VIT = {**SMALL, "arch": "vit-deep", "layers": 3, "stem": False}


def _log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as handle:
        return list(csv.DictReader(handle))


def test_a_transformer_is_trained_with_all_that_can_be_distilled(
    folder: Path, tmp_path: Path
) -> None:
    options = ClassifierOptions(**VIT)  # type: ignore[arg-type]
    teacher = run(TrainInputs(folder, tmp_path / "teacher"), options, Context()).model
    options = ClassifierOptions(
        **{**VIT, "stem": True},  # type: ignore[arg-type]
        teacher=str(teacher),
        distill="both",
        ensemble_scale="channel",
        adversarial="linf",
        eps=0.02,
        precision="bfloat16",
    )
    result = run(TrainInputs(folder, tmp_path / "run"), options, Context())
    assert result.model is not None
    row = _log(tmp_path / "run")[-1]
    for name in ("loss_label", "loss_teacher", "loss_logit", "loss_hidden"):
        assert float(row[name]) >= 0
    card = import_file(result.model)
    assert (card.architecture, card.task, card.classes) == (
        "vit",
        "classification",
        ("bright", "dark"),
    )
    assert card.options["ensemble_scale"] == "channel" and card.options["resize"] == 16
    assert card.training["teacher"] == "model.safetensors" and card.training["distill"] == "both"
    found = evaluate(folder, [card.name], AccuracyOptions(), Context())[card.name]
    assert found.clean.n == 24
    part = AccuracyOptions(held_out=options.held_out, seed=options.seed)
    held = evaluate(folder, [card.name], part, Context())[card.name]
    assert held.clean.n == result.validated_on < 24
    assert held.recall == pytest.approx(card.metrics["val_recall"])


def test_self_distillation_without_weight_is_plain_training(folder: Path, tmp_path: Path) -> None:
    plain = ClassifierOptions(**VIT)  # type: ignore[arg-type]
    off = ClassifierOptions(**VIT, distill="both", logit_weight=0.0, hidden_weight=0.0)  # type: ignore[arg-type]
    on = ClassifierOptions(**VIT, distill="both")  # type: ignore[arg-type]
    losses = []
    for number, options in enumerate((plain, off, on)):
        run(TrainInputs(folder, tmp_path / str(number)), options, Context())
        losses.append([row["loss"] for row in _log(tmp_path / str(number))])
    assert losses[0] == losses[1] != losses[2]


def test_a_class_that_shows_is_learned(folder: Path, tmp_path: Path) -> None:
    options = ClassifierOptions(**{**SMALL, "epochs": 6}, schedule="constant", ema=0.0)  # type: ignore[arg-type]
    assert run(TrainInputs(folder, tmp_path / "run"), options, Context()).best_score == 1.0


def test_a_stopped_run_ends_as_if_it_had_not_been(folder: Path, tmp_path: Path) -> None:
    options = ClassifierOptions(**SMALL, adversarial="l2")  # type: ignore[arg-type]
    token = CancelToken()

    def stop(progress: object) -> None:
        if (tmp_path / "a" / "last.pt").exists():
            token.cancel()

    with pytest.raises(Cancelled):
        run(TrainInputs(folder, tmp_path / "a"), options, Context(token=token, on_progress=stop))
    assert run(TrainInputs(folder, tmp_path / "a"), options, Context()).resumed == 1
    run(TrainInputs(folder, tmp_path / "b"), options, Context())
    losses = []
    for name in ("a", "b"):
        with (tmp_path / name / "log.csv").open() as handle:
            losses.append([row["loss"] for row in csv.DictReader(handle)])
    assert losses[0] == losses[1]


def test_a_table_can_name_the_classes(folder: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    lines = ["file,kind"]
    for path in sorted(folder.glob("*/*.png")):
        name = f"{path.parent.name}{path.name}"
        path.rename(flat / name)
        lines.append(f"{name},{path.parent.name}")
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(lines))
    inputs = TrainInputs(flat, tmp_path / "run", table, "kind")
    assert TrainInputs.from_references(inputs.references()) == inputs
    options = ClassifierOptions(**SMALL, balance=True, turn="all", colour=0.5)  # type: ignore[arg-type]
    assert run(inputs, options, Context()).trained_on == 18
    with pytest.raises(ValueError, match="no column 'label'"):
        run(TrainInputs(flat, tmp_path / "other", table), options, Context())


def test_what_cannot_be_trained_is_said(folder: Path, tmp_path: Path) -> None:
    options = ClassifierOptions(**SMALL)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fewer than two classes"):
        run(TrainInputs(folder / "dark", tmp_path / "run"), options, Context())
    few = ClassifierOptions(**{**SMALL, "held_out": 0.01})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'bright' has 12 images; that is too few"):
        run(TrainInputs(folder, tmp_path / "run"), few, Context())
    start = tmp_path / "other.pt"
    torch.save(build("resnet-small", 2).state_dict(), start)
    other = ClassifierOptions(**SMALL, start=str(start))  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match="another network than alexnet-small with 2 classes"):
        run(TrainInputs(folder, tmp_path / "run"), other, Context())


def test_models_of_other_tasks_and_classes_are_not_measured(folder: Path, tiny_model: str) -> None:
    with pytest.raises(CardError, match="not for classification"):
        evaluate(folder, [tiny_model], AccuracyOptions(), Context())


def test_a_label_that_is_no_class_of_the_model_is_named(folder: Path, tmp_path: Path) -> None:
    result = run(TrainInputs(folder, tmp_path / "run"), ClassifierOptions(**SMALL), Context())  # type: ignore[arg-type]
    assert result.model is not None
    name = import_file(result.model).name
    (folder / "dark").rename(folder / "dim")
    with pytest.raises(ValueError, match="labelled 'dim', but the classes are bright, dark"):
        evaluate(folder, [name], AccuracyOptions(), Context())
    assert name in Catalogue()


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_misleading_images_stay_in_ball_and_box_and_raise_the_loss(norm: str, steps: int) -> None:
    torch.manual_seed(0)
    network = Classifier(build("alexnet-small", 3)).eval()
    x, labels = torch.rand(8, 3, 16, 16), torch.arange(8) % 3
    eps = 0.5 if norm == "l2" else 0.03
    options = ClassifierOptions(arch="alexnet-small", adversarial=norm, eps=eps, steps=steps)
    moved = mislead(network, x, labels, options, seed=1)
    away = (moved - x).flatten(1)
    size = away.norm(dim=1) if norm == "l2" else away.abs().amax(dim=1)
    assert (size <= eps * (1 + 1e-5)).all() and moved.min() >= 0 and moved.max() <= 1
    loss = torch.nn.functional.cross_entropy
    assert loss(network(moved), labels) > loss(network(x), labels)
    assert torch.equal(mislead(network, x, labels, options, seed=1), moved)
    assert not torch.equal(mislead(network, x, labels, options, seed=2), moved)


def test_a_request_for_a_training_keeps_its_form(folder: Path, tmp_path: Path) -> None:
    inputs = TrainInputs(folder, tmp_path / "run")
    request = Request("training.classifier", ClassifierOptions(), inputs.references())
    assert Request.from_yaml(request.to_yaml()) == request
