"""How many paths a network has, and how long the routes in them are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.paths.labelled_options import LengthOptions
from napari_cvsuite.paths.lengths import PathCounts, path_counts, route_lengths, routes_ending
from napari_cvsuite.paths.subject import model_opened, provenance, transformer

__all__ = ["Lengths", "run"]


@dataclass(frozen=True)
class Lengths:
    """Paths and routes of a network.

    Parameters
    ----------
    layers, heads, tokens, width : int
    counts : PathCounts
        Terms of the final sum by layer, by module, and by head.
    routes : tuple of int
        Routes through 0, 1, ..., 2L modules, each on or off: binomial (Veit et al. 2016). Only the
        terms of the sum add up exactly; routes are a way of counting.
    ending : tuple of tuple of int
        The same for the routes that end in each layer path, from the embedding on.
    provenance : dict
    """

    layers: int
    heads: int
    tokens: int
    width: int
    counts: PathCounts
    routes: tuple[int, ...]
    ending: tuple[tuple[int, ...], ...]
    provenance: dict[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each length of a route."""
        total = sum(self.routes)
        return [
            {"modules": length, "routes": count, "share": count / total}
            for length, count in enumerate(self.routes)
        ]


def run(options: LengthOptions, context: Context) -> Lengths:
    """Count the paths of a network.

    Raises
    ------
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    with model_opened(options, context) as subject:
        config = transformer(subject).config
        return Lengths(
            config.num_layers,
            config.num_heads,
            config.tokens,
            config.hidden_dim,
            path_counts(config.num_layers, config.num_heads),
            tuple(route_lengths(config.num_layers)),
            tuple(tuple(row) for row in routes_ending(config.num_layers)),
            provenance(subject, options),
        )
