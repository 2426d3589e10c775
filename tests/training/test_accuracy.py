"""Accuracy with its interval, and the area under the curve."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_cvsuite.jobs import Context
from napari_cvsuite.training.accuracy import measure, wilson
from napari_cvsuite.training.accuracy_options import AccuracyOptions
from napari_cvsuite.training.labelled import Labelled


def test_wilson_of_the_textbook() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, and 0 of 20.
    rate = wilson(81, 263)
    assert (rate.low, rate.high) == (
        pytest.approx(0.2553, abs=5e-5),
        pytest.approx(0.3662, abs=5e-5),
    )
    assert wilson(0, 20).low == 0 and wilson(0, 20).high == pytest.approx(0.1611, abs=5e-5)


class _Brightness(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, x: Tensor) -> Tensor:
        one = self.scale * (x.mean(dim=(1, 2, 3)) - 0.5)
        return torch.stack([-one, one], dim=1)


def test_numbers_of_a_classifier_by_brightness() -> None:
    levels = np.array([10, 60, 140, 120, 200, 250], np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (6, 4, 4, 3)).copy()
    data = Labelled(images, np.array([0, 0, 0, 1, 1, 1]), ("dark", "bright"), ("",) * 6)
    found = measure(_Brightness().eval(), data, AccuracyOptions(), Context())
    assert found.clean.value == pytest.approx(4 / 6) and found.recall == pytest.approx(2 / 3)
    # Of the nine pairs of a bright and a dark image one is in the wrong order.
    assert found.area == pytest.approx(8 / 9) and found.attacked is None
    # 0.1 up or down in every pixel turns 120 and 140 alone, which are wrong already.
    near = AccuracyOptions(attack="linf", eps=0.1, steps=3)
    attacked = measure(_Brightness().eval(), data, near, Context()).attacked
    assert attacked is not None and attacked.value == pytest.approx(4 / 6)
    far = AccuracyOptions(attack="linf", eps=0.3, steps=3)
    attacked = measure(_Brightness().eval(), data, far, Context()).attacked
    # 60 becomes 136 and 200 becomes 124; 10 and 250 stay on their side.
    assert attacked is not None and attacked.value == pytest.approx(2 / 6)


def test_every_step_of_an_attack_is_told() -> None:
    images = np.zeros((6, 4, 4, 3), np.uint8)
    data = Labelled(images, np.array([0, 0, 0, 1, 1, 1]), ("dark", "bright"), ("",) * 6)
    told: list[float] = []
    options = AccuracyOptions(attack="linf", eps=0.1, steps=3, batch=4)
    context = Context(on_progress=lambda one: told.append(one.done / one.total))
    measure(_Brightness().eval(), data, options, context)
    # Two batches, each told of by itself and at the four iterates of its attack.
    each = [0, *(step / 4 for step in range(4))]
    assert told == pytest.approx([(batch + done) / 2 for batch in (0, 1) for done in each])
