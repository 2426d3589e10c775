"""Classifiers by name, their checkpoints in every layout, and the models made of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from kits import load_rule
from safetensors.torch import save_file

from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.models.cnn import (
    NETWORKS,
    Classifier,
    UnknownNetworkError,
    build,
    default_layers,
)
from napari_cvsuite.models.cnn_weights import build_cnn, infer_network
from napari_cvsuite.models.googlenet import GoogLeNet
from napari_cvsuite.models.store import build_model
from napari_cvsuite.models.weights import WeightsError, fetch, import_file, read_state_dict

rule = load_rule("robust_cnn")
SMALL = [name for name in NETWORKS if name.endswith("-small")]


@pytest.mark.parametrize("name", ["alexnet", "googlenet", "resnet50"])
def test_keys_and_shapes_are_those_of_torchvision(name: str) -> None:
    with torch.device("meta"):
        state = build(name, 1000).state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == rule.net_shapes(name)


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in SMALL])
def test_the_network_is_known_by_its_keys(name: str) -> None:
    with torch.device("meta"):
        assert infer_network(build(name, 7).state_dict()) == (name, 7)


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_see_from_8_to_128_pixels(name: str) -> None:
    network = Classifier(build(name, 3)).eval()
    assert infer_network(network.model.state_dict()) == (name, 3)
    for side in (8, 32, 128):
        assert network(torch.rand(2, 3, side, side)).shape == (2, 3)


def test_normalisation_happens_inside() -> None:
    plain = build("alexnet-small", 4)
    x = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    made = Classifier(plain, mean.tolist(), std.tolist(), clamp=True).eval()
    outside = plain((x - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    assert torch.equal(made(x), outside)
    assert torch.equal(made(x + 2 * (x > 0.5)), made((x + 2 * (x > 0.5)).clamp(0, 1)))


def test_unknown_networks_are_named() -> None:
    with pytest.raises(UnknownNetworkError, match=r"did you mean .*resnet50"):
        build("resnet5O", 10)
    with pytest.raises(ValueError, match="one class or more"):
        build("alexnet", 0)


def test_any_classifier_of_torchvision_can_be_built() -> None:
    assert build("squeezenet1_1", 5)(torch.rand(1, 3, 64, 64)).shape == (1, 5)


@pytest.mark.parametrize("name", [*SMALL, "alexnet", "googlenet", "resnet50"])
def test_layers_to_look_at_exist_and_come_after_their_relu(name: str) -> None:
    network = Classifier(build(name, 5)).eval()
    modules, seen = dict(network.named_modules()), []
    layers = default_layers(network)
    for layer in layers:
        modules[layer].register_forward_hook(lambda module, given, out: seen.append(out))
    with torch.inference_mode():
        network(torch.rand(1, 3, 64, 64))
    assert len(seen) == len(layers) >= 5
    assert all(one.ndim == 4 and float(one.min()) >= 0 for one in seen)


def test_own_files_carry_their_normalisation() -> None:
    torch.manual_seed(0)
    made = Classifier(build("resnet-small", 4), (0.3, 0.4, 0.5), (0.1, 0.2, 0.3)).eval()
    again = build_cnn(made.state_dict(), {})
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(again(x), made(x))


def test_googlenet_knows_whether_its_input_is_transformed() -> None:
    plain = build("googlenet", 3).state_dict()
    robust = {f"module.model.{k}": v for k, v in plain.items()}
    robust["module.normalizer.new_mean"] = torch.tensor([0.5, 0.5, 0.5]).view(3, 1, 1)
    robust["module.normalizer.new_std"] = torch.tensor([0.2, 0.2, 0.2]).view(3, 1, 1)
    of_torchvision, of_robustness = build_cnn(plain, {}), build_cnn(robust, {})
    assert isinstance(of_torchvision.model, GoogLeNet) and of_torchvision.model.transform_input
    assert not of_torchvision.normalize.clamp
    assert isinstance(of_robustness.model, GoogLeNet) and not of_robustness.model.transform_input
    assert of_robustness.normalize.clamp
    assert of_robustness.normalize.std.tolist() == pytest.approx([0.2] * 3)


def test_wrong_options_and_weights_are_refused() -> None:
    state = build("alexnet-small", 3).state_dict()
    with pytest.raises(WeightsError, match="no options depth"):
        build_cnn(state, {"depth": 3})
    with pytest.raises(WeightsError, match=r"network='resnet50'.*'alexnet-small'"):
        build_cnn(state, {"network": "resnet50"})
    with pytest.raises(WeightsError, match=r"missing features\.3\.bias"):
        build_cnn({k: v for k, v in state.items() if k != "features.3.bias"}, {})
    with pytest.raises(WeightsError, match="known by its keys; its first are a"):
        build_cnn({"a": torch.zeros(3)}, {})


def test_a_robust_file_is_imported_and_lent(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = Classifier(build("resnet-small", 3)).eval()
    inner = {f"module.model.{k}": v for k, v in made.model.state_dict().items()}
    copies = {f"module.attacker.model.{k}": v for k, v in made.model.state_dict().items()}
    norm = {
        "module.normalizer.new_mean": made.normalize.mean.view(3, 1, 1),
        "module.normalizer.new_std": made.normalize.std.view(3, 1, 1),
    }
    path = tmp_path / "robust.pt"
    torch.save({"model": {**norm, **inner, **copies}, "epoch": 90, "amp": None}, path)
    card = import_file(path)
    assert (card.task, card.architecture) == ("classification", "cnn")
    assert card.options["network"] == "resnet-small" and card.options["clamp"] is True
    x = torch.rand(1, 3, 32, 32)
    assert torch.allclose(build_model(Catalogue().get(card.name), "plain")(x), made(x))


def test_a_known_file_without_a_published_hash_is_imported_not_fetched(tmp_path: Path) -> None:
    name = "resnet50_l2_eps3"
    card = Catalogue().get(name)
    assert card.training == {"adversarial": "l2", "eps": 3.0} and len(card.classes) == 1000
    with pytest.raises(WeightsError, match=r"No hash of .*ckpt.*huggingface.*models import"):
        fetch(card)
    inner = {f"module.model.{k}": v for k, v in build("resnet50", 1000).state_dict().items()}
    norm = {
        "module.normalizer.new_mean": torch.full((3, 1, 1), 0.5),
        "module.normalizer.new_std": torch.full((3, 1, 1), 0.25),
    }
    path = tmp_path / f"{name}.ckpt"
    torch.save({"model": {**norm, **inner}, "epoch": 1}, path)
    imported = import_file(path)
    assert imported.name == name and len(imported.weights.sha256) == 64
    known = Catalogue().get(name)
    assert known == imported and known.training == card.training
    network = build_model(known, "plain")
    assert network.normalize.mean.tolist() == [0.5, 0.5, 0.5]  # type: ignore[union-attr]
    # Another file of that name is not taken for it.
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(WeightsError, match=f"different model called '{name}'"):
        import_file(path)


def test_a_card_with_other_classes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "three.safetensors"
    save_file(build("alexnet-small", 3).state_dict(), path)
    card = import_file(path, {"classes": ["benign", "malignant"]})
    with pytest.raises(WeightsError, match="names 2 classes, but its weights have 3"):
        build_model(card, "plain")


def test_pickles_that_run_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "whole.pt"
    torch.save({"state_dict": build("alexnet-small", 2)}, path)
    with pytest.raises(WeightsError, match=r"wants to run .*SmallAlexNet.*safetensors"):
        read_state_dict(path)
