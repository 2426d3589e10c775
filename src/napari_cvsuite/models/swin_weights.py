"""From checkpoints of Swin transformers with torchvision's key names to networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from napari_cvsuite.models.adapters import innermost, require_layout
from napari_cvsuite.models.catalog import InputSpec
from napari_cvsuite.models.cnn import Classifier
from napari_cvsuite.models.cnn_weights import filled, split_normaliser
from napari_cvsuite.models.swin_classifier import SwinConfig, SwinTransformer
from napari_cvsuite.models.weights import WeightsError

__all__ = ["build_swin", "looks_like_swin", "swin_fields"]

USE = "Use the checkpoint of a whole Swin classifier of torchvision, version 1 or 2."
_OPTIONS = ("image_size", "mean", "std", "clamp", "resize")
_FIRST = "features.1.0.attn."
_TABLES = {1: f"{_FIRST}relative_position_bias_table", 2: f"{_FIRST}relative_coords_table"}
"""What tells the version, and the size of the windows."""
_HEADS = {1: "relative_position_bias_table", 2: "logit_scale"}
"""Of which one dimension is the number of heads: the second, or in version 2 the first."""


def looks_like_swin(state: Mapping[str, Tensor]) -> bool:
    """Return whether a state dict is named like torchvision's Swin transformers."""
    found, _ = split_normaliser(innermost(state))
    return any(table in found for table in _TABLES.values())


def build_swin(state: Mapping[str, Any], options: Mapping[str, Any]) -> Classifier:
    """Return the eval-mode float32 classifier of a state dict, its normalisation inside.

    Parameters
    ----------
    state : mapping of str to Tensor
        Named as by torchvision; also in a container such as ``{"model": ...}``.
    options : mapping
        ``image_size`` and ``resize`` are for the card; ``mean`` and ``std``, where the file has no
        normaliser (default those of ImageNet), and ``clamp``.

    Returns
    -------
    Classifier
        Its ``model`` is a :class:`~napari_cvsuite.models.swin_classifier.SwinTransformer`.

    Raises
    ------
    WeightsError
        The weights are not those of a Swin, or an option is unknown.
    """
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise WeightsError(
            f"Swin transformers have no options {', '.join(unknown)}; correct the card."
        )
    found, inside = split_normaliser(innermost(state))
    # On the meta device no weights are allocated and the user's random state is left alone.
    with torch.device("meta"):
        made = SwinTransformer(_config(found))
    expected = made.state_dict()
    # Tables follow from the sizes, and files may leave them out.
    found |= dict(made.named_buffers())
    require_layout(found, expected, "Swin transformer's", USE)
    return filled(made, found, inside, options)


def swin_fields(state: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a model card that the weights show; see :func:`build_swin`.

    Weights do not show the size of the images: the default is that at which the last stage is one
    window, as in the published networks (224 px with windows of 7, 256 px with windows of 8).
    """
    made = build_swin(state, options).model
    assert isinstance(made, SwinTransformer)
    sizes = made.config
    merged = 2 ** (len(sizes.depths) - 1)
    side = options.get("image_size", sizes.window * sizes.patch * merged)
    if type(side) is not int or side < sizes.patch * merged:
        raise WeightsError(
            f"image_size must be a number of pixels from {sizes.patch * merged}; got {side!r}"
        )
    return {
        "task": "classification",
        # Large images are brought to a little more than is seen, as in most evaluations.
        "options": {"image_size": side, "resize": round(side * 256 / 224)},
        "classes": [f"class {number}" for number in range(sizes.classes)],
        "input": InputSpec(mode="resize", tile=side, normalisation="unit"),
    }


def _config(state: Mapping[str, Tensor]) -> SwinConfig:
    """Return what the shapes of a state dict imply; raises WeightsError where one is missing."""
    stages: list[set[str]] = []
    while blocks := _blocks(state, 2 * len(stages) + 1):
        stages.append(blocks)
    version = 2 if _TABLES[2] in state else 1
    try:
        # A window of w has 2w - 1 differences of places along each side.
        table = state[_TABLES[version]]
        span = table.shape[1] if version == 2 else math.isqrt(table.shape[0])
        heads = [
            state[f"features.{2 * stage + 1}.0.attn.{_HEADS[version]}"].shape[2 - version]
            for stage in range(len(stages))
        ]
        width, _, patch, _ = state["features.0.0.weight"].shape
        inner, classes = (
            state[key].shape[0] for key in ("features.1.0.mlp.0.weight", "head.weight")
        )
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(f"The file is not a whole Swin transformer: {error}. {USE}") from error
    for stage, count in enumerate(heads):
        if not count or width * 2**stage % count:
            raise WeightsError(
                f"The file is not for a Swin transformer: {count} heads do not divide "
                f"{width * 2**stage} channels. {USE}"
            )
    depths = tuple(len(blocks) for blocks in stages)
    window = (span + 1) // 2
    return SwinConfig(version, patch, width, depths, tuple(heads), window, inner, classes)


def _blocks(state: Mapping[str, Tensor], place: int) -> set[str]:
    prefix = f"features.{place}."
    return {key.split(".")[2] for key in state if key.startswith(prefix)}
