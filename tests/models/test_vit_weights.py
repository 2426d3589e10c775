"""Checkpoints of vision transformers in every layout, and the models made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from napari_cvsuite.cli import app
from napari_cvsuite.models.catalog import Catalogue, ModelCard
from napari_cvsuite.models.cnn import Classifier
from napari_cvsuite.models.cnn import build as build_cnn
from napari_cvsuite.models.store import build_model
from napari_cvsuite.models.vit import VisionTransformer, ViTConfig, build
from napari_cvsuite.models.vit_weights import (
    build_vit,
    infer_config,
    looks_like_vit,
    to_timm,
    vit_fields,
)
from napari_cvsuite.models.weights import WeightsError, fetch, import_file

CONFIG: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 4,
    "hidden_dim": 24,
    "num_layers": 2,
    "num_heads": 3,
    "mlp_dim": 32,
    "num_classes": 5,
}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "average": {"pool": "avg_norm_after"},
    "no class token": {"pool": "avg_norm_before", "class_token": False},
    "layer scale": {"layer_scale": True, "qk_norm": True},
    "two heads": {"distilled": True},
    "registers": {"registers": 4, "embed_prefix": False},
    "tanh": {"pre_logits": 7},
    "stem": {"stem": [[8, 2], [16, 2]]},
    "weights": {"ensemble_scale": "channel", "placement": "stream", "eps": 1e-5},
}
UNSEEN = ("num_heads", "eps", "pool", "stem", "placement")
"""Fields that the weights do not show."""


def made(**changes: Any) -> VisionTransformer:
    """Return a network whose parameters are all random."""
    torch.manual_seed(0)
    model = build({**CONFIG, **changes})
    draw = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=draw)
    return model.requires_grad_(False)


def answers(made: Classifier) -> Tensor:
    """Return the logits of two images, whatever the normalisation of the network."""
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return made.model(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", KINDS)
def test_own_files_come_back_with_their_normalisation(kind: str) -> None:
    model = made(**KINDS[kind])
    state = Classifier(model, (0.3, 0.4, 0.5), (0.1, 0.2, 0.3)).state_dict()
    found = build_vit(state, {**model.config.to_dict(), "resize": 16})
    assert isinstance(found.model, VisionTransformer) and found.model.config == model.config
    assert found.normalize.mean.tolist() == pytest.approx([0.3, 0.4, 0.5])
    assert torch.equal(answers(found), answers(Classifier(model)))
    # The network owns its weights.
    assert all(
        value.data_ptr() != state[key].data_ptr() for key, value in found.state_dict().items()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_show_all_that_they_can(kind: str) -> None:
    config = made(**KINDS[kind]).config
    options = {name: getattr(config, name) for name in UNSEEN}
    assert infer_config(made(**KINDS[kind]).state_dict(), options) == config


def _containers() -> dict[str, Any]:
    state = made().state_dict()
    old = {
        k.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): v
        for k, v in state.items()
    }
    return {
        "torchvision": state,
        "old torchvision": old,
        "parallel": {f"module.{k}": v for k, v in state.items()},
        "parallel, in a container": {"state_dict": {f"module.{k}": v for k, v in state.items()}},
        "timm": to_timm(state),
        "DeiT": {"model": to_timm(state)},
    }


@pytest.mark.parametrize("layout", _containers())
def test_every_layout_becomes_the_same_network(layout: str) -> None:
    container = _containers()[layout]
    assert looks_like_vit(container)
    found = build_vit(container, {"num_heads": 3})
    assert torch.equal(answers(found), answers(Classifier(made())))
    assert found.normalize.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    stated = build_vit(container, {"num_heads": 3, "mean": [0.5] * 3, "std": [0.25] * 3})
    assert stated.normalize.std.tolist() == [0.25] * 3


@pytest.mark.parametrize(
    ("width", "heads"), [(192, 3), (384, 6), (768, 12), (1024, 16), (1152, 16), (1280, 16)]
)
def test_heads_are_those_of_published_networks(width: int, heads: int) -> None:
    with torch.device("meta"):
        model = VisionTransformer(ViTConfig(16, 4, width, 1, heads, 8, 2))
    assert infer_config(model.state_dict(), {}).num_heads == heads


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"heads.head.weight": None}, {}, "no head, so it gives features"),
        ({"encoder.ln.bias": None}, {}, r"missing encoder\.ln\.bias"),
        ({"encoder.pos_embedding": None}, {}, r"missing 'encoder\.pos_embedding'"),
        ({"conv_proj.bias": torch.zeros(3)}, {}, r"conv_proj\.bias has shape \(3,\), not \(24,\)"),
        ({"adapter.weight": torch.zeros(3)}, {}, r"unexpected adapter\.weight"),
        ({"encoder.pos_embedding": torch.zeros(1, 13, 24)}, {}, "no square grid"),
        ({"encoder.pos_embedding": torch.zeros(17)}, {}, "too few dimensions"),
        ({"conv_proj.weight": torch.zeros(24, 1, 4, 4)}, {}, r"not \(24, 3, 4, 4\)"),
        ({}, {"depth": 3}, "no options depth"),
        ({}, {"mlp_dim": 31}, r"mlp_dim=31.*network with 32"),
        ({}, {"num_heads": 5}, "must be a multiple of num_heads 5; correct the options"),
        ({}, {"num_heads": None}, r"no multiple of 64.*--option num_heads=3"),
    ],
)
def test_what_does_not_fit_is_named(
    changes: dict[str, Tensor | None], options: dict[str, Any], message: str
) -> None:
    state = {**made().state_dict(), **changes}
    whole = {key: value for key, value in state.items() if value is not None}
    given = {"num_heads": 3, **options}
    with pytest.raises(WeightsError, match=message):
        build_vit(whole, {key: value for key, value in given.items() if value is not None})


def test_strides_of_a_stem_are_asked_for() -> None:
    state = made(stem=[[8, 2], [16, 2]]).state_dict()
    with pytest.raises(WeightsError, match=r"strides the weights do not show.*--option stem="):
        build_vit(state, {"num_heads": 3})


def test_other_networks_are_not_taken_for_transformers() -> None:
    state = build_cnn("alexnet-small", 3).state_dict()
    assert not looks_like_vit(state)
    with pytest.raises(
        WeightsError, match=r"not for a vision transformer: its first names are fea"
    ):
        build_vit(state, {})


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("blocks.0.in_norm.weight", r"parallel: z \+ a\(z\) \+ f\(z\) is another graph"),
        ("blocks.0.attns.0.norm.weight", "parallel"),
        ("blocks.1.norm.weight", "parallel"),
        ("blocks.0.0.norm1.weight", "nested"),
        ("blocks.0.mlp.w12.weight", "gated"),
        ("blocks.0.mlp.fc1_g.weight", "gated"),
        ("blocks.0.attn.norm.weight", "normalised before its projection"),
        ("blocks.0.attn.gate.weight", "attention is gated"),
        ("blocks.0.attn.lambda_q1", "differential"),
        ("blocks.0.mlp.norm.weight", "normalised inside"),
        ("norm_pre.weight", "as in CLIP"),
        ("blocks.0.attn.relative_position_bias_table", "relative or rotary"),
        ("rel_pos_bias.relative_position_bias_table", "relative or rotary"),
        ("rope.freqs", "relative or rotary"),
        ("blocks.0.attn.q_bias", "relative or rotary"),
        ("attn_pool.latent", "an attention layer pools"),
        ("patch_embed.backbone.conv.weight", "patches are made by another network"),
        ("fc_norm.weight", "before and after pooling"),
        ("head.fc.weight", r"unexpected heads\.head\.fc\.weight"),
    ],
)
def test_transformers_with_other_parts_are_refused_by_name(key: str, message: str) -> None:
    state = {**to_timm(made().state_dict()), key: torch.zeros(24)}
    assert looks_like_vit(state)
    with pytest.raises(WeightsError, match=message) as error:
        build_vit(state, {"num_heads": 3})
    assert key in str(error.value) or "fc_norm" in key or "fc.weight" in key


def test_gated_layers_and_other_norms_show_in_the_shapes() -> None:
    state = to_timm(made().state_dict())
    gated = {**state, "blocks.0.mlp.fc1.weight": torch.zeros(64, 24)}
    with pytest.raises(WeightsError, match=r"gated \(blocks\.0\.mlp\.fc1 is twice as wide"):
        build_vit(gated, {"num_heads": 3})
    del state["blocks.0.norm1.bias"]
    with pytest.raises(WeightsError, match="not layer norms"):
        build_vit(state, {"num_heads": 3})


@pytest.mark.parametrize("pool", ["token", "avg_norm_after", "avg_norm_before"])
def test_names_or_options_tell_the_pool_of_timm(pool: str) -> None:
    state = to_timm(made(pool=pool).state_dict(), pool)
    options = {"num_heads": 3, **({"pool": pool} if pool == "avg_norm_before" else {})}
    found = build_vit(state, options)
    assert isinstance(found.model, VisionTransformer) and found.model.config.pool == pool
    assert torch.equal(answers(found), answers(Classifier(made(pool=pool))))


def test_without_a_class_token_norms_come_first_in_timm() -> None:
    model = made(class_token=False, pool="avg_norm_before")
    assert infer_config(to_timm(model.state_dict()), {"num_heads": 3}) == model.config


def test_fields_of_a_card_are_those_of_the_weights() -> None:
    shown = vit_fields(made().state_dict(), {"num_heads": 3})
    assert shown["task"] == "classification" and len(shown["classes"]) == 5
    assert shown["input"].tile == 16 and shown["input"].normalisation == "unit"
    assert ViTConfig.from_dict({k: v for k, v in shown["options"].items() if k != "resize"}) == (
        made().config
    )


def test_a_file_is_imported_and_lent(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save({"model": to_timm(made().state_dict()), "epoch": 90}, path)
    pairs = ["num_heads=3", "mean=[0.5, 0.5, 0.5]", "pool=token"]
    told = [part for pair in pairs for part in ("--option", pair)]
    result = CliRunner().invoke(app, ["models", "import", str(path), "--name", "own", *told])
    assert result.exit_code == 0 and "installed own" in result.output
    card = Catalogue().get("own")
    assert (card.architecture, card.task, len(card.classes)) == ("vit", "classification", 5)
    found = build_model(card, "plain")
    assert isinstance(found, Classifier) and found.normalize.mean.tolist() == [0.5] * 3
    assert torch.equal(answers(found), answers(Classifier(made())))
    for wrong in ("num_heads", "=3"):
        result = CliRunner().invoke(app, ["models", "import", str(path), "--option", wrong])
        assert result.exit_code == 2 and "NAME=VALUE" in result.output


def test_a_card_with_other_classes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "five.safetensors"
    save_file(made().state_dict(), path)
    given = {"classes": ["benign", "malignant"], "options": {"num_heads": 3}}
    card = import_file(path, given)
    with pytest.raises(WeightsError, match="names 2 classes, but its weights have 5"):
        build_model(card, "plain")


def _published() -> list[ModelCard]:
    return [card for card in Catalogue().packaged() if card.name.endswith("-imagenet")]


# Width, layers, width of the MLP and patch of the published networks.
SIZES = {
    "vit_b_16": (768, 12, 3072, 16),
    "vit_b_32": (768, 12, 3072, 32),
    "vit_l_16": (1024, 24, 4096, 16),
    "vit_l_32": (1024, 24, 4096, 32),
    "vit_h_14": (1280, 32, 5120, 14),
    "deit_tiny_patch16_224": (192, 12, 768, 16),
    "deit_small_patch16_224": (384, 12, 1536, 16),
    "deit_base_patch16_224": (768, 12, 3072, 16),
}


def test_published_transformers_are_known_with_hash_and_licence() -> None:
    cards = [card for card in _published() if card.architecture == "vit"]
    assert len(cards) == 10
    for card in cards:
        width, layers, inner, patch = SIZES[card.name.split("-")[0]]
        config = ViTConfig(
            card.input.tile, patch, width, layers, card.options["num_heads"], inner, 1000
        )
        with torch.device("meta"):
            state = VisionTransformer(config).state_dict()
        options = {k: v for k, v in card.options.items() if k != "resize"}
        assert infer_config(state, options) == config
        assert len(set(card.classes)) > 990 and len(card.classes) == 1000
        assert card.weights.sha256 in card.weights.filename and len(card.weights.sha256) == 8
        assert card.weights.sources[0].endswith(card.weights.filename)
        swag = "swag" in card.name
        assert card.weights.license_must_be_accepted == swag
        assert card.license.startswith("CC-BY-NC" if swag else ("BSD-3", "Apache-2.0"))


def test_rows_are_those_of_torchvision() -> None:
    from torchvision import models

    cards = [card for card in Catalogue().packaged() if "imagenet" in card.name.split("-")]
    theirs = [card for card in cards if not card.name.startswith("deit")]
    assert len(theirs) == 12
    for card in theirs:
        kind = "IMAGENET1K_SWAG_E2E_V1" if "swag" in card.name else "IMAGENET1K_V1"
        kind = "IMAGENET1K_V2" if card.name.endswith("-v2") else kind
        row = models.get_model_weights(card.name.split("-")[0])[kind]  # type: ignore[index]
        seen = row.transforms()
        assert card.weights.sources == (row.url,)
        assert (card.input.tile, card.options["resize"]) == (seen.crop_size[0], seen.resize_size[0])
        accuracy = row.meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100
        assert card.metrics["published_accuracy"] == pytest.approx(accuracy)


def test_rows_of_deit_state_their_file_and_no_figure() -> None:
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")
    cards = [card for card in _published() if card.name.startswith("deit")]
    assert len(cards) == 3
    for card in cards:
        row = timm.get_pretrained_cfg(card.name.removesuffix("-imagenet"))
        assert card.weights.sources == (row.url,)
        assert not card.metrics


def test_a_licence_is_asked_for_before_swag_is_fetched() -> None:
    with pytest.raises(WeightsError, match=r"CC-BY-NC.*fetch vit_b_16-swag-imagenet --accept"):
        fetch(Catalogue().get("vit_b_16-swag-imagenet"))


def test_names_of_classes_are_in_the_order_of_the_other_rows() -> None:
    cards = {card.name: card for card in _published()}
    assert cards["vit_b_16-imagenet"].classes == cards["resnet50-imagenet"].classes
    assert json.loads(cards["vit_b_16-imagenet"].to_json())["architecture"] == "vit"
