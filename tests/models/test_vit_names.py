"""Names of the weights of vision transformers, there and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kits import load_rule

from napari_cvsuite.models.vit import build
from napari_cvsuite.models.vit_names import from_timm, is_timm, to_timm, unify
from napari_cvsuite.models.weights import WeightsError

rule = load_rule("vit_paths")
CONFIG: dict[str, Any] = {
    "image_size": 8,
    "patch_size": 4,
    "hidden_dim": 8,
    "num_layers": 2,
    "num_heads": 2,
    "mlp_dim": 12,
    "num_classes": 3,
}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "average": {"pool": "avg_norm_after"},
    "layer scale": {"layer_scale": True, "qk_norm": True},
    "two heads": {"distilled": True},
    "registers": {"registers": 4, "embed_prefix": False},
}


def test_names_are_those_of_the_conformance_kit() -> None:
    state = {key: torch.zeros(shape) for key, shape in rule.shapes().items()}
    assert list(to_timm(state)) == list(rule.to_timm(state))


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_nothing_is_lost(kind: str) -> None:
    model = build({**CONFIG, **KINDS[kind]})
    state = model.state_dict()
    named = to_timm(state, model.config.pool)
    assert is_timm(named) and not is_timm(state)
    assert ("fc_norm.weight" in named) == (model.config.pool == "avg_norm_after")
    again = from_timm(named)
    assert set(again) == set(state)
    assert all(torch.equal(again[key], state[key]) for key in state)
    assert to_timm(again, model.config.pool).keys() == named.keys()


def test_a_missing_bias_is_zero() -> None:
    named = to_timm(build(CONFIG).state_dict())
    del named["blocks.1.attn.qkv.bias"]
    bias = from_timm(named)["encoder.layers.encoder_layer_1.self_attention.in_proj_bias"]
    assert torch.equal(bias, torch.zeros(24))


def test_names_of_older_files_are_known() -> None:
    named = to_timm(build({**CONFIG, "layer_scale": True}).state_dict())
    old = {
        k.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): v
        for k, v in named.items()
    }
    assert from_timm(old).keys() == from_timm(named).keys()
    old["pre_logits.fc.weight"] = torch.zeros(8, 8)
    assert "heads.pre_logits.weight" in unify(old)[0]


@pytest.mark.parametrize(
    "changes", [{"pre_logits": 4}, {"stem": [[4, 4]]}, {"ensemble_scale": "scalar"}]
)
def test_what_timm_lacks_cannot_be_named(changes: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="timm's transformers have no part such as"):
        to_timm(build({**CONFIG, **changes}).state_dict())
