"""Random changes keep shape, range and, but for colour, the pixels of an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_cvsuite.training.augment import augment


@pytest.mark.parametrize("turn", ["none", "mirror", "all"])
def test_turning_moves_pixels_and_changes_none(turn: str) -> None:
    x = torch.arange(8 * 3 * 25).float().view(8, 3, 5, 5) / 600
    out = augment(x, np.random.default_rng(0), turn=turn)
    assert torch.equal(out.flatten(2).sort().values, x.flatten(2).sort().values)
    assert torch.equal(out, x) == (turn == "none")


def test_shifting_moves_all_channels_alike() -> None:
    x = torch.rand(16, 1, 8, 8).expand(-1, 3, -1, -1).contiguous()
    out = augment(x, np.random.default_rng(0), shift=3)
    assert torch.equal(out[:, 0], out[:, 2]) and not torch.equal(out, x)
    for before, after in zip(x, out, strict=True):
        assert set(after.flatten().tolist()) <= set(before.flatten().tolist())


def test_colour_stays_in_range_and_keeps_gray_gray() -> None:
    x = torch.rand(32, 1, 6, 6).expand(-1, 3, -1, -1).contiguous()
    out = augment(x, np.random.default_rng(0), colour=1.0)
    assert out.min() >= 0 and out.max() <= 1
    assert torch.allclose(out[:, 0], out[:, 1], atol=1e-6)
    assert (out.mean(dim=(1, 2, 3)) - x.mean(dim=(1, 2, 3))).abs().max() > 0.05
