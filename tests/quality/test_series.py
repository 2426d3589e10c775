"""Series of distorted crops: deterministic, in order, resumable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_cvsuite.jobs import Cancelled, CancelToken, Context
from napari_cvsuite.quality.distortions import DISTORTIONS
from napari_cvsuite.quality.series import KINDS, LENGTH, Plan, bank, draw, strength_at

RNG = np.random.default_rng(0)
PLAN = Plan(count=6, size=176, second=0.5, seed=3)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    from skimage.data import astronaut, camera

    return [astronaut()[:240, :300], np.repeat(camera()[:200, :200, None], 3, axis=2)]


def test_strengths_lie_between_those_of_the_levels() -> None:
    jpeg = DISTORTIONS["jpeg"]
    assert [strength_at(jpeg, level) for level in range(1, 6)] == pytest.approx(jpeg.strengths)
    assert strength_at(jpeg, 1.5) == pytest.approx((40 * 65) ** 0.5)
    # Half a level below the first goes back half of the first step.
    assert strength_at(jpeg, 0.5) == pytest.approx(40 / (65 / 40) ** 0.5)


def test_a_series_depends_on_its_number_alone(images: list[np.ndarray]) -> None:
    one, again, other = (draw(images, PLAN, number) for number in (4, 4, 5))
    np.testing.assert_array_equal(one.crops, again.crops)
    assert one.crops.shape == (LENGTH, 176, 176, 3)
    assert not np.array_equal(one.crops, other.crops)


def test_levels_rise_from_the_crop_itself(images: list[np.ndarray]) -> None:
    for number in range(8):
        one = draw(images, PLAN, number)
        assert one.levels[0] == 0 and (np.diff(one.levels) > 0).all() and one.levels[-1] <= 5
        if not one.other:
            np.testing.assert_array_equal(one.crops[0], one.reference)
        else:
            assert one.other != one.kind and not np.array_equal(one.crops[0], one.reference)


def test_gray_crops_lose_no_colour() -> None:
    gray = [np.repeat(RNG.integers(0, 255, (176, 176, 1), np.uint8), 3, axis=2)]
    kinds = {KINDS[draw(gray, PLAN, number).kind] for number in range(2 * len(KINDS))}
    assert kinds == set(DISTORTIONS) - {"saturation"}


def test_a_quarter_of_the_crops_is_enlarged() -> None:
    # Pixels of noise are independent until they are enlarged; there is no room to shrink it.
    noise = [np.repeat(RNG.integers(0, 255, (176, 176, 1), np.uint8), 3, axis=2)]
    alike = []
    for number in range(60):
        gray = draw(noise, PLAN, number).reference[..., 0].astype(float)
        alike.append(np.corrcoef(gray[:, 1:].ravel(), gray[:, :-1].ravel())[0, 1])
    assert 5 <= np.count_nonzero(np.array(alike) > 0.2) <= 27
    assert np.count_nonzero(np.abs(alike) < 0.05) >= 30


def test_some_crops_are_joined_of_two_images_and_some_carry_the_noise_of_a_sensor() -> None:
    flat = [np.full((200, 200, 3), value, np.uint8) for value in (70, 180)]
    joined = noisy = 0
    for number in range(80):
        seen = draw(flat, PLAN, number).reference.astype(int)
        assert np.ptp(seen, axis=2).max() == 0
        rows = seen[..., 0]
        if not np.ptp(rows):
            continue
        # Noise alone is faint and unlike from row to row.
        alike = np.corrcoef(rows[1:].ravel(), rows[:-1].ravel())[0, 1]
        joined += np.ptp(rows) > 20
        noisy += abs(alike) < 0.05 and 0.2 < rows.std() < 1.7
    # Three in twenty certainly, as half of the pairs are one image twice, and one in seven.
    assert 3 <= joined <= 36 and 3 <= noisy <= 25


def test_a_bank_goes_on_where_it_was_stopped(images: list[np.ndarray], tmp_path: Path) -> None:
    token = CancelToken()

    def stop(progress: object) -> None:
        if progress.done == 3:  # type: ignore[attr-defined]
            token.cancel()

    with pytest.raises(Cancelled):
        bank(images, ["a", "b"], PLAN, tmp_path, Context(token=token, on_progress=stop))
    facts = np.load(tmp_path / "facts.npy")
    done = ~np.isnan(facts[:, 0, 0])
    assert 0 < done.sum() < 6
    seen: list[float] = []
    context = Context(on_progress=lambda progress: seen.append(progress.done))
    whole = bank(images, ["a", "b"], PLAN, tmp_path, context)
    assert len(seen) == 6 - done.sum()
    np.testing.assert_array_equal(whole.facts[done], facts[done])
    for number in (0, 5):
        np.testing.assert_array_equal(whole.crops[number], draw(images, PLAN, number).crops)
    assert (np.asarray(whole.facts[..., 0]) <= 1).all()


def test_another_plan_is_made_anew(images: list[np.ndarray], tmp_path: Path) -> None:
    small = Plan(2, 176, 0.0, 0)
    first = np.array(bank(images, ["a", "b"], small, tmp_path, Context()).crops)
    second = bank(images, ["a", "b"], Plan(2, 176, 0.0, 1), tmp_path, Context()).crops
    assert not np.array_equal(first, second)
