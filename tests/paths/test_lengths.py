"""How many paths and routes there are."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from napari_cvsuite.paths.lengths import PathCounts, path_counts, route_lengths, routes_ending


@pytest.mark.parametrize(
    ("layers", "heads", "expected"),
    [
        (12, 3, (13, 25, 49)),
        (12, 6, (13, 25, 85)),
        (12, 12, (13, 25, 157)),
        (24, 16, (25, 49, 409)),
        (32, 16, (33, 65, 545)),
    ],
)
def test_counts_of_known_networks(layers: int, heads: int, expected: tuple[int, ...]) -> None:
    assert path_counts(layers, heads) == PathCounts(*expected)


def test_routes_one_by_one() -> None:
    layers = 3
    lengths: Counter[int] = Counter()
    endings: Counter[tuple[int, int]] = Counter()
    for route in itertools.product((0, 1), repeat=2 * layers):
        lengths[sum(route)] += 1
        last = max((place // 2 + 1 for place, on in enumerate(route) if on), default=0)
        endings[last, sum(route)] += 1
    assert route_lengths(layers) == [lengths[length] for length in range(7)]
    found = routes_ending(layers)
    assert found == [[endings[last, length] for length in range(7)] for last in range(4)]


def test_all_routes_of_a_deep_network() -> None:
    assert sum(route_lengths(32)) == 4**32
    assert sum(map(sum, routes_ending(32))) == 4**32


@pytest.mark.parametrize("call", [route_lengths, routes_ending, lambda n: path_counts(n, 1)])
def test_no_layers(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="at least one layer; got 0"):
        call(0)
    with pytest.raises(ValueError, match="at least one head; got 0"):
        path_counts(1, 0)
