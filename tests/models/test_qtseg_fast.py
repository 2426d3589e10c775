"""The prediction form equals the plain network, within the conformance tolerances."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from kits import load_rule
from torch import Tensor, nn

from napari_cvsuite.models.qtseg import QTSeg, QTSegConfig, build
from napari_cvsuite.models.qtseg_fast import FastQTSeg, fuse


class Lazy(nn.Module):
    """The plain network's keys; the prediction form's answers."""

    def __init__(self, plain: QTSeg) -> None:
        super().__init__()
        self.plain, self.held = plain, {}

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.plain.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self.held.clear()
        return self.plain.load_state_dict(*args, **kwargs)

    def forward(self, x: Tensor) -> Any:
        if not self.held:
            self.held["fast"] = fuse(self.plain)
        return self.held["fast"](x)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2])
def test_conformance(count: int, threads: None) -> None:
    rule = load_rule("qtseg")
    torch.set_num_threads(count)
    rows = rule.compare(lambda k, n: Lazy(build(k, n)), rule.load_vectors(), verbose=False)
    assert len(rows) > 13
    assert not [row for row in rows if not row["ok"]]


@pytest.fixture(scope="module")
def plain() -> QTSeg:
    torch.manual_seed(0)
    return build(2, 8)


@pytest.mark.parametrize("bridge", ["MLFD", "Identity"])
@torch.no_grad()
def test_embedding_and_odd_sides(bridge: str) -> None:
    torch.manual_seed(0)
    model = QTSeg(QTSegConfig(num_classes=3, n_channel=8, bridge=bridge)).eval()
    x = torch.randn(2, 3, 70, 100)
    want, got = model(x), fuse(model)(x, embedding=True)
    for a, b in zip(want, got, strict=True):
        assert b is not None and a.shape == b.shape
        assert (a - b).abs().max() < 1e-4 * a.std()


def test_leaves_the_plain_model_alone(plain: QTSeg) -> None:
    before = copy.deepcopy(plain.state_dict())
    fast = fuse(plain)
    assert not any(p.requires_grad for p in fast.parameters())
    assert all(p.requires_grad for p in plain.parameters())
    assert all(torch.equal(v, before[k]) for k, v in plain.state_dict().items())
    shared = {p.data_ptr() for p in plain.parameters()} & {p.data_ptr() for p in fast.parameters()}
    assert not shared


def test_check_ends_a_call(plain: QTSeg) -> None:
    class Cancelled(Exception):
        pass

    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 20:
            raise Cancelled

    fast = fuse(plain)
    with pytest.raises(Cancelled):
        fast(torch.zeros(1, 3, 64, 64), check=check)
    assert fast.check is None and fast(torch.zeros(1, 3, 64, 64))[1] is None


def test_only_predicts_and_copies(plain: QTSeg) -> None:
    fast = fuse(plain)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(copy.deepcopy(fast)(x)[0], fast(x)[0])
    with pytest.raises(RuntimeError, match="plain"):
        fast.train()


def test_threads_share_one_network(plain: QTSeg) -> None:
    fast: FastQTSeg = fuse(plain)
    inputs = [torch.randn(1, 3, 32 * (1 + i % 3), 64) for i in range(6)]
    want = [plain(x)[0] for x in inputs]
    got: dict[int, Tensor] = {}

    def work(i: int) -> None:
        got[i] = fast(inputs[i])[0]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all((got[i] - w).abs().max() < 1e-4 * w.std() for i, w in enumerate(want))


def test_bfloat16_runs(plain: QTSeg) -> None:
    x = torch.randn(1, 3, 64, 64)
    logits = fuse(plain).to(torch.bfloat16)(x.to(torch.bfloat16))[0]
    want = plain(x)[0]
    assert (logits.float() - want).abs().mean() < 0.1 * want.std()
