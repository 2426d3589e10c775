"""Infidelity, sensitivity, pointing and randomisation by closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kits import load_rule
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context
from napari_cvsuite.neurons.saliency import explain
from napari_cvsuite.neurons.sanity import (
    infidelity,
    max_sensitivity,
    pointing_game,
    randomisation,
    relevance_mass,
)
from napari_cvsuite.neurons.target import Target

rule = load_rule("robust_cnn")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Linear(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight * x).sum((1, 2, 3))[:, None]


def _cancelled() -> Context:
    token = CancelToken()
    token.cancel()
    return Context(token=token)


def test_the_gradient_of_a_linear_network_has_no_infidelity() -> None:
    weight = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0))
    network, images = Linear(weight).eval(), torch.rand(2, 3, 6, 6)
    true = infidelity(network, images, Target(0), weight.expand(2, -1, -1, -1), samples=20)
    assert true.shape == (2,) and true.max() < 1e-8
    # For a map of zeros it is the variance of w n, sigma^2 |w|^2.
    none = infidelity(network, images, Target(0), 0 * images, samples=4000, sigma=0.2, batch=500)
    assert none == pytest.approx([0.04 * float((weight**2).sum())] * 2, rel=0.1)


def test_sensitivity_of_a_constant_and_of_a_proportional_map() -> None:
    images = torch.full((2, 3, 8, 8), 0.5)
    assert max_sensitivity(lambda x: torch.ones_like(x), images).tolist() == [0, 0]
    found = max_sensitivity(lambda x: x, images, radius=0.1, samples=5)
    # |n| / |x|, with n uniform in 0.1: about 0.1 / sqrt(3) / 0.5, and below 0.1 / 0.5.
    assert found == pytest.approx([0.1 / math.sqrt(3) / 0.5] * 2, rel=0.1)
    assert np.array_equal(found, max_sensitivity(lambda x: x, images, radius=0.1, samples=5))


def test_sensitivity_of_a_networks_gradient() -> None:
    network, images = rule.torch_tiny("tiny_s"), torch.rand(2, 3, 12, 12)
    found = max_sensitivity(lambda x: explain(network, x, Target(1)).values, images)
    assert found.shape == (2,) and (found > 0).all()


def test_the_largest_pixel_points() -> None:
    relevance = torch.tensor([[0.0, 3.0], [2.0, -9.0]])
    assert pointing_game(relevance, torch.tensor([[0, 1], [0, 0]]))
    assert not pointing_game(relevance, torch.tensor([[1, 0], [1, 1]]))
    assert not pointing_game(torch.zeros(2, 2), torch.ones(2, 2))


def test_mass_counts_what_is_positive() -> None:
    relevance = torch.tensor([[1.0, 3.0], [4.0, -9.0]])
    assert relevance_mass(relevance, torch.tensor([[1, 0], [0, 1]])) == 1 / 8
    assert math.isnan(relevance_mass(-relevance.abs(), torch.ones(2, 2)))


@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 999))
def test_the_mass_in_and_outside_is_one(height: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    relevance = torch.randn(height, width, generator=generator)
    relevance[0, 0] = 1
    mask = torch.zeros(height, width)
    mask[: height // 2] = 1
    both = relevance_mass(relevance, mask) + relevance_mass(relevance, 1 - mask)
    assert both == pytest.approx(1) and relevance_mass(relevance, torch.ones_like(mask)) == 1


def test_a_map_of_the_image_alone_survives_randomisation_and_the_gradient_does_not() -> None:
    network, images = rule.torch_tiny("tiny_s"), torch.rand(1, 3, 12, 12)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    seen: list[int] = []

    def edges(changed: nn.Module) -> Tensor:
        seen.append(sum(not torch.equal(before[k], v) for k, v in changed.state_dict().items()))
        return images[0].mean(0)

    kept = randomisation(network, edges, layers=None)
    assert kept.layers == ("fc", "conv2", "conv1")
    assert kept.correlations == pytest.approx([1, 1, 1])
    # Weight and bias of one layer more each time.
    assert seen == [0, 2, 4, 6]
    found = randomisation(network, lambda one: explain(one, images, Target(0)).values, None)
    assert all(abs(value) < 0.9 for value in found.correlations)
    assert abs(found.correlations[-1]) < 0.4
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def test_randomised_weights_keep_mean_and_deviation() -> None:
    linear = nn.Linear(200, 100).eval()
    found: list[Tensor] = []

    def keep(changed: nn.Module) -> Tensor:
        found.append(changed.weight.detach().clone())
        return changed.weight

    with torch.no_grad():
        linear.weight.add_(0.5)
    result = randomisation(nn.Sequential(linear).eval(), lambda one: keep(one[0]), layers=1)
    assert result.layers == ("0",) and abs(result.correlations[0]) < 0.05
    assert float(found[1].mean()) == pytest.approx(float(found[0].mean()), rel=0.01)
    assert float(found[1].std()) == pytest.approx(float(found[0].std()), rel=0.02)


def test_a_constant_map_correlates_with_nothing() -> None:
    network = rule.torch_tiny("tiny_s")
    found = randomisation(network, lambda one: torch.zeros(3, 3))
    assert found.layers == ("fc",) and math.isnan(found.correlations[0])


def test_mistakes_are_named() -> None:
    network, images = rule.torch_tiny("tiny_s"), torch.rand(1, 3, 12, 12)
    with pytest.raises(ValueError, match="as a gradient has"):
        infidelity(network, images, Target(0), torch.rand(1, 12, 12))
    with pytest.raises(ValueError, match="draw the object"):
        pointing_game(torch.rand(4, 4), torch.zeros(4, 4))
    with pytest.raises(ValueError, match="enlarge it"):
        relevance_mass(torch.rand(4, 4), torch.ones(5, 5))
    with pytest.raises(ValueError, match="needs weights"):
        randomisation(nn.ReLU().eval(), lambda one: images)
    with pytest.raises(ValueError, match="layers 1 on"):
        randomisation(network, lambda one: images, layers=0)


def test_they_can_be_cancelled() -> None:
    network, images = rule.torch_tiny("tiny_s"), torch.rand(1, 3, 12, 12)
    with pytest.raises(Cancelled):
        infidelity(network, images, Target(0), images, context=_cancelled())
    with pytest.raises(Cancelled):
        max_sensitivity(lambda x: x, images, context=_cancelled())
    with pytest.raises(Cancelled):
        randomisation(network, lambda one: images, context=_cancelled())
