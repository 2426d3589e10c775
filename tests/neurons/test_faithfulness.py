"""Curves against the kit and by hand; a random map is always beside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kits import load_rule
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context
from napari_cvsuite.neurons.faithfulness import deletion_insertion, faithfulness
from napari_cvsuite.neurons.target import Target

rule = load_rule("robust_cnn")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Two(nn.Module):
    """Logits w x and 0, so that the probability is a logistic curve."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        score = (self.weight * x).sum((1, 2, 3))
        return torch.stack([score, torch.zeros_like(score)], 1)


def _kit(case: dict[str, Any]) -> dict[str, Any]:
    found = deletion_insertion(
        rule.torch_tiny(case["net"]),
        torch.from_numpy(case["x"])[0],
        Target(case["target"]),
        torch.from_numpy(case["order"]),
        torch.from_numpy(case["blurred"])[0],
        case["steps"],
        batch=5,
    )
    return {
        "deletion": found.deletion,
        "insertion": found.insertion,
        "auc": [found.deletion_auc, found.insertion_auc],
    }


def test_the_kit() -> None:
    rule.check({"deletion_insertion": _kit})


def test_by_hand_for_a_class_a_difference_and_a_neuron() -> None:
    weight = torch.zeros(3, 2, 2)
    weight[0] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    network, image = nn.Sequential(Two(weight)).eval(), torch.ones(3, 2, 2)
    black = torch.zeros(3, 2, 2)
    scores = np.array([10.0, 6, 3, 1, 0])
    chance = 1 / (1 + np.exp(-scores))
    for target, want in (
        (Target(0), chance),
        (Target(0, minus=1), chance),
        (Target(layer="0", channel=0), scores),
    ):
        found = deletion_insertion(network, image, target, weight[0], black, steps=4)
        np.testing.assert_allclose(found.deletion, want, rtol=1e-6)
        np.testing.assert_allclose(found.insertion, np.append(want[-1], _inserted(want)), rtol=1e-6)
        assert found.share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.deletion_auc == pytest.approx((10 / 2 + 6 + 3 + 1 + 0) / 4)


def _inserted(deleted: np.ndarray) -> np.ndarray:
    """Scores 4, 7, 9, 10 or their logistic, for deleted 6, 3, 1, 0."""
    scores = np.array([4.0, 7, 9, 10])
    return scores if deleted.max() > 1 else 1 / (1 + np.exp(-scores))


def test_a_true_map_beats_the_random_one_beside_it() -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(3, 10, 10, generator=generator) / 4
    network, image = Two(weight).eval(), torch.rand(3, 10, 10, generator=generator)
    relevance = (weight * image).sum(0)
    found = faithfulness(network, image, Target(0), relevance, steps=20)
    assert found.map.deletion_auc < found.random.deletion_auc - 0.05
    assert found.map.insertion_auc > found.random.insertion_auc + 0.05
    assert found.map.deletion[0] == found.random.deletion[0] == found.map.insertion[-1]
    again = faithfulness(network, image, Target(0), relevance, steps=20)
    other = faithfulness(network, image, Target(0), relevance, steps=20, seed=1)
    assert np.array_equal(again.random.deletion, found.random.deletion)
    assert not np.array_equal(other.random.deletion, found.random.deletion)


def test_insertion_begins_with_a_blurred_image() -> None:
    flat = torch.full((3, 20, 20), 0.3)
    weight = torch.full((3, 20, 20), 0.01)
    found = deletion_insertion(Two(weight).eval(), flat, Target(0), torch.rand(20, 20), steps=3)
    # A blur leaves an even image as it is.
    np.testing.assert_allclose(found.insertion, 1 / (1 + np.exp(-3.6)), rtol=1e-5)
    half = torch.zeros(3, 20, 20)
    half[:, :, 10:] = 1
    edge = torch.zeros(3, 20, 20)
    edge[0, 10, 9] = 10
    soft = deletion_insertion(Two(edge).eval(), half, Target(0), torch.rand(20, 20), steps=1)
    # One pixel beside an edge, blurred by a deviation of 1 pixel: the share of the normal
    # distribution, in whole pixels, that lies beyond it.
    taps = np.exp(-0.5 * np.arange(-4, 5) ** 2)
    want = taps[5:].sum() / taps.sum()
    assert soft.insertion[0] == pytest.approx(1 / (1 + np.exp(-10 * want)), rel=1e-5)


def test_mistakes_are_named() -> None:
    network, image = rule.torch_tiny("tiny_s"), torch.rand(3, 12, 12)
    good = torch.rand(12, 12)
    for change, message in (
        ({"relevance": torch.rand(3, 12, 12)}, "mean over RGB"),
        ({"relevance": torch.full((12, 12), float("nan"))}, "not finite"),
        ({"steps": 0}, "1 to 144 steps"),
        ({"steps": 145}, "1 to 144 steps"),
        ({"target": Target(11)}, "class 11"),
        ({"image": torch.rand(12, 12)}, "B x 3 x H x W"),
        ({"blurred": torch.rand(3, 6, 6)}, "the blurred image is"),
    ):
        given = {"image": image, "target": Target(0), "relevance": good} | change
        with pytest.raises(ValueError, match=message):
            faithfulness(network, **given)


def test_it_reports_progress_and_can_be_cancelled() -> None:
    network, image = rule.torch_tiny("tiny_s"), torch.rand(3, 12, 12)
    seen: list[float] = []
    context = Context(on_progress=lambda progress: seen.append(progress.done / progress.total))
    faithfulness(network, image, Target(0), torch.rand(12, 12), steps=40, context=context)
    assert seen == sorted(seen) and seen[0] == 0 and 0.9 < seen[-1] < 1
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        faithfulness(
            network, image, Target(0), torch.rand(12, 12), steps=4, context=Context(token=token)
        )
