"""What is known of two networks: one trained on digits, and one as large as ViT-B/16."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kits import KITS
from torch import Tensor

from napari_cvsuite.models.vit import VisionTransformer, build
from napari_cvsuite.paths import combine, decompose, intervene, views


@pytest.fixture(scope="module")
def digits() -> tuple[VisionTransformer, Tensor, Tensor]:
    """The kit's network of digits, and the 540 test images that it never saw."""
    datasets = pytest.importorskip(
        "sklearn.datasets", reason="the digits come with scikit-learn, which is not installed"
    )
    kit: dict[str, Any] = torch.load(KITS / "vit_paths" / "vit_digits_l4.pt", weights_only=True)
    model = build(kit["cfg"])
    model.load_state_dict(kit["state_dict"])
    loaded = datasets.load_digits()
    pixels = torch.from_numpy(loaded.images[kit["test_index"]] / 16).float()
    images = ((pixels - kit["mean"]) / kit["std"])[:, None].repeat(1, 3, 1, 1)
    return model, images, torch.from_numpy(loaded.target[kit["test_index"]])


def _points(logits: Tensor, labels: Tensor) -> Tensor:
    """Accuracy in percent, over the last image axis."""
    return (logits.argmax(dim=-1) == labels).double().mean(dim=-1) * 100


def test_short_paths_matter_as_inputs_and_hardly_as_votes(
    digits: tuple[VisionTransformer, Tensor, Tensor],
) -> None:
    model, images, labels = digits
    paths = decompose.collect(model, images)
    base = _points(paths.logits, labels)
    assert base >= 98
    totals = _points(intervene.total(model, paths, "total_module"), labels)
    assert base - totals[:2].min() >= 15
    removed = _points(intervene.removed_final(model, paths), labels)
    assert (base - removed[:-1] <= 1).all()
    rows = combine.rows_from(model, paths, labels)
    assert base - _points(combine.final_from_layer(model, rows), labels)[2] <= 1
    lens = _points(views.logit_lens(model, paths), labels)
    assert lens[-1] == base and lens[0] < 20
    assert decompose.residual(model, paths) <= 5e-6


@pytest.mark.parametrize("pool", ["token", "avg_norm_before"])
def test_the_digits_network_loads_without_the_digits(pool: str) -> None:
    kit = torch.load(KITS / "vit_paths" / "vit_digits_l4.pt", weights_only=True)
    model = build({**kit["cfg"], "pool": pool})
    model.load_state_dict(kit["state_dict"])
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    paths = decompose.collect(model, x)
    assert decompose.residual(model, paths) <= 5e-6 * max(1, float(paths.logits.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["token", "avg_norm_after", "avg_norm_before"])
def test_a_network_as_large_as_vit_b_16(pool: str) -> None:
    torch.manual_seed(0)
    model = build(
        {
            "image_size": 224,
            "patch_size": 16,
            "hidden_dim": 768,
            "num_layers": 12,
            "num_heads": 12,
            "mlp_dim": 3072,
            "num_classes": 1000,
            "pool": pool,
        }
    ).requires_grad_(False)
    # The size that makes logits of 1 to 5, as trained networks have.
    torch.nn.init.normal_(model.heads.head.weight, std=768**-0.5)  # type: ignore[arg-type]
    x = torch.randn(1, 3, 224, 224)
    paths = decompose.collect(model, x)
    with torch.no_grad():
        assert torch.equal(paths.logits, model(x))
    assert 1 < paths.logits.abs().max() < 8
    assert decompose.residual(model, paths) <= 5e-6
    heads = decompose.head_direct(model, paths)
    both = heads.sum(dim=1) + decompose.bias_direct(model, paths)
    attention = decompose.direct(model, paths)[1:-1:2]
    torch.testing.assert_close(both, attention, rtol=0, atol=5e-6)
    sources = decompose.head_source_direct(model, paths, 11)
    torch.testing.assert_close(sources.sum(dim=1), heads[11], rtol=0, atol=5e-6)
    whole = decompose.source_direct(model, paths, [0, 999])
    torch.testing.assert_close(whole.sum(dim=1), heads.sum(dim=1)[..., [0, 999]], rtol=0, atol=5e-6)
