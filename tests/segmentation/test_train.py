from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from napari_cvsuite.jobs import Cancelled, Context, Progress
from napari_cvsuite.models.weights import WeightsError
from napari_cvsuite.segmentation.data import (
    IGNORE,
    CropDataset,
    find_pairs,
    group_weights,
    load_mask,
)
from napari_cvsuite.segmentation.options import TrainOptions
from napari_cvsuite.segmentation.train import TrainInputs, run


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
    with pytest.raises(WeightsError, match="choose the width"):
        run(TrainInputs(**folders, out=tmp_path / "c"), replace(three, width=8), Context())
