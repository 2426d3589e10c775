"""From checkpoints of vision transformers to networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from napari_cvsuite.models.adapters import require_layout
from napari_cvsuite.models.catalog import InputSpec
from napari_cvsuite.models.cnn import IMAGENET_MEAN, IMAGENET_STD, Classifier
from napari_cvsuite.models.cnn_weights import split_normaliser
from napari_cvsuite.models.vit import ConfigError, ViTConfig, VisionTransformer
from napari_cvsuite.models.weights import WeightsError

__all__ = ["build_vit", "infer_config", "looks_like_vit", "vit_fields"]

USE = "Use the checkpoint of a whole classifier, such as torchvision's, timm's or a training run's."
_LAYER = "encoder.layers.encoder_layer_"
_COUNTER = "num_batches_tracked"
_OTHER_OPTIONS = ("mean", "std", "clamp", "resize")


def looks_like_vit(state: Mapping[str, Tensor]) -> bool:
    """Return whether a state dict is that of a vision transformer, be it one that can be built."""
    found, _ = split_normaliser(state)
    return "encoder.pos_embedding" in found


def infer_config(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> ViTConfig:
    """Return the configuration that the shapes of a state dict and the options imply.

    Parameters
    ----------
    state : mapping of str to Tensor
        In any layout that :func:`build_vit` knows.
    options : mapping
        Fields of :class:`ViTConfig`. Weights do not show ``num_heads`` (default: heads of 64),
        ``eps`` (1e-6), ``stem``, ``placement``, nor whether ``pool`` is ``avg_norm_before``.

    Raises
    ------
    WeightsError
        The shapes are those of no transformer that can be built, or an option contradicts them.
    """
    found, _ = split_normaliser(state)
    stated = {k: v for k, v in options.items() if k not in _OTHER_OPTIONS}
    try:
        shown = {**_sizes(found), **_extras(found)}
    except KeyError as error:
        raise WeightsError(f"The file is not for a vision transformer: missing {error}. {USE}")
    shown |= _grid(found, shown, stated)
    if "num_heads" not in stated:
        shown["num_heads"] = _heads(shown["hidden_dim"])
    try:
        made = ViTConfig.from_dict({**shown, **stated})
    except ConfigError as error:
        raise WeightsError(f"{error}; correct the options of the card") from error
    for name, value in shown.items():
        if getattr(made, name) != value and name != "pool":
            raise WeightsError(
                f"The options state {name}={getattr(made, name)!r}, but the weights are those of "
                f"a network with {value!r}; correct the card."
            )
    return made


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    layers = {k.removeprefix(_LAYER).split(".")[0] for k in state if k.startswith(_LAYER)}
    return {
        "hidden_dim": state["encoder.ln.weight"].shape[0],
        "num_layers": len(layers),
        "mlp_dim": state[f"{_LAYER}0.mlp.0.weight"].shape[0],
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
        "layer_scale": f"{_LAYER}0.layer_scale_1" in state,
        "qk_norm": f"{_LAYER}0.self_attention.q_norm.weight" in state,
        "ensemble_scale": ("none", "scalar", "channel")[0 if alpha is None else alpha.ndim],
        "pool": "token" if "class_token" in state else "avg_norm_after",
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
            "it with its card, or state stem and num_heads in one."
        )
    return {"patch_size": patch, "image_size": side * patch, "embed_prefix": embedded}


def _heads(width: int) -> int:
    if width % 64:
        raise WeightsError(
            f"The weights do not show the number of attention heads, and the width {width} is no "
            "multiple of 64. Import the file with its card, or state num_heads in one."
        )
    return width // 64


def build_vit(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> Classifier:
    """Return the eval-mode float32 classifier of a state dict, its normalisation inside.

    Parameters
    ----------
    state : mapping of str to Tensor
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
    found, inside = split_normaliser(state)
    config = infer_config(state, options)
    with torch.device("meta"):
        made = VisionTransformer(config)
    expected = made.state_dict()
    for key in expected:
        if key.endswith(_COUNTER):
            found.setdefault(key, torch.zeros((), dtype=torch.int64))
    require_layout(found, expected, "vision transformer's", USE)
    # Copies, as tensors may be views of the mapped file, which Windows then keeps locked.
    owned = {k: found[k].to(v.dtype, copy=True) for k, v in expected.items()}
    made.load_state_dict(owned, strict=True, assign=True)
    mean, std = options.get("mean", IMAGENET_MEAN), options.get("std", IMAGENET_STD)
    if inside is not None:
        mean, std = (one.tolist() for one in inside)
    return Classifier(made, mean, std, bool(options.get("clamp", False))).eval()


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
