"""From checkpoints of vision transformers to networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from napari_cvsuite.models.adapters import innermost, require_layout
from napari_cvsuite.models.catalog import InputSpec
from napari_cvsuite.models.cnn import Classifier
from napari_cvsuite.models.cnn_weights import filled, split_normaliser
from napari_cvsuite.models.vit import ConfigError, VisionTransformer, ViTConfig
from napari_cvsuite.models.vit_modules import from_module
from napari_cvsuite.models.vit_names import LAYER, from_timm, is_timm, to_timm, unify
from napari_cvsuite.models.weights import WeightsError

__all__ = [
    "build_vit",
    "from_module",
    "from_timm",
    "infer_config",
    "looks_like_vit",
    "to_timm",
    "vit_fields",
]

USE = "Use the checkpoint of a whole classifier, such as torchvision's, timm's or a training run's."
_COUNTER = "num_batches_tracked"
_OTHER_OPTIONS = ("mean", "std", "clamp", "resize")
# Widths at which the published networks have other heads than of 64: so400m, H, g and G.
_HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}


def looks_like_vit(state: Mapping[str, Tensor]) -> bool:
    """Return whether a state dict is that of a vision transformer, be it one that can be built."""
    found, _ = split_normaliser(innermost(state))
    return "encoder.pos_embedding" in found or is_timm(found)


def infer_config(state: Mapping[str, Any], options: Mapping[str, Any]) -> ViTConfig:
    """Return the configuration that the shapes of a state dict and the options imply.

    Parameters
    ----------
    state : mapping of str to Tensor
        In any layout that :func:`build_vit` knows.
    options : mapping
        Fields of :class:`ViTConfig`. Weights do not show ``num_heads`` (default that of published
        networks of the width, mostly heads of 64), ``eps`` (1e-6), ``stem``, ``placement``, nor
        in all layouts ``pool`` (default the class token if there is one). Nor do they show the
        order of norms and the activation, which are taken to be a ViT's.

    Raises
    ------
    WeightsError
        The shapes are those of no transformer that can be built, or an option contradicts them.
    """
    found, pool = unify(split_normaliser(innermost(state))[0])
    return _config(found, pool, options)


def _config(state: Mapping[str, Tensor], pool: str, options: Mapping[str, Any]) -> ViTConfig:
    if "heads.head.weight" not in state:
        raise WeightsError(
            f"The file has no head, so it gives features and no classes. {USE}"
            if "encoder.pos_embedding" in state
            else f"The file is not for a vision transformer: its first names are "
            f"{', '.join(list(state)[:5]) or 'none'}. {USE}"
        )
    stated = {k: v for k, v in options.items() if k not in _OTHER_OPTIONS}
    try:
        shown = {**_sizes(state), **_extras(state)}
        shown |= _grid(state, shown, stated)
    except KeyError as error:
        raise WeightsError(
            f"The file is not a whole transformer: missing {error}. {USE}"
        ) from error
    except IndexError as error:
        raise WeightsError(f"The file's tensors have too few dimensions. {USE}") from error
    if "num_heads" not in stated:
        shown["num_heads"] = _heads(shown["hidden_dim"])
    default = pool or ("token" if shown["class_token"] else "avg_norm_after")
    try:
        made = ViTConfig.from_dict({"pool": default, **shown, **stated})
    except ConfigError as error:
        raise WeightsError(f"{error}; correct the options of the card") from error
    for name, value in shown.items():
        if getattr(made, name) != value:
            raise WeightsError(
                f"The options state {name}={getattr(made, name)!r}, but the weights are those of "
                f"a network with {value!r}; correct the card."
            )
    return made


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    layers = {k.removeprefix(LAYER).split(".")[0] for k in state if k.startswith(LAYER)}
    return {
        "hidden_dim": state["encoder.ln.weight"].shape[0],
        "num_layers": len(layers),
        "mlp_dim": state[f"{LAYER}0.mlp.0.weight"].shape[0],
        "num_classes": state["heads.head.weight"].shape[0],
    }


def _extras(state: Mapping[str, Tensor]) -> dict[str, Any]:
    registers, before = state.get("register_tokens"), state.get("heads.pre_logits.weight")
    alpha = state.get("ensemble_scale.alpha")
    return {
        "class_token": "class_token" in state,
        "distilled": "distillation_token" in state,
        "registers": 0 if registers is None else registers.shape[1],
        "pre_logits": 0 if before is None else before.shape[0],
        "layer_scale": f"{LAYER}0.layer_scale_1" in state,
        "qk_norm": f"{LAYER}0.self_attention.q_norm.weight" in state,
        "ensemble_scale": ("none", "scalar", "channel")[0 if alpha is None else alpha.ndim],
    }


def _grid(
    state: Mapping[str, Tensor], shown: Mapping[str, Any], stated: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the sizes of image and patch, and whether other tokens have positions, too."""
    prefix = shown["class_token"] + shown["distilled"] + shown["registers"]
    rows = state["encoder.pos_embedding"].shape[1]
    choices = [stated["embed_prefix"]] if "embed_prefix" in stated else [True, False]
    for embedded in choices:
        patches = rows - prefix if embedded else rows
        side = math.isqrt(max(patches, 0))
        if side and side * side == patches:
            break
    else:
        raise WeightsError(
            f"The {rows} position embeddings, {prefix} of them of other tokens than patches, make "
            "no square grid. Only transformers for square images can be used."
        )
    if "conv_proj.weight" in state:
        patch = state["conv_proj.weight"].shape[-1]
    elif "stem" in stated:
        patch = math.prod(stride for _, stride in stated["stem"])
    else:
        raise WeightsError(
            "The network begins with convolutions, whose strides the weights do not show. Import "
            "it with its card, or state stem, as in models import --option stem=[[32,2],[64,2]]."
        )
    return {"patch_size": patch, "image_size": side * patch, "embed_prefix": embedded}


def _heads(width: int) -> int:
    if width in _HEADS:
        return _HEADS[width]
    if width % 64:
        raise WeightsError(
            f"The weights do not show the number of attention heads, and the width {width} is no "
            "multiple of 64. Import the file with its card, or state num_heads, as in "
            "models import --option num_heads=3."
        )
    return width // 64


def build_vit(state: Mapping[str, Any], options: Mapping[str, Any]) -> Classifier:
    """Return the eval-mode float32 classifier of a state dict, its normalisation inside.

    Parameters
    ----------
    state : mapping of str to Tensor
        Named as by a training run, torchvision (of any version), timm or DeiT; also in a
        container such as ``{"model": ...}``.
    options : mapping
        See :func:`infer_config`; and ``mean`` and ``std``, where the file has no normaliser
        (default those of ImageNet), and ``clamp``.

    Raises
    ------
    WeightsError
        The weights are not those of a transformer, or an option is unknown or contradicts them.
    """
    known = (*(field.name for field in fields(ViTConfig)), *_OTHER_OPTIONS)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise WeightsError(f"Transformers have no options {', '.join(unknown)}; correct the card.")
    named, inside = split_normaliser(innermost(state))
    found, pool = unify(named)
    config = _config(found, pool, options)
    with torch.device("meta"):
        made = VisionTransformer(config)
    expected = made.state_dict()
    for key in expected:
        if key.endswith(_COUNTER):
            found.setdefault(key, torch.zeros((), dtype=torch.int64))
    require_layout(found, expected, "vision transformer's", USE)
    return filled(made, found, inside, options)


def vit_fields(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a model card that the weights show; see :func:`build_vit`."""
    config = infer_config(state, options)
    side = config.image_size
    return {
        "task": "classification",
        # Large images are brought to a little more than is seen, as in most evaluations.
        "options": {**config.to_dict(), "resize": side if side < 128 else round(side * 256 / 224)},
        "classes": [f"class {number}" for number in range(config.num_classes)],
        "input": InputSpec(mode="resize", tile=side, normalisation="unit"),
    }
