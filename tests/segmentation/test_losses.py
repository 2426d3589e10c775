from __future__ import annotations

import torch

from napari_cvsuite.segmentation import losses


def test_ignored_pixels_do_not_count() -> None:
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(2, 8, 8, dtype=torch.int64)
    target[:, 4:] = 2
    void = target.clone()
    void[:, :2] = -100
    changed = logits.clone()
    changed[:, :, :2] += 7.0
    criterion = losses.combined({"cross_entropy": 1.0, "categorical_dice": 1.0})
    assert torch.allclose(criterion(logits, void), criterion(changed, void), atol=1e-6)


def test_perfect_prediction_costs_nothing() -> None:
    target = torch.zeros(1, 8, 8, dtype=torch.int64)
    target[:, 2:5] = 1
    logits = 60.0 * torch.nn.functional.one_hot(target, 2).movedim(-1, 1).float() - 30.0
    assert losses.binary_dice(logits, target).item() < 1e-5
    assert losses.cross_entropy(logits, target).item() < 1e-5
