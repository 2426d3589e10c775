"""Retry with smaller demands when memory runs out: batch, tile, precision, then CPU."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from napari_cvsuite.jobs.context import Context

__all__ = ["Ladder", "MemoryExhausted", "Plan", "is_out_of_memory"]

T = TypeVar("T")
_TEXTS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "defaultcpuallocator",
)


class MemoryExhausted(RuntimeError):
    """Memory ran out at every step of the ladder."""


@dataclass(frozen=True)
class Plan:
    """How an attempt uses memory; `tile` None means that the image is not tiled."""

    batch: int
    tile: int | None
    precision: str
    device: str


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that memory ran out, whatever library raised it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(t in str(error).lower() for t in _TEXTS)


@dataclass(frozen=True)
class Ladder:
    """The permitted steps down.

    Parameters
    ----------
    allow_half : bool
        Whether half precision is permitted on an accelerator.
    min_tile : int
        Smallest tile edge.
    allow_cpu : bool
        Whether the last step may leave the accelerator.
    release : callable, optional
        Called before each retry, for example to empty a library's cache.
    """

    allow_half: bool
    min_tile: int = 128
    allow_cpu: bool = True
    release: Callable[[], None] | None = None

    def step(self, plan: Plan) -> tuple[Plan, str] | None:
        """Return the next plan and what changed, or None at the bottom."""
        if plan.batch > 1:
            batch = plan.batch // 2
            return replace(plan, batch=batch), f"batch size {plan.batch} -> {batch}"
        floor = -(-self.min_tile // 32) * 32
        if plan.tile is not None and plan.tile > floor:
            tile = max(floor, plan.tile // 2 // 32 * 32)
            return replace(plan, tile=tile), f"tile {plan.tile} -> {tile}"
        if plan.device != "cpu":
            if self.allow_half and plan.precision != "half":
                return replace(plan, precision="half"), "half precision"
            if self.allow_cpu:
                return replace(plan, precision="full", device="cpu"), f"{plan.device} -> cpu"
        return None

    def run(
        self, fn: Callable[[Plan], T], plan: Plan, context: Context
    ) -> tuple[T, Plan, tuple[str, ...]]:
        """Call `fn` with ever smaller plans until it fits.

        Returns
        -------
        result, plan, steps
            The result, the plan that worked, and each step taken in words.
        """
        steps: list[str] = []
        while True:
            context.check()
            try:
                return fn(plan), plan, tuple(steps)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                _forget(error)
                last = str(error) or type(error).__name__
            # Outside the handler: inside it the interpreter still holds the error and its frames.
            if self.release is not None:
                self.release()
            following = self.step(plan)
            if following is None:
                tried = "; ".join(steps) or "no smaller setting was possible"
                raise MemoryExhausted(
                    f"Memory ran out on {plan.device} (tried: {tried}). Close other programs, use "
                    f"a smaller image, tile or model, or another device. Last error: {last}"
                )
            plan, said = following
            steps.append(said)
            context.warn(f"Out of memory; trying again with {said}.")


def _forget(error: BaseException) -> None:
    """Drop the frames of `error` and its causes, so that what they held can be freed."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        todo += [one.__cause__, one.__context__]
        if one.__traceback__ is not None:
            # The first frame is the ladder's own and still runs; clear_frames skips it.
            traceback.clear_frames(one.__traceback__)
        one.__traceback__ = None
