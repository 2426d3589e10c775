"""What a prediction becomes when some paths are weighed: 0 takes a path away, 1 leaves it.

In the final sum alone, or throughout, where everything from the first of these paths on is
computed anew and what comes before is taken from the run that the paths were collected in. With
zero in the place of what a path writes, weights are those of an EnsembleScale (the idea of arXiv
2308.06548; weighing between a path and its replacement is this project's definition).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths.decompose import Paths
from napari_cvsuite.paths.exact import exact
from napari_cvsuite.paths.reading import checked, classify_rows, rows_of
from napari_cvsuite.paths.replace import Replacement
from napari_cvsuite.paths.variants import written

__all__ = ["check_numbers", "weighed_final", "weighed_throughout"]


@exact()
def weighed_final(model: nn.Module, paths: Paths, weights: Mapping[int, float]) -> Tensor:
    """Return the logits ``B x K`` with some paths weighed in the final sum alone.

    The final norm is computed anew; later layers still see the paths as they are.

    Parameters
    ----------
    model : nn.Module
    paths : Paths
    weights : mapping of int to float
        By the number of the path, see :func:`napari_cvsuite.models.vit.path_names`; others have 1.

    Raises
    ------
    ValueError
        There is no such path, or a weight is not finite.
    """
    network = checked(model)
    changed = _changed(network, weights)
    if not changed:
        return paths.logits
    # Adding those that stay up leaves no rounding of those that go, even where all go.
    kept = torch.zeros_like(rows_of(network.config, paths.final))
    for number, write in enumerate(paths.writes):
        weight = changed.get(number, 1.0)
        if weight:
            kept.add_(rows_of(network.config, write), alpha=weight)
    return classify_rows(network, kept)


@exact()
def weighed_throughout(
    model: nn.Module,
    paths: Paths,
    weights: Mapping[int, float],
    replacement: Replacement | None = None,
    context: Context | None = None,
) -> Tensor:
    """Return the logits ``B x K`` with some paths weighed for all later layers, too.

    A path of weight w writes ``w`` times what it makes of the changed stream, and ``1 - w`` times
    its replacement. Everything from the first of these paths on is computed anew.

    Parameters
    ----------
    model : nn.Module
    paths : Paths
        From :func:`~napari_cvsuite.paths.decompose.collect` with this network.
    weights : mapping of int to float
        As for :func:`weighed_final`; the embedding (0) among them if wanted.
    replacement : Replacement, optional
        Default nothing (zero).
    context : Context, optional
        Asked for cancellation between modules.

    Raises
    ------
    ValueError
        There is no such path, a weight is not finite, or the replacement does not fit.
    Cancelled
    """
    network, context = checked(model), context or Context()
    changed, write = _changed(network, weights), written(network, paths, replacement)
    if not changed:
        return paths.logits
    first = min(changed)

    def made(number: int, own: Callable[[], Tensor]) -> Tensor:
        weight = changed.get(number, 1.0)
        if weight == 1:
            return own()
        return torch.lerp(write(number), own(), weight) if weight else write(number)

    # What the first of them makes is known: nothing before it has changed.
    own = paths.raw[first]
    wrote = made(first, lambda: own).expand_as(own)
    if first == 0:
        stream = network.start(wrote)
    else:
        before = paths.streams[first // 2] if first % 2 else paths.between[first // 2 - 1]
        stream = network.add(before, first, wrote)
    for number in range(first + 1, network.config.num_paths):
        context.check()
        block = network.blocks[(number - 1) // 2]
        module = block.msa if number % 2 else block.ffn
        stream = network.add(stream, number, made(number, partial(module, stream.z)))
    return network.classify(stream.final)


def check_numbers(model: VisionTransformer, numbers: Iterable[int]) -> None:
    """Raise ValueError if there is no such path."""
    for number in numbers:
        if not 0 <= number < model.config.num_paths:
            raise ValueError(
                f"there is no path {number}; choose from 0 to {model.config.num_paths - 1}"
            )


def _changed(model: VisionTransformer, weights: Mapping[int, float]) -> dict[int, float]:
    """Return the weights that change something."""
    check_numbers(model, weights)
    for number, weight in weights.items():
        if not math.isfinite(weight):
            raise ValueError(f"the weight of path {number} must be a finite number; got {weight}")
    return {number: weight for number, weight in weights.items() if weight != 1}
