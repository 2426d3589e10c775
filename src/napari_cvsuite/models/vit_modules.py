"""From transformers of torchvision and timm, as objects, to the package's own.

Neither library is imported: what a module is shows in the name of its class and where that lives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from napari_cvsuite.models.vit import VisionTransformer, ViTConfig
from napari_cvsuite.models.vit_names import LAYER, from_timm

__all__ = ["UnsupportedModuleError", "from_module"]

PLAIN = "Use a transformer of plain pre-norm blocks, such as ViT or DeiT."


class UnsupportedModuleError(TypeError):
    """The module is no vision transformer that can be taken apart; the message says why."""


def from_module(module: nn.Module) -> VisionTransformer:
    """Return the package's transformer with the weights, and so the logits, of another.

    Parameters
    ----------
    module : nn.Module
        ``torchvision.models.VisionTransformer``, ``timm``'s ``VisionTransformer`` or
        ``VisionTransformerDistilled``, with a head, in float32. It is left as it is.

    Returns
    -------
    VisionTransformer
        In eval mode, with copies of the weights, on the CPU.

    Raises
    ------
    UnsupportedModuleError
        It is another network, or computes something else in a block, a norm or the head.
    """
    kind, home = type(module).__name__, type(module).__module__
    if (kind, home) == ("VisionTransformer", "torchvision.models.vision_transformer"):
        config, state = _of_torchvision(module)
    elif kind in ("VisionTransformer", "VisionTransformerDistilled") and home in (
        "timm.models.vision_transformer",
        "timm.models.deit",
    ):
        config, state = _of_timm(module)
    else:
        raise UnsupportedModuleError(
            f"{home}.{kind} is no vision transformer that is known: its blocks may compute "
            "anything. Use torchvision's or timm's VisionTransformer itself."
        )
    with torch.device("meta"):
        made = VisionTransformer(config)
    owned = {key: value.detach().cpu().float().clone() for key, value in state.items()}
    made.load_state_dict(owned, strict=True, assign=True)
    return made.eval()


def _of_torchvision(module: Any) -> tuple[ViTConfig, dict[str, Tensor]]:
    for block in module.encoder.layers:
        _require_class(block, "EncoderBlock", "a block")
        attention = block.self_attention
        _require_class(attention, "MultiheadAttention", "attention")
        plain = attention.bias_k is None and not attention.add_zero_attn
        _require(plain and attention.in_proj_weight is not None, "attention has additions")
        _require_class(block.mlp, "MLPBlock", "a feed-forward network")
        _require_gelu(block.mlp[1])
    first = module.encoder.layers[0]
    _require(isinstance(module.heads[-1], nn.Linear), "it has no head, so it gives no classes")
    config = ViTConfig(
        image_size=module.image_size,
        patch_size=module.patch_size,
        hidden_dim=module.hidden_dim,
        num_layers=len(module.encoder.layers),
        num_heads=first.self_attention.num_heads,
        mlp_dim=first.mlp[0].out_features,
        num_classes=module.heads[-1].out_features,
        eps=_eps(module.encoder),
        pre_logits=module.heads[0].out_features if len(module.heads) == 3 else 0,
        stem=_stem(module.conv_proj),
    )
    return config, module.state_dict()


def _stem(projection: nn.Module) -> tuple[tuple[int, int], ...]:
    """Return channels and strides of the convolutions before the last, 1 x 1, one."""
    if isinstance(projection, nn.Conv2d):
        return ()
    found = []
    for layer in list(projection.children())[:-1]:
        parts = list(layer.children())
        known = len(parts) == 3 and isinstance(parts[0], nn.Conv2d)
        _require(known and isinstance(parts[2], nn.ReLU), "its stem is of another kind")
        conv, norm = parts[0], parts[1]
        assert isinstance(conv, nn.Conv2d)
        same = conv.kernel_size == (3, 3) and conv.padding == (1, 1) and conv.bias is None
        _require(same and isinstance(norm, nn.BatchNorm2d), "its stem is of another kind")
        found.append((conv.out_channels, conv.stride[0]))
    return tuple(found)


def _of_timm(module: Any) -> tuple[ViTConfig, dict[str, Tensor]]:
    for block in module.blocks:
        _require_timm_block(block)
    _require_class(module.patch_embed, "PatchEmbed", "the embedding of patches")
    for name in ("norm_pre", "patch_embed.norm"):
        inner = module.get_submodule(name)
        _require(
            isinstance(inner, nn.Identity), f"{name} normalises the tokens first, as CLIP does"
        )
    _require(module.attn_pool is None, "an attention layer pools the tokens")
    _require(isinstance(module.head, nn.Linear), "it has no head, so it gives no classes")
    _require(module.pos_embed is not None, "it has no learned positions")
    _require(not module.pool_include_prefix, "its average takes in other tokens than patches")
    patch, image = module.patch_embed.patch_size, module.patch_embed.img_size
    square = patch[0] == patch[1] and image is not None and image[0] == image[1]
    _require(square, "its images or patches are not square")
    after = not isinstance(module.fc_norm, nn.Identity)
    last = module.fc_norm if after else module.norm
    _require(isinstance(last, nn.LayerNorm), "it has no layer norm before its head")
    first, distilled = module.blocks[0], type(module).__name__ == "VisionTransformerDistilled"
    config = ViTConfig(
        image_size=image[0],
        patch_size=patch[0],
        hidden_dim=module.embed_dim,
        num_layers=len(module.blocks),
        num_heads=first.attn.num_heads,
        mlp_dim=first.mlp.fc1.out_features,
        num_classes=module.head.out_features,
        eps=_eps(module),
        pool=_pool(module.global_pool, after),
        class_token=module.cls_token is not None,
        layer_scale=not isinstance(first.ls1, nn.Identity),
        qk_norm=not isinstance(first.attn.q_norm, nn.Identity),
        distilled=distilled,
        registers=module.num_reg_tokens,
        embed_prefix=not module.no_embed_class,
    )
    state = from_timm(module.state_dict())
    # Layers without a bias add zero.
    for number in range(config.num_layers):
        width = config.hidden_dim
        for name, size in (("self_attention.out_proj", width), ("mlp.3", width), ("mlp.0", None)):
            zeros = torch.zeros(size or config.mlp_dim)
            state.setdefault(f"{LAYER}{number}.{name}.bias", zeros)
    return config, state


def _pool(stated: str, norm_after: bool) -> str:
    if stated == "token":
        return "token"
    _require(stated == "avg", f"it pools by {stated or 'nothing'}, neither by token nor average")
    return "avg_norm_after" if norm_after else "avg_norm_before"


def _require_timm_block(block: Any) -> None:
    kind = type(block).__name__
    if "Parallel" in kind:
        raise UnsupportedModuleError(
            f"{kind} runs attention and feed-forward network in parallel: z + a(z) + f(z) is "
            f"another graph than z + a(z) + f(z + a(z)). {PLAIN}"
        )
    _require_class(block, "Block", "a block")
    attention, mlp = block.attn, block.mlp
    _require_class(attention, "Attention", "attention")
    _require(
        isinstance(attention.norm if hasattr(attention, "norm") else nn.Identity(), nn.Identity),
        "attention is normalised before its projection (attn.norm)",
    )
    _require(getattr(attention, "gate", None) is None, "attention is gated (attn.gate)")
    width = attention.num_heads * attention.head_dim
    usual = attention.proj.in_features == attention.proj.out_features == width
    _require(usual, "its heads are of another width than the network")
    _require(abs(attention.scale**2 * attention.head_dim - 1) < 1e-6, "attention is scaled anew")
    _require_class(mlp, "Mlp", "a feed-forward network")
    _require(isinstance(mlp.norm, nn.Identity), "feed-forward layers are normalised inside")
    _require_gelu(mlp.act)


def _eps(module: nn.Module) -> float:
    norms = [one for one in module.modules() if "norm" in type(one).__name__.lower()]
    norms = [one for one in norms if not isinstance(one, nn.BatchNorm2d)]
    for one in norms:
        _require(isinstance(one, nn.LayerNorm), f"{type(one).__name__} is no layer norm")
    found = {one.eps for one in norms if isinstance(one, nn.LayerNorm)}
    _require(len(found) == 1, "its layer norms differ in eps")
    return float(found.pop())


def _require_gelu(layer: nn.Module) -> None:
    exact = type(layer).__name__ == "GELU" and getattr(layer, "approximate", "none") == "none"
    _require(exact, f"its activation is {layer}, not the exact GELU")


def _require_class(layer: nn.Module, name: str, part: str) -> None:
    kind, home = type(layer).__name__, type(layer).__module__
    known = kind == name and home.split(".")[0] in ("torch", "torchvision", "timm")
    _require(known, f"{part} of it is {home}.{kind}, which may compute anything")


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise UnsupportedModuleError(f"This vision transformer cannot be used: {reason}. {PLAIN}")
