"""Exact quantiles of many channels from a stream that is read several times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["channel_quantiles"]

DIGIT = 8
"""Bits that one reading of the stream settles."""

Parts = Callable[[], Iterable[NDArray[Any]]]


def channel_quantiles(parts: Parts, levels: Sequence[float]) -> NDArray[np.float64]:
    """Return quantiles of every channel, interpolated linearly as NumPy does.

    The two order statistics beside a quantile are found digit by digit (radix selection): the bits
    of floats, read as integers, have the order of the floats, and each reading counts the next
    eight bits of those values that share the bits found so far. So the result is exact, while
    memory depends on the number of channels and levels only, not on the length of the stream.
    Four readings for float32, eight for float64. Definition of this project.

    Parameters
    ----------
    parts : callable
        Starts the stream anew: arrays of float32 or float64, shape (n, U, ...), finite, all of the
        same type and U.
    levels : sequence of float
        Each in [0, 1].

    Returns
    -------
    ndarray of float64, shape (len(levels), U)

    Raises
    ------
    ValueError
        A level lies outside [0, 1], or the stream is empty.
    """
    if not all(0 <= level <= 1 for level in levels):
        raise ValueError(f"quantile levels must lie in [0, 1]; got {list(levels)}")
    count = sum(part.size // part.shape[1] for part in parts())
    if count == 0:
        raise ValueError("there are no values to take quantiles of; give one image or more")
    places = np.array(levels, np.float64) * (count - 1)
    below = np.floor(places).astype(np.int64)
    ranks = np.concatenate([below, np.minimum(below + 1, count - 1)])
    low, high = np.split(_order_statistics(parts, ranks), 2)
    share = (places - below)[:, None]
    return low + (high - low) * share


def _order_statistics(parts: Parts, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the values that have the given ranks, counted from 0; shape (ranks, channels)."""
    first = next(iter(parts()))
    width, channels = 8 * first.dtype.itemsize, first.shape[1]
    prefix = np.zeros((len(ranks), channels), f"u{first.dtype.itemsize}")
    left = np.repeat(ranks[:, None], channels, axis=1)
    for shift in range(width - DIGIT, -1, -DIGIT):
        counts = _count_digits(parts, prefix, shift, width)
        passed = counts.cumsum(axis=2)
        digit = (passed <= left[..., None]).sum(axis=2)
        before = np.concatenate([np.zeros_like(passed[..., :1]), passed], axis=2)
        left -= np.take_along_axis(before, digit[..., None], axis=2)[..., 0]
        prefix = (prefix << prefix.dtype.type(DIGIT)) | digit.astype(prefix.dtype)
    return _floats(prefix, first.dtype).astype(np.float64)


def _count_digits(parts: Parts, prefix: NDArray[Any], shift: int, width: int) -> NDArray[np.int64]:
    """Count the next digit of the values with a prefix; shape (ranks, channels, digits)."""
    ranks, channels = prefix.shape
    counts = np.zeros((ranks, channels << DIGIT), np.int64)
    channel = np.arange(channels, dtype=np.int32)[:, None] << DIGIT
    for part in parts():
        keys = _keys(np.moveaxis(part.reshape(*part.shape[:2], -1), 1, 0).reshape(channels, -1))
        heads = keys >> keys.dtype.type(shift)
        slots = channel | (heads & heads.dtype.type((1 << DIGIT) - 1)).astype(np.int32)
        if shift + DIGIT == width:
            # No bits are known yet, so all ranks count the same.
            counts += np.bincount(slots.ravel(), minlength=channels << DIGIT)
            continue
        known = heads >> heads.dtype.type(DIGIT)
        for rank in range(ranks):
            matched = slots[known == prefix[rank][:, None]]
            counts[rank] += np.bincount(matched, minlength=channels << DIGIT)
    return counts.reshape(ranks, channels, -1)


def _keys(values: NDArray[Any]) -> NDArray[Any]:
    """Return integers in the order of floats: the bits, with those of negative values turned."""
    bits = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
    sign = bits.dtype.type(1 << (8 * bits.dtype.itemsize - 1))
    return np.where(bits & sign, ~bits, bits | sign)


def _floats(keys: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    """Return the floats of such integers."""
    sign = keys.dtype.type(1 << (8 * keys.dtype.itemsize - 1))
    return np.where(keys & sign, keys ^ sign, ~keys).view(kind)
