"""The published network of TOPIQ: forward passes, intermediate maps, gradients, key layouts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from kits import KITS, load_rule
from torch import Tensor

from napari_cvsuite.models.topiq import CFANet, build
from napari_cvsuite.models.topiq_fast import FastCFANet, fuse

rule = load_rule("topiq")
VECTORS = json.loads((KITS / "topiq" / "vectors.json").read_text())
LAYOUTS = json.loads((KITS / "topiq" / "state_dict_keys.json").read_text())
CASES = VECTORS["cases"]
SMALL = 60_000
"""Pixels up to which a case is computed in float64, and by the prediction form, by default too."""


def _name(case: dict[str, Any]) -> str:
    return str(case["id"])


@pytest.fixture(scope="module")
def networks() -> Iterator[dict[str, CFANet]]:
    """Hold the last network; making one takes seconds, and many take gigabytes."""
    yield {}


def _network(held: dict[str, CFANet], case: dict[str, Any]) -> CFANet:
    key = json.dumps(case["options"], sort_keys=True)
    if key not in held:
        held.clear()
        held[key] = rule.fill(build(case["options"]))
    return held[key]


def _pixels(case: dict[str, Any]) -> int:
    batch, _, height, width = case["shape"]
    return int(batch * height * width)


def test_the_kit_is_whole() -> None:
    rule.self_test(VECTORS)
    assert len(CASES) == 31


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_scores_in_single_precision(case: dict[str, Any], networks: dict[str, CFANet]) -> None:
    network = _network(networks, case).float()
    outputs, _ = rule.record(network, rule.inputs_for(case), [], **case["call"])
    wrong = [row for row in rule.compare(case, outputs, {}, tol=2e-5) if "output" in row[0]]
    assert not wrong


LARGE_ARE_SLOW = [
    pytest.param(case, marks=[] if _pixels(case) <= SMALL else [pytest.mark.slow]) for case in CASES
]


@pytest.fixture(scope="module")
def fast_networks() -> Iterator[dict[str, FastCFANet]]:
    """Hold the last network of the prediction form."""
    yield {}


@pytest.mark.parametrize("case", LARGE_ARE_SLOW, ids=_name)
def test_scores_of_the_prediction_form(
    case: dict[str, Any], fast_networks: dict[str, FastCFANet]
) -> None:
    key = json.dumps(case["options"], sort_keys=True)
    if key not in fast_networks:
        fast_networks.clear()
        fast_networks[key] = fuse(rule.fill(build(case["options"])))
    network = fast_networks[key]
    images, *others = rule.inputs_for(case)
    # A reference may be given as it is, or prepared.
    for given in [(images, *others), *((images, network.reference(y)) for y in others)]:
        outputs, _ = rule.record(network, given, [], **case["call"])
        assert rule.compare(case, outputs, {}, tol=2e-5) == []


@pytest.mark.parametrize("case", LARGE_ARE_SLOW, ids=_name)
def test_scores_in_double_precision(case: dict[str, Any], networks: dict[str, CFANet]) -> None:
    network = _network(networks, case).double()
    given = tuple(x.double() for x in rule.inputs_for(case))
    names = case.get("intermediate", {})
    outputs, maps = rule.record(network, given, names, **case["call"])
    assert rule.compare(case, outputs, {}, tol=1e-9, wants="outputs_f64") == []
    # The maps are on record in single precision; values of 10,000 and more meet sums near zero.
    assert set(maps) == set(names)
    assert rule.compare({"outputs": [], "intermediate": names}, [], maps, tol=1e-4) == []


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_keys_and_shapes(layout: dict[str, Any]) -> None:
    state = build(layout["options"]).state_dict()
    assert {k: (list(v.shape), str(v.dtype)) for k, v in state.items()} == {
        key: (shape, f"torch.{dtype}") for key, shape, dtype in layout["keys"]
    }


def _norm_in_norm(predicted: Tensor, wanted: Tensor) -> Tensor:
    p, t = ((v - v.mean()) / (v - v.mean()).norm() for v in (predicted, wanted))
    return (p - t).abs().sum() / (2 * len(p) ** 0.5)


@pytest.mark.parametrize("kind", ["nr", "fr"])
def test_one_step_of_training(kind: str) -> None:
    entry = VECTORS["training"][kind]
    network = rule.fill(build(entry["options"])).double().train()
    given = tuple(x.double() for x in rule.inputs_for(entry))
    outputs = network(*given).squeeze(1)
    assert outputs.tolist() == pytest.approx(entry["outputs"], abs=1e-9)
    wanted = torch.tensor(entry["targets"], dtype=torch.float64)
    mse, nin = (outputs - wanted).square().mean(), _norm_in_norm(outputs, wanted)
    assert mse.item() == pytest.approx(entry["mse"], abs=1e-9)
    assert nin.item() == pytest.approx(entry["nin"], abs=1e-9)
    (mse + nin).backward()
    parameters = dict(network.named_parameters())
    for name, norm in entry["grad_l2"].items():
        gradient = parameters[name].grad
        found = None if gradient is None else gradient.norm().item()
        assert found == (None if norm is None else pytest.approx(norm, rel=1e-6)), name
    trained = sum(p.numel() for p in parameters.values() if p.requires_grad)
    frozen = sum(p.numel() for p in parameters.values() if not p.requires_grad)
    assert (trained, frozen) == (entry["trainable"], entry["frozen"])
