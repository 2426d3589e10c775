"""From TOPIQ checkpoints, published and our own, to networks.

The plain network has the key names of the published files, so that loading them needs no renaming.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from napari_cvsuite.models.adapters import require_layout
from napari_cvsuite.models.backbones import BACKBONES
from napari_cvsuite.models.catalog import InputSpec
from napari_cvsuite.models.swin import SwinBase
from napari_cvsuite.models.topiq import MEAN, STD, CFANet, TopiqConfig
from napari_cvsuite.models.weights import WeightsError

__all__ = ["LARGEST_SIDE", "build_topiq", "infer_topiq_config", "topiq_fields"]

LARGEST_SIDE = 1024
"""Side in pixels up to which an image is scored at once, on cards that are inferred."""

USE = "Use the checkpoint of a whole TOPIQ network, as published or as training writes."
_NOT = "The file is not for the TOPIQ architecture"
# Counters of a backbone whose norms are fixed, and a classifier that the network does not use.
_SPARE = re.compile(r"\.num_batches_tracked$|^semantic_model\.(?:norm|head)\.")


def build_topiq(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> CFANet:
    """Return the eval-mode float32 network of a state dict.

    Parameters
    ----------
    state : mapping of str to Tensor
        As :func:`~napari_cvsuite.models.weights.read_state_dict` returns it. What the network
        never uses, and what follows from its sizes, may be missing.
    options : mapping
        Of :class:`~napari_cvsuite.models.topiq.TopiqConfig`; those that the weights show may be
        left out.

    Raises
    ------
    WeightsError
        The weights are not those of a TOPIQ network, or the options not those of the weights; the
        message names keys or options.
    """
    model, whole = _checked(state, options)
    # Copies, as tensors may be views of the mapped file, which Windows then keeps locked.
    owned = {k: whole[k].to(v.dtype, copy=True) for k, v in model.state_dict().items()}
    model.load_state_dict(owned, strict=True, assign=True)
    # In no file, and so far without memory.
    model.mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    model.std = torch.tensor(STD).view(1, 3, 1, 1)
    return model.eval()


def infer_topiq_config(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> TopiqConfig:
    """Return the configuration that the shapes imply, completed by `options`.

    The shapes do not show the number of heads (8 for a width of 512, else 4, where `options` do
    not say), the activation, nor how the image is resized or cropped.

    Raises
    ------
    WeightsError
        As :func:`build_topiq`.
    """
    unknown = sorted(set(options) - {field.name for field in fields(TopiqConfig)})
    if unknown:
        raise WeightsError(f"TOPIQ has no options {', '.join(unknown)}; correct the card.")
    try:
        seen = _seen(state, str(options.get("semantic_model_name", "")))
    except KeyError as error:
        raise WeightsError(
            f"{_NOT}: missing {error.args[0]}; its first keys are {', '.join(list(state)[:5])}. "
            f"{USE}"
        ) from error
    except ValueError as error:
        raise WeightsError(f"{_NOT}: {error}. {USE}") from error
    for option, value in seen.items():
        if options.get(option, value) != value:
            raise WeightsError(
                f"The options state {option}={options[option]!r}, but the weights are those of a "
                f"network with {value!r}; correct the card."
            )
    heads = 8 if seen["inter_dim"] == 512 else 4
    try:
        return TopiqConfig(**{"num_heads": heads, **options, **seen})
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise WeightsError(
            f"The options do not fit these TOPIQ weights: {error}. Correct the card."
        ) from error


def topiq_fields(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a model card that the weights show; see :func:`build_topiq`."""
    config = _checked(state, options)[0].config
    grades = [str(grade) for grade in range(1, config.num_class + 1)]
    return {
        "task": "quality",
        "options": config.to_dict(),
        "classes": grades if config.num_class > 1 else ["score"],
        "input": InputSpec(tile=LARGEST_SIDE, normalisation="unit"),
    }


def _checked(
    state: Mapping[str, Tensor], options: Mapping[str, Any]
) -> tuple[CFANet, dict[str, Tensor]]:
    """Return the network without memory, and the state completed, after checking that they fit."""
    config = infer_topiq_config(state, options)
    # On the meta device nothing is allocated and the user's random state is left alone.
    with torch.device("meta"):
        model = CFANet(config)
    expected = model.state_dict()
    spare = {
        k: torch.zeros(v.shape, dtype=v.dtype) for k, v in expected.items() if _SPARE.search(k)
    }
    fixed = {}
    if isinstance(model.semantic_model, SwinBase):
        fixed = {f"semantic_model.{k}": v for k, v in model.semantic_model.constants().items()}
    whole = {**spare, **fixed, **state}
    require_layout(whole, expected, "TOPIQ", USE)
    for key, value in fixed.items():
        if not torch.equal(whole[key].to(value.dtype), value):
            raise WeightsError(
                f"{_NOT}: {key} has other values than windows of this size need. {USE}"
            )
    return model, whole


def _seen(state: Mapping[str, Tensor], preferred: str) -> dict[str, Any]:
    """Return the options that shapes show; raises KeyError or ValueError."""
    use_ref = "weight_pool.0.0.weight" in state
    levels = _count(state, r"dim_reduce\.(\d+)\.")
    width = _size(state, "dim_reduce.0.0.weight", 0)
    joined = [_size(state, f"dim_reduce.{level}.0.weight", 1) for level in range(levels)]
    channels = tuple(inner // (3 if use_ref else 1) for inner in joined)
    fitting = [name for name, backbone in BACKBONES.items() if backbone.channels == channels]
    if not fitting:
        raise ValueError(f"no known backbone has maps of {', '.join(map(str, channels))} channels")
    gate = "weight_pool.0.0.weight" if use_ref else "weight_pool.0.weight_blk.0.weight"
    head = "distortion_head.layers.3.weight"
    return {
        "semantic_model_name": preferred if preferred in fitting else fitting[0],
        "use_ref": use_ref,
        "inter_dim": width,
        "num_class": _size(state, "score_linear.6.weight", 0),
        "num_attn_layers": _count(state, r"sa_attn_blks\.0\.layers\.(\d+)\."),
        "gate_channels": _size(state, gate, 0),
        "distortions": _size(state, head, 0) // 2 if head in state else 0,
    }


def _size(state: Mapping[str, Tensor], key: str, axis: int) -> int:
    shape = tuple(state[key].shape)
    if axis >= len(shape):
        raise ValueError(f"{key} has shape {shape}")
    return shape[axis]


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Return how many numbers the first group of a pattern matches among the keys."""
    return len({match.group(1) for key in state if (match := re.match(pattern, key))})
