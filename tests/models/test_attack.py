"""Attacks: the kit, and what every attack promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kits import load_rule
from torch import nn

from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context, Progress
from napari_cvsuite.models.attack import Attack, pgd, pgd_step, suggested_eps

rule = load_rule("robust_cnn")
NET = rule.torch_tiny("tiny_s")


def _run(labels: list[int], **changed: Any) -> Attack:
    images = torch.rand(len(labels), 3, 12, 12, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"norm": "l2", "eps": 0.5, "step": 0.2, "steps": 4}
    options |= {"images": images, "context": Context()} | changed
    return pgd(NET, labels=torch.tensor(labels), **options)


def _step(case: dict[str, Any]) -> dict[str, Any]:
    x0, x, grad = (torch.from_numpy(case[key]) for key in ("x0", "x", "grad"))
    linf = pgd_step(x0, x, grad, "linf", case["eps_inf"], case["step_inf"])
    return {"l2": pgd_step(x0, x, grad, "l2", case["eps"], case["step"]), "linf": linf}


def _whole_run(case: dict[str, Any]) -> dict[str, Any]:
    found = _run(
        case["labels"].tolist(),
        images=torch.from_numpy(case["x"]),
        eps=case["eps"],
        step=case["step"],
        steps=case["steps"],
    )
    return {"last": found.last, "loss": found.loss, "best": found.best}


def test_the_kit() -> None:
    rule.check({"pgd_step": _step, "pgd_run": _whole_run})


@settings(deadline=None, max_examples=50)
@given(
    shape=st.tuples(st.integers(1, 3), st.just(3), st.integers(1, 6), st.integers(1, 6)),
    norm=st.sampled_from(["l2", "linf"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    eps=st.floats(0, 3),
    step=st.floats(0, 3),
    scale=st.sampled_from([0.0, 1e-12, 1.0, 1e6]),
    seed=st.integers(0, 1000),
)
def test_steps_stay_in_ball_and_box(
    shape: tuple[int, ...],
    norm: str,
    dtype: torch.dtype,
    eps: float,
    step: float,
    scale: float,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.rand(shape, generator=generator, dtype=dtype)
    x = x0
    for _ in range(3):
        gradient = scale * torch.randn(shape, generator=generator, dtype=dtype)
        x = pgd_step(x0, x, gradient, norm, eps, step)
        assert x.dtype == dtype and x.shape == shape
        assert float(x.min()) >= 0 and float(x.max()) <= 1
        moved = (x - x0).double().flatten(1)
        size = moved.norm(dim=1) if norm == "l2" else moved.abs().amax(1)
        assert float(size.max()) <= eps * (1 + 1e-5) + 1e-6
        if scale == 0:
            torch.testing.assert_close(x, x0, rtol=0, atol=1e-6)


def test_a_straight_way_is_gone_in_closed_form() -> None:
    x0 = torch.full((1, 3, 1, 1), 0.5, dtype=torch.float64)
    gradient = torch.tensor([3.0, 0.0, 4.0], dtype=torch.float64).view(1, 3, 1, 1)
    found = pgd_step(x0, x0, gradient, "l2", eps=1.0, step=0.5).flatten().tolist()
    assert found == pytest.approx([0.8, 0.5, 0.9])
    found = pgd_step(x0, x0, gradient, "l2", eps=0.25, step=0.5).flatten().tolist()
    assert found == pytest.approx([0.65, 0.5, 0.7])
    found = pgd_step(x0, x0, gradient, "linf", eps=0.1, step=0.5).flatten().tolist()
    assert found == pytest.approx([0.6, 0.5, 0.6])


def test_the_first_iterate_of_largest_loss_is_kept() -> None:
    found = _run([2, 5, 1, 0, 9])
    assert found.loss.shape == found.predictions.shape == (5, 5)
    np.testing.assert_array_equal(found.best, np.argmax(found.loss.numpy(), axis=0))
    with torch.no_grad():
        logits = NET(found.images)
    loss = nn.functional.cross_entropy(logits, torch.tensor([2, 5, 1, 0, 9]), reduction="none")
    torch.testing.assert_close(loss, found.loss.max(0).values)
    assert bool((found.loss.max(0).values > found.loss[0]).all())
    reached = found.predictions.gather(0, found.best[None])[0]
    np.testing.assert_array_equal(logits.argmax(1), reached)


def test_a_network_without_slope_moves_nothing() -> None:
    flat = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    nn.init.zeros_(flat[0].weight)
    images = torch.rand(2, 3, 5, 7)
    found = pgd(flat, images, torch.tensor([0, 1]), "l2", 1.0, 0.5, 3, Context())
    torch.testing.assert_close(found.last, images)
    assert torch.equal(found.images, images) and found.best.tolist() == [0, 0]


def test_a_disabled_gradient_changes_nothing() -> None:
    whole = _run([2, 5])
    with torch.no_grad():
        again = _run([2, 5])
    assert torch.equal(whole.images, again.images) and torch.equal(whole.loss, again.loss)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_tiny_and_huge_gradients_move_as_far(scale: float) -> None:
    x0 = torch.full((1, 3, 2, 2), 0.5)
    gradient = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    usual = pgd_step(x0, x0, gradient, "l2", 0.2, 0.1)
    assert float((usual - x0).norm()) == pytest.approx(0.1, rel=1e-5)
    torch.testing.assert_close(pgd_step(x0, x0, scale * gradient, "l2", 0.2, 0.1), usual)


def test_the_network_is_left_as_it_was() -> None:
    before = {name: one.clone() for name, one in NET.state_dict().items()}
    _run([1, 2])
    assert all(torch.equal(before[name], one) for name, one in NET.state_dict().items())
    assert all(one.grad is None and one.requires_grad for one in NET.parameters())
    assert not NET.training


def test_cancellation() -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        _run([0, 1], context=Context(token=token))


def test_every_step_is_told_and_can_be_the_last() -> None:
    told: list[tuple[float, float]] = []
    _run([0, 1], context=Context(on_progress=lambda one: told.append((one.done, one.total))))
    # The image itself and four steps.
    assert told == [(number, 5) for number in range(5)]
    token = CancelToken()
    met: list[float] = []

    def stop(one: Progress) -> None:
        met.append(one.done)
        if one.done == 2:
            token.cancel()

    with pytest.raises(Cancelled):
        _run([0, 1], context=Context(token=token, on_progress=stop))
    assert met == [0, 1, 2]


def test_suggested_radius() -> None:
    # 0.008 times the root of 150,528 and of 3,072 values.
    assert suggested_eps(224, 224) == pytest.approx(3.1038, abs=1e-4)
    assert suggested_eps(32, 32) == pytest.approx(0.4434, abs=1e-4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"norm": "l1"}, "l2, linf"),
        ({"eps": -1.0}, "0 or more"),
        ({"eps": float("nan")}, "0 or more"),
        ({"steps": -1}, "0 or more"),
    ],
)
def test_bad_inputs(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _run([0, 1], **changed)
