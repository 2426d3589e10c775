"""Tests of the out-of-memory ladder."""

from __future__ import annotations

import pytest

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.ladder import Ladder, MemoryExhausted, Plan


def test_steps_down_to_cpu() -> None:
    warned: list[str] = []

    def fn(plan: Plan) -> str:
        if plan.device != "cpu":
            raise RuntimeError("CUDA out of memory")
        return "ok"

    context = Context(on_warning=warned.append)
    result, plan, steps = Ladder(True).run(fn, Plan(4, 512, "full", "cuda:0"), context)
    assert (result, plan) == ("ok", Plan(1, 128, "full", "cpu"))
    assert len(steps) == len(warned) == 6


def test_exhausted_and_other_errors() -> None:
    def full(plan: Plan) -> None:
        raise MemoryError

    def other(plan: Plan) -> None:
        raise RuntimeError("shape")

    with pytest.raises(MemoryExhausted, match="batch size 2 -> 1"):
        Ladder(True).run(full, Plan(2, None, "full", "cpu"), Context())
    with pytest.raises(RuntimeError, match="shape"):
        Ladder(True).run(other, Plan(2, None, "full", "cpu"), Context())
