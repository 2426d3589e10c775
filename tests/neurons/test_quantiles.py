"""Quantiles of a stream against NumPy's of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_cvsuite.neurons.quantiles import channel_quantiles

LEVELS = (0.0, 0.1, 0.5, 0.8, 0.995, 1.0)


@settings(max_examples=60, deadline=None)
@given(
    values=st.sampled_from([np.float32, np.float64]).flatmap(
        lambda kind: hnp.arrays(
            kind,
            st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(1, 4)),
            elements=st.floats(-1e6, 1e6, width=32),
        )
    ),
    cut=st.integers(1, 8),
)
def test_a_stream_has_the_quantiles_of_the_whole(values: np.ndarray, cut: int) -> None:
    whole = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1).astype(np.float64)
    found = channel_quantiles(
        lambda: iter([p for p in (values[:cut], values[cut:]) if len(p)]), LEVELS
    )
    np.testing.assert_allclose(found, np.quantile(whole, LEVELS, axis=1), rtol=1e-12, atol=1e-9)
    # The extremes need no interpolation.
    assert np.array_equal(found[[0, -1]], [whole.min(axis=1), whole.max(axis=1)])


def test_order_statistics_are_exact_among_near_values_and_both_zeros() -> None:
    base = np.float32(1)
    steps = [base]
    for _ in range(4):
        steps.append(np.nextafter(steps[-1], np.float32(2)))
    values = np.array([*steps[::-1], -0.0, 0.0, -1.0, 1e-45], np.float32).reshape(-1, 1)
    found = channel_quantiles(lambda: [values], np.arange(9) / 8)
    assert np.array_equal(found[:, 0], np.sort(values[:, 0]).astype(np.float64))


def test_levels_and_empty_streams_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        channel_quantiles(lambda: [np.zeros((1, 1), np.float32)], [1.2])
    with pytest.raises(ValueError, match="no values"):
        channel_quantiles(list, [0.5])
