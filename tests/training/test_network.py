"""Networks and losses of the training of classifiers, from their options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.catalog import UnknownModelError
from napari_cvsuite.models.cnn import Classifier
from napari_cvsuite.models.vit import VisionTransformer, build
from napari_cvsuite.models.weights import WeightsError, import_file
from napari_cvsuite.training.classifier_options import ClassifierOptions
from napari_cvsuite.training.distil import Learner, Objective
from napari_cvsuite.training.given import given_classifier
from napari_cvsuite.training.labelled import Labelled
from napari_cvsuite.training.network import make_loss, make_network, undecayed


def options(**changes: Any) -> ClassifierOptions:
    """Return options of a small transformer."""
    return ClassifierOptions(
        **{"arch": "vit-deep", "size": 16, "layers": 2, "stem": False, **changes}
    )


@pytest.fixture
def data() -> Labelled:
    """Four images of two classes."""
    images = np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3), np.uint8)
    return Labelled(images, np.array([0, 1, 0, 1]), ("a", "b"), ("1", "2", "3", "4"))


def test_a_transformer_is_made_as_the_options_say(data: Labelled) -> None:
    made = make_network(options(patch=8, ensemble_scale="channel", placement="stream"), data)
    assert type(made) is Classifier and isinstance(made.model, VisionTransformer)
    config = made.model.config
    assert (config.image_size, config.patch_size, config.num_classes) == (16, 8, 2)
    assert (config.num_layers, config.ensemble_scale, config.placement) == (2, "channel", "stream")
    assert config.stem == ()
    stated = make_network(options(stem=True), data).model
    assert isinstance(stated, VisionTransformer)
    assert stated.config.stem == ((32, 2), (64, 2), (128, 1))


@pytest.mark.parametrize(
    ("patch", "strides"),
    [
        (1, [1, 1, 1]),
        (2, [2, 1, 1]),
        (4, [2, 2, 1]),
        (6, [3, 2, 1]),
        (8, [2, 2, 2]),
        (16, [2, 2, 2, 2]),
    ],
)
def test_strides_of_the_stem_make_the_patch(patch: int, strides: list[int]) -> None:
    layers = options(size=48, patch=patch, stem=True).stem_layers()
    assert [stride for _, stride in layers] == strides
    assert [channels for channels, _ in layers] == [32, 64, 128, 128][: len(strides)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 18}, "size 18 must be a multiple of patch 4"),
        ({"size": 30, "patch": 5, "stem": True}, "patch 5 cannot be made by a stem"),
        ({"arch": "alexnet-small", "layers": 0, "distill": "both"}, "no paths to weigh or distil"),
        ({"arch": "resnet18", "layers": 0, "ensemble_scale": "scalar"}, "no paths to weigh"),
        ({"arch": "resnet18"}, "fixed number of layers"),
        ({"layers": 1, "distill": "logit"}, "no shorter paths"),
    ],
)
def test_options_that_do_not_go_together_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        options(**changes)


@pytest.mark.parametrize(
    ("distill", "weights"),
    [("logit", (0.5, 0.0)), ("hidden", (0.0, 0.25)), ("both", (0.5, 0.25))],
)
def test_what_is_distilled_has_weight(
    distill: str, weights: tuple[float, float], data: Labelled
) -> None:
    chosen = options(distill=distill, logit_weight=0.5, hidden_weight=0.25, temperature=4.0)
    made, loss = make_network(chosen, data), make_loss(chosen, data, "cpu")
    assert isinstance(made, Learner) and made.by_depth and isinstance(loss, Objective)
    assert (loss.logit_weight, loss.hidden_weight) == weights
    assert loss.temperature == 4.0 and loss.teacher is None


def _saved(folder: Path, classes: int = 2, **changes: Any) -> tuple[Path, Classifier]:
    torch.manual_seed(7)
    config = {
        "image_size": 16,
        "patch_size": 4,
        "hidden_dim": 48,
        "num_layers": 2,
        "num_heads": 3,
        "mlp_dim": 96,
        "num_classes": classes,
        **changes,
    }
    made = Classifier(build(config), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)).eval()
    save_file(made.state_dict(), folder / "given.safetensors")
    card = import_file(
        folder / "given.safetensors",
        {"classes": ["a", "b", "c"][:classes], "options": made.model.config.to_dict()},  # type: ignore[union-attr, operator]
    )
    (folder / "given.json").write_text(card.to_json())
    return folder / "given.safetensors", made


@pytest.mark.parametrize("by_name", [False, True])
def test_a_training_starts_from_a_transformer(
    by_name: bool, data: Labelled, tmp_path: Path
) -> None:
    path, given = _saved(tmp_path)
    start = "given" if by_name else str(path)
    made = make_network(options(start=start), data)
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(made.eval()(x), given(x))
    # Weights of paths begin at one, so that nothing changes.
    weighed = make_network(options(start=start, ensemble_scale="scalar"), data).eval()
    assert torch.allclose(weighed(x), given(x), atol=1e-6)
    with pytest.raises(WeightsError, match="another network than vit-deep with 2 classes"):
        make_network(options(start=start, patch=8), data)


def test_a_head_for_other_classes_begins_anew(data: Labelled, tmp_path: Path) -> None:
    path, given = _saved(tmp_path, classes=3)
    made = make_network(options(start=str(path)), data)
    kept = {k: v for k, v in made.state_dict().items() if not k.startswith("model.heads.head.")}
    assert len(kept) == len(given.state_dict()) - 2
    assert all(torch.equal(v, given.state_dict()[k]) for k, v in kept.items())
    assert made.state_dict()["model.heads.head.weight"].shape == (2, 48)


def test_patches_of_a_stem_may_have_more_pixels(data: Labelled, tmp_path: Path) -> None:
    stem = [[32, 2], [64, 2], [128, 1]]
    path, given = _saved(tmp_path, image_size=8, patch_size=4, stem=stem)
    made = make_network(options(start=str(path), patch=8, stem=True), data)
    assert torch.equal(
        made.state_dict()["model.conv_proj.conv_last.weight"],
        given.state_dict()["model.conv_proj.conv_last.weight"],
    )
    assert made.eval()(torch.rand(1, 3, 16, 16)).shape == (1, 2)


def test_a_start_with_other_heads_is_refused(data: Labelled, tmp_path: Path) -> None:
    path, _ = _saved(tmp_path, num_heads=4)
    with pytest.raises(WeightsError, match="another network"):
        make_network(options(start=str(path)), data)


def test_a_teacher_must_know_the_classes_and_the_size(data: Labelled, tmp_path: Path) -> None:
    path, given = _saved(tmp_path)
    loss = make_loss(options(teacher=str(path), teacher_weight=0.75), data, "cpu")
    assert isinstance(loss, Objective) and loss.teacher is not None and loss.teacher_weight == 0.75
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(loss.teacher(x), given(x))
    assert not any(parameter.requires_grad for parameter in loss.teacher.parameters())
    assert isinstance(make_network(options(teacher=str(path)), data), Learner)
    with pytest.raises(ValueError, match="sees images of 16 px; choose size 16"):
        make_loss(options(teacher=str(path), size=32), data, "cpu")
    other = Labelled(data.images, data.labels, ("b", "a"), data.names)
    with pytest.raises(ValueError, match="classes are a, b, but those of the images b, a"):
        make_loss(options(teacher=str(path)), other, "cpu")


def test_a_teacher_can_be_of_any_kind(tiny_classifier: str, data: Labelled) -> None:
    three = Labelled(data.images, data.labels, ("cat", "dog", "bird"), data.names)
    loss = make_loss(options(teacher=tiny_classifier), three, "cpu")
    assert isinstance(loss, Objective) and isinstance(loss.teacher, Classifier)


def test_only_classifiers_are_given(tiny_model: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is for semantic segmentation; choose a classifier"):
        given_classifier(tiny_model)
    with pytest.raises(UnknownModelError):
        given_classifier(str(tmp_path / "nothing.pt"))


def test_weight_decay_spares_what_it_would_harm(data: Labelled) -> None:
    made = make_network(options(stem=True, ensemble_scale="channel"), data)
    spared = undecayed(made)
    for name, value in made.named_parameters():
        matrix = name.endswith("weight") and value.ndim >= 2
        assert (name in spared) != matrix, name
    assert {"model.class_token", "model.encoder.pos_embedding"} <= spared
    assert "model.ensemble_scale.alpha" in spared
