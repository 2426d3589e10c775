"""The same as the jobs, done step by step with the parts of the network itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_cvsuite.images import Image
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.models.store import default_store
from napari_cvsuite.models.vit import VisionTransformer

PIXELS = np.random.default_rng(0).integers(0, 255, (3, 40, 50), np.uint8)
"""A stack of three slices."""


def stack() -> Image:
    """Return the stack as an image."""
    return Image.from_array(PIXELS, name="stack")


def network_of(name: str) -> Any:
    """Return a plain copy of an installed classifier."""
    with default_store().lease(Catalogue().get(name), "cpu", "float32", exclusive=True) as network:
        return network.requires_grad_(False)


def seen_tensor(pixels: Any) -> Tensor:
    """Return what was seen, S x S x 3, as one image of a batch."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]


def writes_of(model: VisionTransformer, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return what each path writes for normalised images, and the logits."""
    return run_with(model, x, {})


def run_with(
    model: VisionTransformer, x: Tensor, replaced: Mapping[int, Tensor | float]
) -> tuple[list[Tensor], Tensor]:
    """Run a network without EnsembleScale with some paths' writes replaced."""
    z = model.embed(x)
    z = z * 0 + replaced[0] if 0 in replaced else z
    writes = [z]
    for layer, block in enumerate(model.blocks):
        for number, part in ((2 * layer + 1, block.msa), (2 * layer + 2, block.ffn)):
            write = part(z) * 0 + replaced[number] if number in replaced else part(z)
            writes.append(write)
            z = z + write
    return writes, model.classify(z)
