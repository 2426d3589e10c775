"""Transformers of torchvision and timm, taken over as objects."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_cvsuite.models.vit_modules import UnsupportedModuleError, from_module
from napari_cvsuite.models.vit_weights import build_vit

SIZES: dict[str, Any] = {
    "img_size": 16,
    "patch_size": 4,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 3,
    "mlp_ratio": 2,
    "num_classes": 5,
}
KINDS: dict[str, dict[str, Any]] = {
    "token": {},
    "token, norm after": {"fc_norm": True},
    "average with fc_norm": {"global_pool": "avg"},
    "average without fc_norm": {"global_pool": "avg", "fc_norm": False},
    "no class token": {"global_pool": "avg", "class_token": False},
    "layer scale": {"init_values": 0.1},
    "qk_norm": {"qk_norm": True},
    "registers": {"reg_tokens": 4},
    "no_embed_class": {"reg_tokens": 4, "no_embed_class": True},
    "no bias": {"qkv_bias": False, "proj_bias": False},
}


def _drawn(model: nn.Module) -> nn.Module:
    draw = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=draw)
    return model.eval().requires_grad_(False)


def _timm(kind: str = "token", **changes: Any) -> nn.Module:
    pytest.importorskip("timm", reason="the extra timm is not installed")
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer

    maker = VisionTransformerDistilled if kind == "distilled" else VisionTransformer
    return _drawn(maker(**{**SIZES, **KINDS.get(kind, {}), **changes}))


def _torchvision(**changes: Any) -> nn.Module:
    from torchvision.models.vision_transformer import VisionTransformer

    return _drawn(VisionTransformer(16, 4, 2, 3, 24, 32, num_classes=5, **changes))


@pytest.fixture
def x() -> Tensor:
    """Two normalised images."""
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", [*KINDS, "distilled"])
def test_logits_of_timm_stay(kind: str, x: Tensor) -> None:
    theirs = _timm(kind)
    ours = from_module(theirs)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    assert not ours.training and ours.config.num_heads == 3
    owned = {value.data_ptr() for value in theirs.state_dict().values()}
    assert not owned & {value.data_ptr() for value in ours.state_dict().values()}


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind not in ("no bias", "token, norm after")] + ["distilled"]
)
def test_files_of_timm_become_the_same_network(kind: str, x: Tensor) -> None:
    theirs = _timm(kind)
    options = {"num_heads": 3}
    if kind == "average without fc_norm":
        options["pool"] = "avg_norm_before"  # type: ignore[assignment]
    found = build_vit(theirs.state_dict(), options)
    assert torch.allclose(found.model(x), theirs(x), atol=1e-6)


def test_eps_is_that_of_the_module(x: Tensor) -> None:
    from functools import partial

    theirs = _timm(norm_layer=partial(nn.LayerNorm, eps=1e-2))
    ours = from_module(theirs)
    assert ours.config.eps == 1e-2 and torch.allclose(ours(x), theirs(x), atol=1e-6)
    theirs.norm.eps = 1e-5  # type: ignore[assignment, union-attr]
    with pytest.raises(UnsupportedModuleError, match="differ in eps"):
        from_module(theirs)


@pytest.mark.parametrize("width", [None, 7])
@pytest.mark.parametrize("stem", [False, True])
def test_logits_of_torchvision_stay(width: int | None, stem: bool, x: Tensor) -> None:
    from torchvision.models.vision_transformer import ConvStemConfig

    convolutions = [ConvStemConfig(8, 3, 2), ConvStemConfig(16, 3, 2)] if stem else None
    theirs = _torchvision(representation_size=width, conv_stem_configs=convolutions)
    ours = from_module(theirs)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    assert ours.config.pre_logits == (width or 0) and bool(ours.config.stem) == stem


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ParallelScalingBlock", r"z \+ a\(z\) \+ f\(z\) is another graph"),
        ("ParallelThingsBlock", r"z \+ a\(z\) \+ f\(z\) is another graph"),
        ("ResPostBlock", "a block of it is .*ResPostBlock"),
    ],
)
def test_other_blocks_are_refused(name: str, message: str) -> None:
    pytest.importorskip("timm", reason="the extra timm is not installed")
    from timm.models import vision_transformer

    with pytest.raises(UnsupportedModuleError, match=message):
        from_module(_timm(block_fn=getattr(vision_transformer, name)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pre_norm": True}, "as CLIP does"),
        ({"num_classes": 0}, "no head, so it gives no classes"),
        ({"global_pool": "map"}, "an attention layer pools"),
        ({"global_pool": "max"}, "it pools by max"),
        ({"global_pool": "avg", "pool_include_prefix": True}, "other tokens than patches"),
        ({"scale_attn_norm": True}, r"attn\.norm"),
        ({"scale_mlp_norm": True}, "normalised inside"),
        ({"attn_layer": "diff", "num_heads": 2}, "attention of it is .*DiffAttention"),
        ({"norm_layer": "rmsnorm"}, "no layer norm"),
        ({"pos_embed": "none"}, "no learned positions"),
        ({"final_norm": False}, "no layer norm before its head"),
        ({"act_layer": "gelu_tanh"}, "not the exact GELU"),
        ({"img_size": (16, 8)}, "not square"),
    ],
)
def test_other_parts_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModuleError, match=message):
        from_module(_timm(**changes))


def test_gated_layers_and_unknown_attention_are_refused() -> None:
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")
    with pytest.raises(UnsupportedModuleError, match=r"feed-forward network of it is .*SwiGLU"):
        from_module(_timm(mlp_layer=timm.layers.SwiGLU))

    class Attention(nn.MultiheadAttention):
        pass

    theirs = _torchvision()
    theirs.encoder.layers[0].self_attention.__class__ = Attention  # type: ignore[union-attr, index]
    with pytest.raises(UnsupportedModuleError, match="which may compute anything"):
        from_module(theirs)


def test_other_networks_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedModuleError, match=r"linear\.Linear is no vision transformer"):
        from_module(nn.Linear(2, 2))

    class VisionTransformer(nn.Module):
        pass

    with pytest.raises(UnsupportedModuleError, match="is no vision transformer that is known"):
        from_module(VisionTransformer())


def test_a_torchvision_module_without_a_head_is_refused() -> None:
    theirs = _torchvision()
    theirs.heads = nn.Sequential(nn.Identity())
    with pytest.raises(UnsupportedModuleError, match="no head"):
        from_module(theirs)
