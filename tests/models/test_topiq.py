"""What the network of TOPIQ refuses, and how it behaves in training; numbers are in the kit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_cvsuite.models.swin import SwinBase
from napari_cvsuite.models.topiq import CFANet, TopiqConfig, build, pooled_size

SMALL: dict[str, Any] = {"semantic_model_name": "resnet18", "inter_dim": 32, "num_heads": 2}


@pytest.fixture(scope="module")
def full_reference() -> CFANet:
    torch.manual_seed(0)
    return build({**SMALL, "use_ref": True})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"semantic_model_name": "vgg"}, "resnet50"),
        ({"activation": "elu"}, "gelu"),
        ({"inter_dim": 30, "num_heads": 4}, "multiple of num_heads"),
        ({"num_class": 0}, "num_class must be 1 or more"),
        ({"depth": 3}, "unknown options of TOPIQ: depth"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build(options)


def test_options_survive_a_round_trip() -> None:
    config = TopiqConfig.from_dict({**SMALL, "num_class": 10, "test_img_size": 384})
    assert TopiqConfig.from_dict(config.to_dict()) == config


def test_a_reference_must_be_there_and_of_the_same_size(full_reference: CFANet) -> None:
    x = torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match="needs a reference"):
        full_reference(x)
    with pytest.raises(ValueError, match="resize one of them"):
        full_reference(x, torch.rand(1, 3, 64, 32))
    with pytest.raises(ValueError, match="B x 3 x H x W"):
        full_reference(torch.rand(1, 4, 64, 64), torch.rand(1, 4, 64, 64))


@pytest.mark.parametrize("side", [1, 2, 31, 33])
def test_tiny_images_have_a_score(full_reference: CFANet, side: int) -> None:
    x = torch.rand(2, 1, side, side)
    with torch.inference_mode():
        score = full_reference(x, 1 - x)
    assert score.shape == (2, 1) and torch.isfinite(score).all()


@pytest.mark.parametrize("fixed", [True, False])
def test_norms_are_fixed_only_where_asked_for(fixed: bool) -> None:
    torch.manual_seed(0)
    network = build({**SMALL, "use_ref": False, "fix_norms": fixed}).train()
    norm = network.semantic_model.bn1
    before = norm.running_mean.clone()
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    assert torch.equal(norm.running_mean, before) == fixed
    assert (norm.weight.grad is None) == fixed


@pytest.mark.parametrize(
    ("shape", "deepest", "expected"),
    [((96, 128), (12, 16), (12, 16)), ((12, 40), (12, 16), (12, 40)), ((1, 16), (1, 8), (1, 16))],
)
def test_maps_are_pooled_only_where_both_sides_are_larger(
    shape: tuple[int, int], deepest: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert pooled_size(shape, deepest) == expected


def test_swin_takes_one_size() -> None:
    with torch.device("meta"):
        network = SwinBase()
    with pytest.raises(ValueError, match="384 x 384"):
        network(torch.empty(1, 3, 224, 224, device="meta"))
