"""How many paths a transformer has, and how long the routes within them are.

The final sum has exactly one term a path. Each of these holds every route that a signal can take
through the modules before, each on or off (Veit et al., arXiv 1605.06431): 2^(2L) in all. Modules
are not linear, so that routes are a way of counting, not of adding.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

__all__ = ["PathCounts", "path_counts", "route_lengths", "routes_ending"]


@dataclass(frozen=True)
class PathCounts:
    """Terms of the final sum, from coarse to fine.

    Parameters
    ----------
    layer : int
        The embedding, and one a layer: L + 1.
    module : int
        The embedding, and two a layer: 2L + 1.
    head : int
        With one for each attention head: 1 + L H + L.
    """

    layer: int
    module: int
    head: int


def path_counts(num_layers: int, num_heads: int) -> PathCounts:
    """Count the paths of a network.

    Raises
    ------
    ValueError
        A number is below 1.
    """
    _check(num_layers)
    if num_heads < 1:
        raise ValueError(f"a layer has at least one head; got {num_heads}")
    return PathCounts(num_layers + 1, 2 * num_layers + 1, 1 + num_layers * num_heads + num_layers)


def route_lengths(num_layers: int) -> list[int]:
    """Return how many routes go through 0, 1, ..., 2L modules: binomial, 2^(2L) in all.

    Raises
    ------
    ValueError
        The number is below 1.
    """
    _check(num_layers)
    return [comb(2 * num_layers, length) for length in range(2 * num_layers + 1)]


def routes_ending(num_layers: int) -> list[list[int]]:
    """Return the routes that each layer path holds, by their length.

    Parameters
    ----------
    num_layers : int

    Returns
    -------
    list of list of int
        For layer paths 0 (the embedding) to L, how many routes end there after 0, 1, ..., 2L
        modules. They add up to :func:`route_lengths`.

    Raises
    ------
    ValueError
        The number is below 1.
    """
    _check(num_layers)
    longest = 2 * num_layers
    found = [[1] + [0] * longest]
    for layer in range(1, num_layers + 1):
        # One of the layer's two modules, or both, after any of those before.
        row, before = [0] * (longest + 1), 2 * (layer - 1)
        for length in range(before + 1):
            row[length + 1] += 2 * comb(before, length)
            row[length + 2] += comb(before, length)
        found.append(row)
    return found


def _check(num_layers: int) -> None:
    if num_layers < 1:
        raise ValueError(f"a transformer has at least one layer; got {num_layers}")
