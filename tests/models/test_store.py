from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from napari_cvsuite.models.catalog import InputSpec, ModelCard, WeightFile
from napari_cvsuite.models.qtseg import QTSeg, build
from napari_cvsuite.models.store import (
    ModelStore,
    ShiftedDecision,
    build_model,
    default_store,
)
from napari_cvsuite.models.weights import WeightsError, import_file

SIZE = 4 * 100


def card(name: str) -> ModelCard:
    file = WeightFile(f"{name}.safetensors", "0" * 64, 1)
    return ModelCard(name, "t", "toy", InputSpec(), ("a",), "MIT", file)


class Maker:
    def __init__(self, delay: float = 0.0, fail: bool = False) -> None:
        self.built: list[str] = []
        self.delay, self.fail = delay, fail

    def __call__(self, card: ModelCard, form: str) -> nn.Module:
        self.built.append(card.name)
        time.sleep(self.delay)
        if self.fail:
            raise WeightsError("no")
        return nn.Linear(10, 10, bias=False)


def test_threads_share_one_load() -> None:
    maker = Maker(0.1)
    store = ModelStore(SIZE, maker)
    gate = threading.Barrier(8)

    def work(_: int) -> int:
        gate.wait()
        with store.lease(card("a"), "cpu", "float32") as model:
            assert not model.training
            gate.wait()
            assert list(store.in_use().values()) == [8]
            gate.wait()
            return id(model)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(work, range(8)))) == 1
    assert maker.built == ["a"] and store.in_use() == {}


def test_failure_wakes_waiters_and_is_not_cached() -> None:
    maker = Maker(0.2, fail=True)
    store = ModelStore(SIZE, maker)

    def work(_: int) -> str:
        try:
            with store.lease(card("a"), "cpu", "float32"):
                return "lent"
        except WeightsError:
            return "failed"

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(work, range(4))) == {"failed"}
    maker.fail = False
    assert work(0) == "lent"


def test_eviction_spares_leased_and_takes_the_oldest() -> None:
    maker = Maker()
    store = ModelStore(2 * SIZE, maker)
    with store.lease(card("a"), "cpu", "float32"):
        for name in ("b", "c"):
            with store.lease(card(name), "cpu", "float32"):
                pass
        assert [k.name for k in store.loaded()] == ["a", "c"]
        store.evict_all()
        assert [k.name for k in store.loaded()] == ["a"]
    store.evict_all()
    assert not store.loaded() and maker.built == ["a", "b", "c"]


def test_too_large_a_model_goes_on_return() -> None:
    store = ModelStore(SIZE // 2, Maker())
    with store.lease(card("a"), "cpu", "float32"):
        assert len(store.loaded()) == 1
    assert not store.loaded()


def test_many_threads_under_pressure() -> None:
    store = ModelStore(2 * SIZE, Maker(0.001))

    def work(i: int) -> None:
        with store.lease(card("abcde"[i % 5]), "cpu", "float32") as model:
            assert model.weight.shape == (10, 10)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(300)))
    assert store.in_use() == {} and len(store.loaded()) <= 2


def test_exclusive_is_private_and_plain() -> None:
    store = ModelStore(SIZE, Maker())
    with (
        store.lease(card("a"), "cpu", "float32", "plain") as shared,
        store.lease(card("a"), "cpu", "float32", exclusive=True) as mine,
    ):
        assert mine is not shared and not mine.training
        assert all(p.requires_grad for p in mine.parameters())
        assert not any(p.requires_grad for p in shared.parameters())
    with pytest.raises(ValueError, match="form"), store.lease(card("a"), "cpu", "float32", "odd"):
        pass


def test_builds_qtseg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_CVSUITE_HOME", str(tmp_path))
    torch.save(build(2, 8).state_dict(), tmp_path / "n.pt")
    made = import_file(tmp_path / "n.pt")
    store = ModelStore(1 << 30, build_model)
    x = torch.rand(1, 3, 64, 64)
    with (
        store.lease(made, "cpu", "float32", "plain") as plain,
        store.lease(made, "cpu", "float32") as fast,
        torch.inference_mode(),
    ):
        assert isinstance(plain, QTSeg)
        torch.testing.assert_close(plain(x)[0], fast(x)[0], rtol=1e-3, atol=1e-3)
    with pytest.raises(WeightsError, match="Unknown architecture"):
        build_model(card("a"), "fast")
    assert default_store() is default_store()


def test_threshold_becomes_one_half() -> None:
    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            # Foreground probability 0.7 for two planes and for a single one.
            logit = torch.full_like(x[:, :1], math.log(0.7 / 0.3))
            planes = torch.cat([torch.zeros_like(logit), logit], dim=1)
            return (planes if x.shape[1] == 2 else logit), x

    shifted = ShiftedDecision(Constant(), 0.7)
    two, _ = shifted(torch.zeros(1, 2, 4, 4))
    assert torch.allclose(two.softmax(dim=1)[:, 1], torch.tensor(0.5))
    one, _ = shifted(torch.zeros(1, 1, 4, 4))
    assert torch.allclose(one.sigmoid(), torch.tensor(0.5))
