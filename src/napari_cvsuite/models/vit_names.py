"""Names of the weights of vision transformers: torchvision's, which are the package's, and timm's.

The layouts hold the same numbers: queries, keys and values are packed one after the other, with
the heads inside, in both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from napari_cvsuite.models.weights import WeightsError

__all__ = ["from_timm", "is_timm", "refusal", "to_timm", "unify"]

LAYER = "encoder.layers.encoder_layer_"
_OUTSIDE = (
    ("cls_token", "class_token"),
    ("dist_token", "distillation_token"),
    ("reg_token", "register_tokens"),
    ("pos_embed", "encoder.pos_embedding"),
    ("patch_embed.proj.", "conv_proj."),
    ("norm.", "encoder.ln."),
    ("head.", "heads.head."),
    ("head_dist.", "heads.head_dist."),
)
_INSIDE = (
    ("norm1.", "ln_1."),
    ("attn.qkv.", "self_attention.in_proj_"),
    ("attn.proj.", "self_attention.out_proj."),
    ("attn.q_norm.", "self_attention.q_norm."),
    ("attn.k_norm.", "self_attention.k_norm."),
    ("ls1.gamma", "layer_scale_1"),
    ("norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.0."),
    ("mlp.fc2.", "mlp.3."),
    ("ls2.gamma", "layer_scale_2"),
)
# Read, never written: the norm after pooling, and what older files call things.
_OUTSIDE_OLD = (("fc_norm.", "encoder.ln."), ("pre_logits.fc.", "heads.pre_logits."))
_INSIDE_OLD = (("gamma_1", "layer_scale_1"), ("gamma_2", "layer_scale_2"))
_TORCHVISION_OLD = ((".mlp.linear_1.", ".mlp.0."), (".mlp.linear_2.", ".mlp.3."))
_REFUSED = (
    (
        r"blocks\.\d+\.(in_norm|in_proj|attns|ffns|attn_out_proj|mlp_out_proj|norm)\.",
        "its blocks are parallel: z + a(z) + f(z) is another graph than z + a(z) + f(z + a(z))",
    ),
    (r"blocks\.\d+\.\d+\.", "its blocks are nested, as in parallel and chunked networks"),
    (r"blocks\.\d+\.mlp\.(w\d+|fc1_g|fc1_x|gate\w*)\.", "its feed-forward layers are gated"),
    (r"blocks\.\d+\.attn\.norm\.", "attention is normalised before its projection (sub-LN)"),
    (r"blocks\.\d+\.attn\.gate", "attention is gated"),
    (r"blocks\.\d+\.attn\.lambda", "attention is differential"),
    (r"blocks\.\d+\.mlp\.norm\.", "feed-forward layers are normalised inside (sub-LN)"),
    (r"(norm_pre|ln_pre|transformer\.resblocks)\.", "tokens are normalised first, as in CLIP"),
    (
        r"(.*\.)?(rel(ative)?_pos\w*|rope\w*|freqs\w*|q_bias|v_bias)(\.|$)",
        "positions are relative or rotary",
    ),
    (r"attn_pool\.", "an attention layer pools the tokens"),
    (
        r"patch_embed\.(backbone|conv\w*|norm)\.",
        "patches are made by another network or normalised",
    ),
)


def is_timm(state: Mapping[str, Tensor]) -> bool:
    """Return whether names are those of timm, of DeiT or of networks that follow them."""
    return any(key.startswith("blocks.0.") for key in state) and any(
        key.startswith(("patch_embed.", "pos_embed", "cls_token")) for key in state
    )


def refusal(state: Mapping[str, Tensor]) -> str:
    """Return why a transformer with such weights cannot be built; empty where nothing shows it."""
    for pattern, reason in _REFUSED:
        found = next((key for key in state if re.match(pattern, key)), None)
        if found is not None:
            return f"{reason} ({found})"
    if "fc_norm.weight" in state and "norm.weight" in state:
        return "it is normalised before and after pooling (norm and fc_norm)"
    first, second = (state.get(f"blocks.0.mlp.{name}.weight") for name in ("fc1", "fc2"))
    if first is not None and second is not None and first.shape[0] == 2 * second.shape[-1]:
        return "its feed-forward layers are gated (blocks.0.mlp.fc1 is twice as wide as fc2)"
    if "blocks.0.norm1.weight" in state and "blocks.0.norm1.bias" not in state:
        return "its norms are not layer norms (blocks.0.norm1 has no bias)"
    return ""


def unify(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return the weights by the package's names, and the pool that the names show, or nothing.

    Parameters
    ----------
    state : mapping of str to Tensor
        Named as by torchvision, also before its version 0.13, or timm.

    Raises
    ------
    WeightsError
        They are those of a transformer that cannot be built; the message says why.
    """
    if not is_timm(state):
        made = dict(state)
        for old, new in _TORCHVISION_OLD:
            made = {key.replace(old, new): value for key, value in made.items()}
        return made, ""
    pool = "avg_norm_after" if "fc_norm.weight" in state else ""
    if not pool and "cls_token" not in state:
        pool = "avg_norm_before"
    return from_timm(state), pool


def from_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights that are named as in timm by the package's names; unknown names stay.

    Queries, keys and values without a bias get one of zeros.

    Raises
    ------
    WeightsError
        They are those of a transformer that cannot be built; the message says why.
    """
    reason = refusal(state)
    if reason:
        raise WeightsError(
            f"This vision transformer cannot be used: {reason}. Use one with plain blocks, such as "
            "ViT, DeiT or DINOv2 in their base sizes."
        )
    made: dict[str, Tensor] = {}
    for key, value in state.items():
        block = re.match(r"blocks\.(\d+)\.", key)
        if block is None:
            made[_renamed(key, _OUTSIDE + _OUTSIDE_OLD)] = value
            continue
        inner = _renamed(key[block.end() :], _INSIDE + _INSIDE_OLD)
        made[f"{LAYER}{block[1]}.{inner}"] = value
    for key in [key for key in made if key.endswith("in_proj_weight")]:
        weight = made[key]
        made.setdefault(key.replace("_weight", "_bias"), torch.zeros(weight.shape[0]).to(weight))
    return made


def to_timm(state: Mapping[str, Tensor], pool: str = "token") -> dict[str, Tensor]:
    """Return weights that are named as in the package by timm's names.

    Parameters
    ----------
    state : mapping of str to Tensor
        Of a :class:`~napari_cvsuite.models.vit.VisionTransformer`.
    pool : str
        Of its configuration; with ``avg_norm_after`` timm calls the norm ``fc_norm``.

    Raises
    ------
    WeightsError
        timm's networks have no such part.
    """
    table = [(ours, timm) for timm, ours in _OUTSIDE]
    if pool == "avg_norm_after":
        table.insert(0, ("encoder.ln.", "fc_norm."))
    made: dict[str, Tensor] = {}
    for key, value in state.items():
        layer = re.match(rf"{re.escape(LAYER)}(\d+)\.", key)
        if layer is None:
            new = _renamed(key, table)
        else:
            inner = _renamed(key[layer.end() :], [(ours, timm) for timm, ours in _INSIDE])
            new = f"blocks.{layer[1]}.{inner}"
        if new == key or key.startswith(("conv_proj.conv_", "ensemble_scale.")):
            raise WeightsError(
                f"timm's transformers have no part such as {key}; save a network without stem, "
                "EnsembleScale and pre_logits, or keep the names of torchvision"
            )
        made[new] = value
    return made


def _renamed(key: str, table: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> str:
    """Replace the beginning of a name by the first row of a table that fits.

    Rows that end in a dot or underscore stand for all that begins so, others for a whole name.
    """
    for old, new in table:
        if key == old or (old.endswith((".", "_")) and key.startswith(old)):
            return new + key[len(old) :]
    return key
