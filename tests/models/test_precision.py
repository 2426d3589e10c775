"""Tests of the gate before reduced precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from kits import load_rule
from torch import nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.catalog import Catalogue, InputSpec, ModelCard, WeightFile
from napari_cvsuite.models.precision import (
    AGREEMENT,
    agreement,
    forget_precisions,
    gated_precision,
)
from napari_cvsuite.models.qtseg import build
from napari_cvsuite.models.qtseg_fast import fuse
from napari_cvsuite.models.store import ModelStore, default_store

rule = load_rule("qtseg")


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    forget_precisions()
    yield
    forget_precisions()
    default_store().evict_all()


def _card(sha256: str, tile: int = 256) -> ModelCard:
    file = WeightFile("m.safetensors", sha256, 1)
    return ModelCard("m", "segmentation", "qtseg", InputSpec(tile=tile), ("a", "b"), "MIT", file)


def test_stress_weights_are_refused_and_it_is_said_each_time() -> None:
    def make(card: ModelCard, form: str) -> nn.Module:
        model = build(2, 16)
        rule.apply_rule(model, rule.STRESS_GAMMA)
        return fuse(model)

    store, said = ModelStore(1 << 30, make), []
    context = Context(on_warning=said.append)
    for _ in range(2):
        assert gated_precision(store, _card("0" * 64), "cpu", "bfloat16", context) == "float32"
    assert len(said) == 2 and "float32" in said[0] and "99.50%" in said[0]


def test_the_built_in_network_bears_bfloat16() -> None:
    said: list[str] = []
    context = Context(on_warning=said.append)
    card = Catalogue().get("qtseg-nuclei")
    assert gated_precision(default_store(), card, "cpu", "bfloat16", context) == "bfloat16"
    assert said == []


def test_calm_weights_change_less_than_stressed_ones() -> None:
    shares = []
    for gamma in (rule.CALM_GAMMA, rule.STRESS_GAMMA):
        model = build(2, 16)
        rule.apply_rule(model, gamma)
        shares.append(agreement(model.eval(), rule.make_input("calm", 1, 256, 256), "bfloat16"))
    # Measured for the reference: 99.4 to 99.7 % and 95.5 to 96 %.
    assert shares[0] > 0.99 > shares[1]


class _Planes(nn.Module):
    """Two planes whose difference has a sign that bfloat16 cannot keep, or overflows."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.calls = 0

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        self.calls += 1
        weight = torch.full((2, x.shape[1], 1, 1), self.factor)
        weight[0] *= -1
        return nn.functional.conv2d(x, weight), None


def test_compared_once_for_each_file_device_and_precision() -> None:
    planes = _Planes(1.0)
    store = ModelStore(1 << 20, lambda card, form: planes)
    for sha256 in ("1" * 64, "2" * 64):
        for _ in range(3):
            assert gated_precision(store, _card(sha256, 64), "cpu", "bfloat16") == "bfloat16"
    # One pass in each precision for each of two files.
    assert planes.calls == 4
    other = replace(_card("1" * 64, 64), name="renamed")
    assert gated_precision(store, other, "cpu", "bfloat16") == "bfloat16"
    assert planes.calls == 4


def test_float32_needs_no_comparison() -> None:
    def make(card: ModelCard, form: str) -> nn.Module:
        raise AssertionError("loaded for nothing")

    assert gated_precision(ModelStore(1, make), _card("3" * 64), "cpu", "float32") == "float32"


def test_overflow_counts_as_no_agreement() -> None:
    picture = torch.ones(1, 3, 64, 64)
    # 3e5 is finite in float32 and above 65504, the largest float16.
    assert agreement(_Planes(1e5), picture, "float16") == 0.0
    assert agreement(_Planes(1.0), picture, "bfloat16") == 1.0 >= AGREEMENT
