"""Small transformers with random weights in every part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_cvsuite.models.swin_classifier import SwinConfig, SwinTransformer
from napari_cvsuite.models.vit import VisionTransformer, build
from napari_cvsuite.models.weights import import_file

SMALL = {
    "image_size": 16,
    "patch_size": 4,
    "hidden_dim": 48,
    "num_layers": 4,
    "num_heads": 3,
    "mlp_dim": 96,
    "num_classes": 10,
}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "norm after average": {"pool": "avg_norm_after"},
    "norm before average": {"pool": "avg_norm_before", "registers": 2},
    "no class token": {"pool": "avg_norm_before", "class_token": False},
    "distilled": {"distilled": True},
    "registers": {"registers": 3, "embed_prefix": False},
    "layer scale": {"layer_scale": True, "qk_norm": True},
    "stem": {"stem": ((8, 2), (16, 2))},
    "tanh": {"pre_logits": 20},
    "weighed at the end": {"ensemble_scale": "scalar", "layer_scale": True},
    "weighed by channel": {"ensemble_scale": "channel", "distilled": True},
    "weighed stream": {"ensemble_scale": "channel", "placement": "stream", "layer_scale": True},
}
"""What each kind of network adds to :data:`SMALL`."""
Maker = Callable[..., VisionTransformer]


def made(kind: str = "plain", **fields: Any) -> VisionTransformer:
    """Return a network of a kind whose parameters, scales and biases too, are all random."""
    model = build({**SMALL, **KINDS[kind], **fields})
    draw = torch.Generator().manual_seed(len(kind))
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=draw)
        around_one = name.endswith(("ln_1.weight", "ln_2.weight", "ln.weight", "norm.weight"))
        if around_one or "scale" in name or (parameter.ndim == 1 and "conv_bn" in name):
            parameter.data = 1 + 0.3 * noise
        elif parameter.ndim == 1:
            parameter.data = 0.1 * noise
        elif "token" in name or "pos_embedding" in name:
            parameter.data = 0.3 * noise
        else:
            parameter.data = noise / parameter[0].numel() ** 0.5
    return model.eval().requires_grad_(False)


@pytest.fixture
def network() -> Maker:
    """Return :func:`made`."""
    return made


@pytest.fixture(params=list(KINDS))
def each_kind(request: pytest.FixtureRequest) -> VisionTransformer:
    """One network of each kind in turn."""
    return made(request.param)


@pytest.fixture
def x() -> Tensor:
    """Two normalised images."""
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tiny_swin(home: Path, tmp_path: Path) -> str:
    """Install a Swin of two stages that sees 16 x 16 pixels, and return its name."""
    torch.manual_seed(0)
    made = SwinTransformer(SwinConfig(1, 2, 8, (1, 1), (2, 2), 4, 16, 3))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    torch.save(made.state_dict(), tmp_path / "tiny-swin.pth")
    return import_file(tmp_path / "tiny-swin.pth", {"classes": ["cat", "dog", "bird"]}).name
