from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from napari_cvsuite.jobs import Cancelled, Context, Progress
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.catalog import Catalogue, ModelCard
from napari_cvsuite.models.device import DeviceError
from napari_cvsuite.models.weights import WeightsError, import_file
from napari_cvsuite.segmentation.data import (
    IGNORE,
    CropDataset,
    find_pairs,
    group_weights,
    load_mask,
)
from napari_cvsuite.segmentation.options import TrainOptions
from napari_cvsuite.segmentation.train import TrainInputs, run
from napari_cvsuite.training.loop import RunFolderError
from napari_cvsuite.training.publish import publish


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(5):
        cy, cx = rng.integers(20, 44, 2)
        mask = (y - cy) ** 2 + (x - cx) ** 2 < 144
        image = np.where(mask, 200, 40) + rng.normal(0, 10, mask.shape)
        Picture.fromarray(np.clip(image, 0, 255).astype("u1")).save(
            tmp_path / f"images/{number}.png"
        )
        Picture.fromarray(mask.astype("u1") * 255).save(tmp_path / f"masks/{number}.png")
    return tmp_path


def _options(**changes: object) -> TrainOptions:
    values = {"width": 4, "size": 64, "batch": 2, "epochs": 2, "validate_every": 1, "lr": 1e-3}
    return TrainOptions(**{**values, **changes})  # type: ignore[arg-type]


def _inputs(data: Path, out: str) -> TrainInputs:
    return TrainInputs(data / "images", data / "masks", data / out, validation=("4",))


def test_killed_run_resumes_to_the_same_weights(data: Path) -> None:
    options = _options(epochs=3)
    run(_inputs(data, "whole"), options, Context())

    context = Context()

    def stop_in_the_second_epoch(progress: Progress) -> None:
        if progress.message.startswith("epoch 2"):
            context.token.cancel()

    context.on_progress = stop_in_the_second_epoch
    with pytest.raises(Cancelled):
        run(_inputs(data, "parts"), options, context)
    run(_inputs(data, "parts"), options, Context())
    whole = torch.load(data / "whole/last.pt", weights_only=True)
    parts = torch.load(data / "parts/last.pt", weights_only=True)
    assert whole["epoch"] == parts["epoch"] == 3
    for key, value in whole["model"].items():
        assert torch.equal(value, parts["model"][key]), key


def test_training_writes_log_and_best_weights(data: Path) -> None:
    result = run(_inputs(data, "run"), _options(), Context())
    assert (result.trained_on, result.validated_on) == (4, 1)
    lines = (data / "run/log.csv").read_text().splitlines()
    assert lines[0].split(",")[:3] == ["epoch", "lr", "loss"] and len(lines) == 3
    state = torch.load(data / "run/best.pt", weights_only=True)
    assert state["mask_decoder.mask_tokens.weight"].shape == (2, 64)


def test_pairs_and_their_errors(data: Path) -> None:
    (data / "images/lonely.png").touch()
    assert [p.name for p in find_pairs(data / "images", data / "masks")] == list("01234")
    with pytest.raises(ValueError, match="not a folder"):
        find_pairs(data / "none", data / "masks")
    with pytest.raises(ValueError, match="lonely"):
        find_pairs(data / "images", data / "masks", ["lonely"])


def test_rare_groups_get_more_turns(data: Path) -> None:
    table = data / "index.csv"
    table.write_text(
        "id,kind\n" + "".join(f"{i},{'rare' if i == 0 else 'usual'}\n" for i in range(5))
    )
    weights = group_weights(find_pairs(data / "images", data / "masks"), table, "kind")
    # One rare and four usual images: 1 against 1 / sqrt(4) each.
    assert weights == pytest.approx(np.array([2, 1, 1, 1, 1]) / 6)
    with pytest.raises(ValueError, match="no column"):
        group_weights(find_pairs(data / "images", data / "masks"), table, "nothing")


def test_masks_of_several_classes_and_void(tmp_path: Path) -> None:
    Picture.fromarray(np.array([[0, 1], [2, 9]], "u1")).save(tmp_path / "m.png")
    assert load_mask(tmp_path / "m.png", 3, ignore=9).tolist() == [[0, 1], [2, IGNORE]]
    with pytest.raises(ValueError, match="raise the number of classes"):
        load_mask(tmp_path / "m.png", 3)


def test_crops_follow_the_working_scale() -> None:
    # A disc of radius 20 covers 400 pi pixels, four times as many at twice the scale.
    y, x = np.ogrid[:64, :64]
    disc = ((y - 31.5) ** 2 + (x - 31.5) ** 2 <= 20**2).astype(np.int64)
    image = np.repeat(disc[..., None].astype(np.float32), 3, axis=2)
    for scale in (0.5, 1.0, 2.0):
        size = int(64 * scale)
        dataset = CropDataset([image], [disc], size, scale_range=1.0, scale=scale)
        _, mask = dataset.crop(0, 0, 0)
        assert mask.shape == (size, size)
        # Rotation and shear keep the area.
        assert mask.sum() == pytest.approx(400 * np.pi * scale**2, rel=0.05)


def test_training_goes_on_from_a_model_and_without_validation(data: Path, tmp_path: Path) -> None:
    folders = {"images": data / "images", "masks": data / "masks"}
    options = TrainOptions(width=4, size=64, batch=2, epochs=1)
    run(TrainInputs(**folders, out=tmp_path / "a", validation=("none",)), options, Context())
    for path in (data / "masks").iterdir():
        indices = np.asarray(Picture.open(path)) // 255
        Picture.fromarray(indices).save(path)
    start = tmp_path / "a" / "best.pt"
    three = replace(options, start=str(start), classes=3)
    result = run(TrainInputs(**folders, out=tmp_path / "b"), three, Context())
    assert result.validated_on > 0
    wider = replace(options, start=str(start), width=8, lr=1e-7)
    widened = run(TrainInputs(**folders, out=tmp_path / "c"), wider, Context())
    narrow = run(TrainInputs(**folders, out=tmp_path / "d"), replace(wider, width=4), Context())
    assert widened.best_score == pytest.approx(narrow.best_score, abs=1e-3)
    again = replace(three, start=str(tmp_path / "c/best.pt"))
    with pytest.raises(WeightsError, match="choose its width"):
        run(TrainInputs(**folders, out=tmp_path / "e"), again, Context())


def test_a_run_draws_its_curve_and_can_be_imported(data: Path, home: Path) -> None:
    options = _options(scale=2.0, size=64, class_names="background, disc")
    result = run(_inputs(data, "my run"), options, Context())
    folder = data / "my run"
    with Picture.open(folder / "curve.png") as curve:
        assert curve.format == "PNG" and curve.size == (768, 480)
    assert not list(folder.glob("*.partial"))
    assert result.model == folder / "model.safetensors"
    card = ModelCard.from_json((folder / "model.json").read_text())
    assert card.name == "my-run" and card.classes == ("background", "disc")
    # A crop shows 32 pixels of the image, less than a tile needs beside its overlap of 2 x 32.
    assert (card.input.tile, card.input.scale) == (96, 2.0)
    assert card.metrics["val_dice"] == pytest.approx(result.best_score)
    assert card.training["size"] == 64 and card.training["seed"] == 0
    assert "images: 4 images for training, 1" in card.data
    assert str(data) not in (folder / "model.json").read_text()
    again = _options(epochs=1, start=str(folder / "best.pt"))
    run(_inputs(data, "again"), again, Context())
    assert str(data) not in (data / "again/model.json").read_text()
    assert import_file(folder) == card == Catalogue().get("my-run")


def test_other_weights_of_a_run_keep_its_scale(data: Path, tmp_path: Path, home: Path) -> None:
    run(_inputs(data, "run"), _options(scale=2.0, tile=160, epochs=1), Context())
    made = publish(data / "run/best.pt", tmp_path / "p", "pub", facts={"license": "MIT"})
    card = ModelCard.from_json(made.read_text())
    assert (card.input.tile, card.input.scale, card.license) == (160, 2.0, "MIT")
    assert import_file(data / "run/best.pt", name="other").input == card.input
    given = ModelCard.from_json(
        publish(data / "run/best.pt", tmp_path / "p", "given", tile=128, scale=0.5).read_text()
    )
    assert (given.input.tile, given.input.scale) == (128, 0.5)


def test_a_run_goes_on_with_another_number_of_threads_and_says_so(data: Path) -> None:
    assert run(_inputs(data, "run"), _options(epochs=1), Context()).resumed == 0
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        result = run(_inputs(data, "run"), _options(epochs=2), Context())
    finally:
        torch.set_num_threads(before)
    assert result.resumed == 1
    lines = (data / "run/log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "1", "2"]
    # The model is written for a run that lost it, too.
    (data / "run/model.safetensors").unlink()
    assert run(_inputs(data, "run"), _options(epochs=2), Context()).resumed == 2
    card = ModelCard.from_json((data / "run/model.json").read_text())
    assert card.metrics["val_dice"] == pytest.approx(result.best_score)
    assert (data / "run/model.safetensors").stat().st_size == card.weights.size


def test_a_folder_with_another_or_a_damaged_run_is_refused(data: Path) -> None:
    run(_inputs(data, "run"), _options(epochs=1), Context())
    with pytest.raises(RunFolderError, match="choose another folder"):
        run(_inputs(data, "run"), _options(epochs=2, width=8), Context())
    (data / "run/last.pt").write_bytes(b"cut")
    with pytest.raises(RunFolderError, match="delete it"):
        run(_inputs(data, "run"), _options(epochs=2), Context())


@pytest.mark.parametrize("names", ["one", "a,a", "a,b,c", "a,"])
def test_class_names_must_fit_the_classes(names: str) -> None:
    with pytest.raises(OptionError, match="background,nucleus"):
        TrainOptions(class_names=names)
    assert TrainOptions(class_names=" background, nucleus ").classes == 2


def test_several_devices_need_gpus_and_the_command_line(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeviceError, match="devices=1"):
        run(_inputs(data, "run"), _options(devices=2), Context("cpu"))
    monkeypatch.setattr("napari_cvsuite.segmentation.train.choose_device", lambda name: "cuda:0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match="fewer devices"):
        run(_inputs(data, "run"), _options(devices=2), Context("cuda:0"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DeviceError, match="command line"):
        run(_inputs(data, "run"), _options(devices=2), Context("cuda:0"))
    assert not (data / "run").exists()


def test_nothing_to_find_and_nothing_found_is_no_error(data: Path) -> None:
    Picture.fromarray(np.zeros((64, 64), "u1")).save(data / "masks/4.png")
    result = run(_inputs(data, "run"), _options(epochs=1), Context())
    assert 0.0 <= result.best_score <= 1.0


@pytest.mark.parametrize(("option", "value"), [("width", 6), ("tile", 64)])
def test_sizes_that_no_network_has_are_refused_before_the_run(option: str, value: int) -> None:
    with pytest.raises(OptionError, match=f"{option} must be"):
        _options(**{option: value})
