"""Full float32 while sums are compared: no autocast, no TF32, no gradients unless asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["exact", "with_gradients"]

_lock = threading.Lock()
_depth = 0
_before = (False, True)


@contextmanager
def exact() -> Iterator[None]:
    """Compute in the precision of the weights and without gradients; also a decorator.

    Not in torch's inference mode either, whose tensors could never take part in a gradient.
    """
    _switch_off_tf32()
    try:
        with (
            torch.autocast("cuda", enabled=False),
            torch.autocast("cpu", enabled=False),
            torch.inference_mode(False),
            torch.no_grad(),
        ):
            yield
    finally:
        _restore_tf32()


@contextmanager
def with_gradients() -> Iterator[None]:
    """Compute as :func:`exact` does, and record gradients."""
    with exact(), torch.enable_grad():
        yield


def _switch_off_tf32() -> None:
    # The flags belong to the process: the first of several threads to come saves them, and the
    # last to go puts them back.
    global _depth, _before
    with _lock:
        if _depth == 0:
            _before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        _depth += 1


def _restore_tf32() -> None:
    global _depth
    with _lock:
        _depth -= 1
        if _depth == 0:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = _before
