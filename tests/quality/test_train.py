"""Training on distorted series: writes a usable model, resumes, and refuses what cannot be."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from torch import Tensor

from napari_cvsuite.images import Image, ImageError, find_images
from napari_cvsuite.jobs import Cancelled, CancelToken, Context
from napari_cvsuite.jobs.request import Request
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.models.weights import import_file
from napari_cvsuite.quality.options import ScoreOptions, TrainOptions
from napari_cvsuite.quality.score import run as score
from napari_cvsuite.quality.series import KINDS, LENGTH, Bank
from napari_cvsuite.quality.train import TrainInputs, _tensors, run, split

SMALL = {"series": 20, "size": 176, "width": 8, "heads": 2, "gate": 2, "batch": 4, "epochs": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from skimage.data import astronaut, camera

    made = tmp_path / "good"
    made.mkdir()
    Picture.fromarray(astronaut()[:200, :220]).save(made / "a.png")
    Picture.fromarray(camera()[:180, :200]).save(made / "b.png")
    return made


@pytest.fixture(autouse=True)
def _few_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_cvsuite.quality.train.PER_VALIDATION_IMAGE", 4)


@pytest.mark.parametrize("reference", [False, True])
def test_training_leaves_a_model_that_scores(folder: Path, tmp_path: Path, reference: bool) -> None:
    options = TrainOptions(**SMALL, reference=reference)  # type: ignore[arg-type]
    result = run(TrainInputs(folder, tmp_path / "run", ("b",)), options, Context())
    assert (result.trained_on, result.validated_on, result.resumed) == (1, 1, 0)
    assert np.isfinite(result.best_score) and result.model is not None
    name = import_file(result.model).name
    card = Catalogue().get(name)
    assert card.task == "quality" and "not on human opinion" in card.description
    assert card.metrics["val_temperature"] > 0 and card.classes[0] == "none"
    image = Image.from_array(np.random.default_rng(0).integers(0, 255, (64, 80), np.uint8))
    scored = score(image, ScoreOptions(model=name), Context(), image if reference else None)
    assert np.isfinite(scored.rows[0].score) and 0 < scored.rows[0].confidence <= 1


def test_steps_see_grain_over_what_spoils_the_light_alone() -> None:
    made = Bank(
        references=np.zeros((200, 8, 8, 3), np.uint8),
        crops=np.full((200, LENGTH, 8, 8, 3), 100, np.uint8),
        facts=np.zeros((200, LENGTH, 5), np.float32),
    )
    made.facts[:100, :, 1] = KINDS.index("defocus")
    made.facts[100:, :, 1] = KINDS.index("jpeg")

    def seen(**options: object) -> Tensor:
        chosen = TrainOptions(**SMALL, **options)  # type: ignore[arg-type]
        rng = np.random.default_rng(0)
        pixels, facts = _tensors(made, np.arange(200), chosen, rng)
        assert (facts == torch.from_numpy(made.facts).view(-1, 5)).all()
        return 255 * pixels[:, :3].reshape(200, LENGTH, -1)

    noise = seen(grain=4.0).std(dim=2)
    assert (noise[100:] == 0).all()
    grainy = (noise[:100] > 0.3).all(dim=1)
    # Half of them, give or take four standard deviations; all crops of a series.
    assert 30 <= grainy.sum() <= 70 and noise.max() < 4 * 1.3
    assert (noise[:100][~grainy] < 0.5).all()
    for without in ({"grain": 0.0}, {"reference": True}):
        assert (seen(**without) == 100).all()
    assert (made.crops == 100).all()


def test_a_stopped_run_ends_as_if_it_had_not_been(folder: Path, tmp_path: Path) -> None:
    options = TrainOptions(**SMALL)  # type: ignore[arg-type]
    token = CancelToken()

    def stop(progress: object) -> None:
        if progress.message.startswith("epoch 2"):  # type: ignore[attr-defined]
            token.cancel()

    inputs = TrainInputs(folder, tmp_path / "stopped", ("b",))
    with pytest.raises(Cancelled):
        run(inputs, options, Context(token=token, on_progress=stop))
    assert run(inputs, options, Context()).resumed == 1
    run(TrainInputs(folder, tmp_path / "whole", ("b",)), options, Context())
    one, other = (
        torch.load(tmp_path / name / "last.pt", weights_only=True)["model"]
        for name in ("stopped", "whole")
    )
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=0, atol=0)
    with (tmp_path / "stopped" / "log.csv").open() as handle:
        assert [row["epoch"] for row in csv.DictReader(handle)] == ["1", "2"]


def test_a_run_can_start_from_another(folder: Path, tmp_path: Path) -> None:
    options = {**SMALL, "epochs": 1}
    first = run(
        TrainInputs(folder, tmp_path / "one", ("none",)), TrainOptions(**options), Context()
    )  # type: ignore[arg-type]
    assert first.model is not None and first.validated_on == 0
    start = TrainOptions(**options, start=str(first.model), reference=True, lr=1e-7, ema=0.0)  # type: ignore[arg-type]
    run(TrainInputs(folder, tmp_path / "two", ("none",)), start, Context())
    key = "semantic_model.conv1.weight"
    one, two = (
        torch.load(tmp_path / name / "best.pt", weights_only=True)[key] for name in ("one", "two")
    )
    torch.testing.assert_close(one.half().float(), two, rtol=0, atol=1e-5)


def test_faults_of_the_data_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no image"):
        find_images(tmp_path)
    with pytest.raises(ValueError, match="no validation image 'z'"):
        split(find_images(folder), ("z",))
    with pytest.raises(ValueError, match="leave some to train on"):
        split(find_images(folder), ("a", "b"))
    Picture.fromarray(np.zeros((100, 300), np.uint8)).save(folder / "c.png")
    with pytest.raises(ImageError, match=r"c\.png is 300 x 100 pixels"):
        run(TrainInputs(folder, tmp_path / "r"), TrainOptions(**SMALL), Context())  # type: ignore[arg-type]


def test_a_request_survives_a_round_trip(tmp_path: Path) -> None:
    inputs = TrainInputs(tmp_path / "a", tmp_path / "b", ("x", "y"))
    request = Request("quality.train", TrainOptions(reference=True), inputs.references())
    again = Request.from_yaml(request.to_yaml())
    assert again == request and TrainInputs.from_references(again.inputs) == inputs
