"""Frequency curves of patterns whose spectrum is known, and what paths do to them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths.decompose import collect
from napari_cvsuite.paths.fourier import (
    fourier,
    fourier_curve,
    fourier_sum,
    frequency_change,
)

Maker = Callable[..., VisionTransformer]


def _waves(side: int, amplitudes: dict[int, float]) -> Tensor:
    """Return diagonal waves with given amplitudes by cycles along a side, ``1 x N x 3``."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    found = sum(
        size * torch.cos(2 * math.pi * cycles * (x + y) / side)
        for cycles, size in amplitudes.items()
    )
    return found.reshape(1, -1, 1).repeat(1, 1, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize("side", [7, 8])
def test_waves_of_known_amplitude(side: int) -> None:
    # A cosine is half of each of two opposite frequencies; the mean is all of one.
    found = fourier_curve(_waves(side, {0: 2.0, 1: 1.0, 2: 0.5, 3: 0.1}).double())
    assert len(found) == math.ceil(side / 2)
    expected = [0, math.log(0.5 / 2), math.log(0.25 / 2), math.log(0.05 / 2)]
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=1e-4, atol=1e-4)


def test_the_mean_of_equal_batches_is_that_of_all() -> None:
    tokens = torch.randn(4, 16, 6, generator=torch.Generator().manual_seed(0))
    halves = (fourier_curve(tokens[:2]) + fourier_curve(tokens[2:])) / 2
    torch.testing.assert_close(fourier_curve(tokens), halves)


def test_grids_that_are_no_square() -> None:
    with pytest.raises(ValueError, match="square grid of patches; 15 patches make none"):
        fourier_curve(torch.zeros(1, 15, 3))
    with pytest.raises(ValueError, match="0 patches make none"):
        fourier_curve(torch.zeros(1, 0, 3))


def test_curves_of_paths_and_of_their_sum(each_kind: VisionTransformer, x: Tensor) -> None:
    paths, prefix = collect(each_kind, x), each_kind.config.prefix
    found = fourier(each_kind, paths)
    assert found.shape == (9, 2) and not found[:, 0].any()
    torch.testing.assert_close(found[5], fourier_curve(paths.writes[5][:, prefix:]))
    whole = fourier_sum(each_kind, paths)
    torch.testing.assert_close(whole, fourier_curve(paths.final[:, prefix:]))
    without = fourier_sum(each_kind, paths, {2, 6})
    left = paths.final - paths.writes[2] - paths.writes[6]
    torch.testing.assert_close(without, fourier_curve(left[:, prefix:]), rtol=1e-4, atol=1e-5)


def test_sums_that_cannot_be_made(network: Maker, x: Tensor) -> None:
    model = network()
    paths = collect(model, x)
    with pytest.raises(ValueError, match="no path 9; choose from 0 to 8"):
        fourier_sum(model, paths, [9])
    with pytest.raises(ValueError, match="at least one path"):
        fourier_sum(model, paths, range(9))


def test_paths_that_pass_high_or_low_frequencies() -> None:
    fine, coarse = _waves(8, {3: 1.0, 0: 0.01}), _waves(8, {0: 1.0, 1: 0.5, 3: 0.01})
    whole = fourier_curve(fine + coarse)
    high = frequency_change(whole, fourier_curve(coarse))
    assert high.effect == "raise" and high.highest > 1 and high.upper_half > 0.01
    # log(1.01 / 1.01) - log(0.01 / 1) at three cycles
    assert high.highest == pytest.approx(math.log(100), abs=1e-2)
    assert "high-pass filter" in high.sentence
    low = frequency_change(whole, fourier_curve(fine))
    assert low.effect == "lower" and low.highest < -1 and "low-pass filter" in low.sentence
    none = frequency_change(whole, whole + torch.tensor([0, 0.005, -0.005, 0.009]))
    assert none.effect == "leave" and "as they are" in none.sentence
    torch.testing.assert_close(low.by_frequency, whole - fourier_curve(fine))


def test_curves_that_do_not_belong_together() -> None:
    for one, other in ((4, 3), (1, 1)):
        with pytest.raises(ValueError, match="two curves of the same length"):
            frequency_change(torch.zeros(one), torch.zeros(other))
