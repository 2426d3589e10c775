"""The prediction form equals the plain network, within the conformance tolerances."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
import torch
from kits import load_rule
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context, use_context
from napari_cvsuite.models import topiq_fast
from napari_cvsuite.models.topiq import CFANet, build
from napari_cvsuite.models.topiq_fast import FastCFANet, fuse

rule = load_rule("topiq")
SMALL: dict[str, Any] = {
    "semantic_model_name": "resnet10_compact",
    "inter_dim": 16,
    "num_heads": 2,
    "gate_channels": 8,
}


def made(**options: Any) -> CFANet:
    """Return a network whose weights and statistics are those of the conformance rule."""
    network: CFANet = rule.fill(build({**SMALL, **options}))
    return network


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    reference = rule.make_image("ref", *shape)
    return rule.make_distorted(reference), reference


def same(network: CFANet, *given: Tensor) -> None:
    """Compare the outputs in single precision, and what is examined in double precision."""
    with torch.no_grad():
        want = network(*given, return_dist=True)
    close(want, fuse(network)(*given, return_dist=True), 2e-5)
    network, given = network.double(), tuple(x.double() for x in given)
    with torch.no_grad():
        seen = network.examine(*given)
    found = fuse(network).examine(*given)
    names = ("score", "logits", "strengths")
    close([getattr(seen, n) for n in names], [getattr(found, n) for n in names], 1e-9)


def close(want: Any, got: Any, bound: float) -> None:
    for a, b in zip(want, got, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert a.numel() == 0 or (a - b).abs().max() <= bound


@pytest.mark.parametrize("use_ref", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"semantic_model_name": "resnet18"},
        {"semantic_model_name": "resnet50"},
        {"num_class": 5},
        {"activation": "relu", "out_act": True},
        {"num_attn_layers": 2, "num_heads": 4, "distortions": 6},
        {"test_img_size": 48, "distortions": 3},
        {"num_crop": 5, "crop_size": 40, "distortions": 3},
        {"num_crop": 4, "crop_size": 90, "num_class": 3},
        {"fix_norms": False},
    ],
    ids=str,
)
def test_every_option(options: dict[str, Any], use_ref: bool) -> None:
    x, y = pair(2, 3, 70, 100)
    same(made(use_ref=use_ref, **options), *((x, y) if use_ref else (x,)))


@pytest.mark.slow
def test_swin_compares() -> None:
    torch.manual_seed(0)
    options = {**SMALL, "semantic_model_name": "swin_base_patch4_window12_384", "use_ref": True}
    plain = build(options)
    x, y = pair(2, 3, 70, 100)
    fast = fuse(plain)
    with torch.no_grad():
        want = plain(x, y)
    assert (fast(x, y) - want).abs().max() <= 2e-5
    assert (fast(x, fast.reference(y)) - want).abs().max() <= 2e-5


def test_returns_what_is_asked_for() -> None:
    fast = fuse(made(use_ref=False, num_class=3))
    x = torch.rand(1, 3, 64, 64)
    score, raw = fast(x, return_dist=True)
    assert torch.equal(fast(x), score) and score.shape == (1, 1)
    assert torch.equal(fast(x, return_mos=False, return_dist=True), raw) and raw.shape == (1, 3)
    assert torch.equal(fast.examine(x).score, score)


@pytest.mark.parametrize("use_ref", [False, True])
@pytest.mark.parametrize(
    "shape", [(2, 1, 1, 1), (1, 3, 2, 65), (1, 1, 31, 33), (1, 3, 16, 256), (1, 3, 257, 130)]
)
@pytest.mark.parametrize("scarce", [False, True])
def test_every_size_and_division(
    shape: tuple[int, ...], use_ref: bool, scarce: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if scarce:
        for name, values in (("PIECE", 1500), ("TILE", 12000), ("GROUP", 1)):
            monkeypatch.setattr(topiq_fast, name, values)
    x, y = pair(*shape)
    same(made(use_ref=use_ref), *((x, y) if use_ref else (x,)))


@pytest.fixture(scope="module")
def compares() -> CFANet:
    return made(use_ref=True)


@pytest.mark.parametrize("limit", [0, 200_000, 1 << 30])
def test_a_reference_is_seen_once(
    compares: CFANet, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = fuse(compares)
    x, y = pair(1, 3, 70, 100)
    many = torch.cat([x, y, x.flip(3)])
    with torch.no_grad():
        want = compares(many, y.expand_as(many))
    seen: list[int] = []
    fast.backbone.stem.register_forward_hook(lambda *given: seen.append(len(given[2])))
    reference = fast.reference(y, limit)
    held = 4 * sum(m.numel() for m in reference.maps or ())
    assert held <= limit and (held > 0) == (limit == 1 << 30)
    kept = copy.deepcopy(reference)
    seen.clear()
    for i in range(3):
        assert (fast(many[i : i + 1], reference) - want[i]).abs() <= 2e-5
    assert seen == [1] * (3 if held else 6)
    # One reference serves a batch, whether its images share a pass or not.
    assert (fast.examine(many, reference).score - want).abs().max() <= 2e-5
    monkeypatch.setattr(topiq_fast, "GROUP", 1)
    assert (fast(many, reference) - want).abs().max() <= 2e-5
    for a, b in zip(reference.maps or (), kept.maps or (), strict=True):
        assert torch.equal(a, b)


def test_references_in_pairs_and_in_crops() -> None:
    plain = made(use_ref=True, num_crop=4, crop_size=32, distortions=3)
    fast = fuse(plain)
    x, y = pair(3, 3, 70, 100)
    with torch.no_grad():
        pairs, one = plain.examine(x, y), plain.examine(x, y[:1].expand_as(y))
    for want, reference in ((pairs, fast.reference(y)), (one, fast.reference(y[:1]))):
        got = fast.examine(x, reference)
        for name in ("score", "logits", "strengths"):
            assert (getattr(got, name) - getattr(want, name)).abs().max() <= 2e-5


def test_refuses_what_the_plain_network_refuses(compares: CFANet) -> None:
    fast = fuse(compares)
    x = torch.rand(2, 3, 64, 64)
    for y in (torch.rand(2, 3, 64, 32), torch.rand(3, 3, 64, 64), torch.rand(1, 1, 64, 64)):
        for given in (y, fast.reference(y)):
            with pytest.raises(ValueError, match="resize one of them"):
                fast(x, given)
    with pytest.raises(ValueError, match="needs a reference"):
        fast.examine(x)
    with pytest.raises(ValueError, match="B x 3 x H x W"):
        fast.reference(torch.rand(1, 4, 64, 64))
    with pytest.raises(ValueError, match="takes no reference"):
        fuse(made(use_ref=False)).reference(x)


def test_leaves_the_plain_model_alone() -> None:
    plain = made(use_ref=False).train()
    before = copy.deepcopy(plain.state_dict())
    trained = [p.requires_grad for p in plain.parameters()]
    fast = fuse(plain)
    assert not any(p.requires_grad for p in fast.parameters()) and not fast.training
    assert [p.requires_grad for p in plain.parameters()] == trained and plain.training
    assert all(torch.equal(v, before[k]) for k, v in plain.state_dict().items())
    shared = {p.data_ptr() for p in plain.parameters()} & {p.data_ptr() for p in fast.parameters()}
    assert not shared
    # Without the attention that is never used and without the normalisations it is smaller.
    sizes = [sum(p.numel() for p in m.parameters()) for m in (plain, fast)]
    assert sizes[1] < sizes[0]
    plain.eval()
    with torch.no_grad():
        plain.score_linear[-1].bias.add_(1)
    x = torch.rand(1, 3, 64, 64)
    assert (plain(x) - fast(x) - 1).abs() <= 2e-5


class Counting(Context):
    """Cancels its job at one of its checks."""

    def __init__(self, last: int) -> None:
        super().__init__(token=CancelToken())
        self.checks, self.last = 0, last

    def check(self) -> None:
        self.checks += 1
        if self.checks == self.last:
            self.token.cancel()
        super().check()


@pytest.mark.parametrize("use_ref", [False, True])
def test_a_cancelled_job_ends_between_steps(use_ref: bool) -> None:
    fast = fuse(made(use_ref=use_ref))
    x, y = pair(1, 3, 64, 64)
    given = (x, y) if use_ref else (x,)
    with use_context(Counting(0)) as context:
        want = fast(*given)
    # At the least: five gates, and eight blocks of each backbone.
    assert context.checks >= (21 if use_ref else 13)
    for last in (1, context.checks // 2, context.checks):
        with use_context(Counting(last)) as stopped, pytest.raises(Cancelled):
            fast(*given)
        assert stopped.checks == last
    if use_ref:
        with use_context(Counting(3)), pytest.raises(Cancelled):
            fast.reference(y)
    assert torch.equal(fast(*given), want)


def test_only_predicts_and_copies() -> None:
    fast = fuse(made(use_ref=False))
    x = torch.rand(1, 3, 64, 64)
    for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert torch.equal(twin(x), fast(x))
    with pytest.raises(RuntimeError, match="plain"):
        fast.train()


def test_threads_share_one_network(compares: CFANet) -> None:
    fast: FastCFANet = fuse(compares)
    pairs = [pair(1, 3, 32 * (1 + i % 3), 64) for i in range(6)]
    with torch.no_grad():
        want = [compares(x, y) for x, y in pairs]
    got: dict[int, Tensor] = {}

    def work(i: int) -> None:
        x, y = pairs[i]
        got[i] = fast(x, fast.reference(y))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all((got[i] - w).abs() <= 2e-5 for i, w in enumerate(want))


@pytest.mark.parametrize("use_ref", [False, True])
def test_reduced_precision_stops_at_the_tokens(use_ref: bool) -> None:
    plain = made(use_ref=use_ref, distortions=3)
    fast = fuse(plain)
    x, y = pair(1, 3, 70, 100)
    seen: list[torch.dtype] = []
    levels = [m for m in fast.modules() if isinstance(m, nn.LayerNorm)]
    levels[0].register_forward_hook(lambda *given: seen.append(given[2].dtype))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        other = fast.reference(y) if use_ref else None
        got = fast(x, other)
    with torch.no_grad():
        want = plain(x, y)
    assert set(seen) == {got.dtype} == {torch.float32}
    assert 0 < (got - want).abs() < 0.05
