"""Shape bias: the kit, published counts, and small arithmetic."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from kits import KITS, load_rule

from napari_cvsuite.neurons.shape_bias import (
    PEOPLE,
    BiasCount,
    categories16,
    categories_of,
    count_decisions,
    decide,
    parse_name,
    shape_bias,
)

rule = load_rule("robust_cnn")
GOLDEN = json.loads((KITS / "robust_cnn" / "shape_bias_golden.json").read_text())
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
TWO = {"cat": (0, 1), "dog": (2,)}


def test_the_kit() -> None:
    def bias(case: dict[str, Any]) -> dict[str, Any]:
        logits = torch.from_numpy(case["logits"])
        total = shape_bias(logits, case["files"]).total
        assert total.bias is not None
        return {
            "decision": decide(logits),
            "counts": [total.n, total.n_shape, total.n_texture],
            "bias": [total.bias.value],
        }

    rule.check({"shape_bias": bias})


def test_the_packaged_categories() -> None:
    assert dict(categories16()) == {k: tuple(v) for k, v in rule.categories16().items()}
    assert tuple(categories16()) == rule.CATEGORIES
    numbers = [index for indices in categories16().values() for index in indices]
    assert len(numbers) == len(set(numbers)) == 207


def _stimuli() -> list[str]:
    """Return the 1,280 names: ten shapes of a category by eight textures."""
    names = []
    for shape, texture in itertools.product(rule.CATEGORIES, repeat=2):
        names += [f"{shape}{number}-{texture}{number}.png" for number in range(1, 6)]
    return names


@pytest.mark.parametrize("row", GOLDEN["rows"], ids=lambda row: row["who"])
def test_published_counts(row: dict[str, Any]) -> None:
    """The published responses, dealt to stimuli: recorded numbers are counted and divided."""
    decisions, left = [], [row["n_shape"], row["n_texture"]]
    for shape, texture in map(parse_name, _stimuli()):
        if shape == texture:
            decisions.append(shape)
            continue
        third = next(name for name in rule.CATEGORIES if name not in (shape, texture))
        which = 0 if left[0] else 1 if left[1] else 2
        decisions.append((shape, texture, third)[which])
        left = [left[0] - (which == 0), left[1] - (which == 1)]
    found = count_decisions(_stimuli(), decisions)
    assert found.total == BiasCount(row["n"], row["n_shape"], row["n_texture"])
    assert found.left_out == 80
    assert found.total.bias is not None
    assert found.total.bias.value == pytest.approx(row["bias"], abs=5e-5)
    assert found.total.shape_share == row["n_shape"] / 1200
    assert found.total.texture_share == row["n_texture"] / 1200
    parts = found.by_shape.values()
    assert tuple(found.by_shape) == rule.CATEGORIES and {one.n for one in parts} == {75}
    assert sum(one.n_shape for one in parts) == row["n_shape"]


def test_pooled_people() -> None:
    people = [row for row in GOLDEN["rows"] if row["kind"] == "human"]
    shape, texture, n = (sum(r[key] for r in people) for key in ("n_shape", "n_texture", "n"))
    pooled = BiasCount(n, shape, texture)
    assert (n, shape, texture) == (12000, 9236, 398)
    assert pooled.bias is not None and round(pooled.bias.value, 3) == 0.959
    assert pooled.bias.low < 0.959 < pooled.bias.high
    biases = [row["bias"] for row in people]
    assert (round(min(biases), 2), round(max(biases), 2)) == PEOPLE


def test_the_interval_at_its_ends() -> None:
    # Wilson's upper end of none in n is z^2 / (n + z^2).
    none = BiasCount(20, 0, 10).bias
    assert none is not None and none.value == none.low == 0
    assert none.high == pytest.approx(1.959964**2 / (10 + 1.959964**2))
    assert BiasCount(20, 0, 0).bias is None


def test_rules_weigh_many_classes_differently() -> None:
    # Probabilities .3 + .3 against .4: the sum prefers the cat, mean and largest the dog.
    logits = torch.tensor([[0.3, 0.3, 0.4]]).log()
    assert [int(decide(logits, TWO, how)) for how in ("mean", "sum", "max")] == [1, 0, 1]
    # .5 + 0 against .3: only the mean prefers the dog.
    logits = torch.tensor([[0.5, 1e-9, 0.3, 0.2]]).log()
    assert [int(decide(logits, TWO, how)) for how in ("mean", "sum", "max")] == [1, 0, 0]


def test_a_user_s_own_categories() -> None:
    files = ["cat1-dog1.png", "dog1-cat2.png", "cat2-cat3.png", "cat1-bear1.png", "dog2-cat1.png"]
    logits = torch.tensor([[9.0, 9, 0], [9, 9, 0], [9, 9, 0], [9, 9, 0], [0, 0, 9]])
    found = shape_bias(logits, files, TWO)
    assert found.total == BiasCount(3, 2, 1) and found.left_out == 2
    assert found.by_shape == {"cat": BiasCount(1, 1, 0), "dog": BiasCount(2, 1, 1)}


def test_the_seven_categories_of_cifar() -> None:
    assert categories_of(CIFAR10) == {
        "airplane": (0,),
        "bird": (2,),
        "boat": (8,),
        "car": (1,),
        "cat": (3,),
        "dog": (5,),
        "truck": (9,),
    }
    with pytest.raises(ValueError, match="which classes belong"):
        categories_of(["nevus", "melanoma", "Cat"])


def test_names() -> None:
    assert parse_name("some/folder/cat7-elephant12.png") == ("cat", "elephant")
    assert parse_name("Cell_a7-Cell_b1.PNG") == ("cell_a", "cell_b")
    for wrong in ("cat7.png", "cat-dog.png", "cat7-dog1.jpg", ""):
        with pytest.raises(ValueError, match="cat7-elephant1"):
            parse_name(wrong)


@pytest.mark.parametrize(
    ("logits", "categories", "how", "message"),
    [
        (torch.zeros(1, 3), TWO, "median", "mean, sum, max"),
        (torch.zeros(1, 10), None, "mean", "network of other classes"),
        (torch.zeros(1, 3), {"cat": (0,), "dog": ()}, "mean", "'dog'"),
        (torch.zeros(1, 3), {"cat": (0,)}, "mean", "two categories"),
        (torch.zeros(3), TWO, "mean", "one row an image"),
        (torch.zeros(0, 3), TWO, "mean", "one row an image"),
        (torch.full((1, 3), float("nan")), TWO, "mean", "finite"),
    ],
)
def test_bad_logits(
    logits: torch.Tensor, categories: Mapping[str, Any] | None, how: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        decide(logits, categories, how)


def test_bad_files() -> None:
    with pytest.raises(ValueError, match="1 decisions for 2 files"):
        count_decisions(["cat1-dog1.png", "dog1-cat1.png"], ["cat"])
    with pytest.raises(ValueError, match="no image"):
        count_decisions(["cat1-cat2.png"], ["cat"])
