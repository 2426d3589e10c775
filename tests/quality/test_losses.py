"""Losses: values of the conformance kit, and arithmetic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_cvsuite.quality import losses

KIT = Path(__file__).parents[1] / "conformance" / "topiq" / "vectors.json"


def _kit() -> tuple[dict[str, float], Tensor, Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(7)
    drawn = [
        torch.from_numpy(rng.normal(size=shape)) for shape in ((8, 1), (8, 1), (4, 10), (4, 10))
    ]
    p, t, d1, d2 = drawn
    stated = json.loads(KIT.read_text())["training"]["losses"]
    return stated, p[:, 0], t[:, 0], d1.softmax(dim=1), d2.softmax(dim=1)


@pytest.mark.parametrize(
    ("name", "key"),
    [("nin_loss", "nin_p1_q2(P,T)"), ("plcc_loss", "plcc(P,T)"), ("rank_loss", "rank(P,T)")],
)
def test_batch_losses_have_the_values_of_the_kit(name: str, key: str) -> None:
    stated, p, t, _, _ = _kit()
    assert float(getattr(losses, name)(p, t)) == pytest.approx(stated[key], abs=1e-9)


def test_earth_movers_distance_has_the_value_of_the_kit() -> None:
    stated, _, _, one, other = _kit()
    assert float(losses.emd_loss(one, other)) == pytest.approx(stated["emd_r2(D1,D2)"], abs=1e-9)


def test_a_linear_function_of_the_target_costs_nothing() -> None:
    t = torch.tensor([0.1, 0.5, 0.2, 0.9])
    for loss in (losses.nin_loss, losses.plcc_loss, losses.rank_loss):
        assert float(loss(3 * t + 1, t)) == pytest.approx(0, abs=1e-6)
    assert float(losses.plcc_loss(-t, t)) == pytest.approx(1, abs=1e-6)


def test_equal_scores_have_a_gradient_without_nan() -> None:
    scores = torch.full((4,), 0.5, requires_grad=True)
    for loss in (losses.nin_loss, losses.plcc_loss, losses.rank_loss):
        loss(scores, torch.arange(4.0)).backward()
    assert scores.grad is not None and torch.isfinite(scores.grad).all()


def test_order_loss_by_hand() -> None:
    levels = torch.tensor([[0.0, 1.0, 3.0]])
    # Pairs fall by 0.5, 0.0 and -0.5 where 0.1, 0.3 and 0.2 are asked for.
    scores = torch.tensor([[1.0, 0.5, 1.0]])
    assert float(losses.order_loss(scores, levels, 0.1)) == pytest.approx((0 + 0.3 + 0.7) / 3)
    falling = torch.tensor([[1.0, 0.8, 0.1]])
    assert float(losses.order_loss(falling, levels, 0.1)) == 0
    assert float(losses.order_loss(falling[:0], levels[:0], 0.1)) == 0
