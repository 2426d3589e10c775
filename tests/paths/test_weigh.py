"""Weights of paths: between a path and what is written in its place, at the end or throughout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from napari_cvsuite.jobs import Cancelled, CancelToken, Context
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths.decompose import Paths, collect
from napari_cvsuite.paths.replace import Replacement, mean_replacement
from napari_cvsuite.paths.rows import logits_of, rows_from
from napari_cvsuite.paths.scale import with_scale
from napari_cvsuite.paths.weigh import weighed_final, weighed_throughout

WEIGHTS = {0: 0.5, 3: 2.0, 4: 0.0, 6: 1.0, 7: 0.25}


def _alpha(model: VisionTransformer) -> Tensor:
    alpha = torch.ones(model.config.num_paths)
    for number, weight in WEIGHTS.items():
        alpha[number] = weight
    return alpha


def _by_hand(
    model: VisionTransformer, paths: Paths, replacement: Replacement | None = None
) -> Tensor:
    """Run all modules anew, each path mixed with its replacement."""

    def mixed(number: int, own: Tensor) -> Tensor:
        weight = WEIGHTS.get(number, 1.0)
        instead = 0.0 if replacement is None else replacement.writes[number]
        return weight * own + (1 - weight) * instead

    stream = model.start(mixed(0, paths.raw[0]))
    for layer, block in enumerate(model.blocks):
        stream = model.add(stream, 2 * layer + 1, mixed(2 * layer + 1, block.msa(stream.z)))
        stream = model.add(stream, 2 * layer + 2, mixed(2 * layer + 2, block.ffn(stream.z)))
    return model.classify(stream.final)


def test_weights_in_the_final_sum_are_those_of_an_ensemble_scale(
    each_kind: VisionTransformer, x: Tensor
) -> None:
    paths = collect(each_kind, x)
    found = weighed_final(each_kind, paths, WEIGHTS)
    expected = logits_of(each_kind, rows_from(each_kind, paths), _alpha(each_kind))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_weights_throughout_weigh_every_write(each_kind: VisionTransformer, x: Tensor) -> None:
    paths = collect(each_kind, x)
    found = weighed_throughout(each_kind, paths, WEIGHTS)
    torch.testing.assert_close(found, _by_hand(each_kind, paths), rtol=1e-4, atol=1e-5)
    mean = mean_replacement(each_kind, [x])
    found = weighed_throughout(each_kind, paths, WEIGHTS, mean)
    torch.testing.assert_close(found, _by_hand(each_kind, paths, mean), rtol=1e-4, atol=1e-5)


def test_weights_throughout_are_those_of_an_ensemble_scale_in_the_stream(
    network: Any, x: Tensor
) -> None:
    model = network("plain")
    scaled = with_scale(model, _alpha(model), "stream")
    found = weighed_throughout(model, collect(model, x), WEIGHTS)
    torch.testing.assert_close(found, scaled(x), rtol=1e-4, atol=1e-5)


def test_weights_of_one_change_nothing_and_cost_nothing(network: Any, x: Tensor) -> None:
    model = network("plain")
    paths = collect(model, x)
    for weigh in (weighed_final, weighed_throughout):
        assert weigh(model, paths, {3: 1.0}) is paths.logits
    calls: list[int] = []
    for layer, block in enumerate(model.blocks):
        block.mlp.register_forward_hook(lambda *_, layer=layer: calls.append(layer))
    # What comes before, and what the first of them makes, is known.
    weighed_throughout(model, paths, {6: 0.5})
    assert calls == [3]
    weighed_final(model, paths, {1: 0.5})
    assert calls == [3]


def test_mistakes(network: Any, x: Tensor) -> None:
    model = network("plain")
    paths = collect(model, x)
    for weigh in (weighed_final, weighed_throughout):
        with pytest.raises(ValueError, match="no path 9; choose from 0 to 8"):
            weigh(model, paths, {9: 0.5})
        with pytest.raises(ValueError, match="weight of path 2 must be a finite number; got nan"):
            weigh(model, paths, {2: float("nan")})
    stopped = CancelToken()
    stopped.cancel()
    with pytest.raises(Cancelled):
        weighed_throughout(model, paths, {1: 0.5}, context=Context(token=stopped))
