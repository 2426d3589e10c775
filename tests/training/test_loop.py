from __future__ import annotations

import pytest

from napari_cvsuite.training.loop import learning_rate


def test_step_schedule_of_the_paper() -> None:
    rates = [learning_rate("step", epoch, 350, 1e-3) for epoch in (0, 49, 50, 300, 349)]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 1.5625e-5, 1.5625e-5])


def test_poly_schedule_of_the_paper() -> None:
    rates = [learning_rate("poly", epoch, 350, 1e-2) for epoch in (0, 1, 349)]
    assert rates == pytest.approx([1e-2, 1e-2, 9.6e-5], rel=0.01)


def test_cosine_warms_up_and_ends_near_zero() -> None:
    assert learning_rate("cosine", 0, 100, 1.0) == pytest.approx(0.25)
    assert learning_rate("cosine", 99, 100, 1.0) < 0.02
    with pytest.raises(ValueError, match="cosine"):
        learning_rate("magic", 0, 1, 1.0)
