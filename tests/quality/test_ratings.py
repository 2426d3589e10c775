"""Fitting to ratings: arithmetic on made-up features, and the whole way with a small network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_cvsuite.images import Image
from napari_cvsuite.jobs import Context
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.quality import ratings
from napari_cvsuite.quality.options import RatingsOptions, ScoreOptions
from napari_cvsuite.quality.ratings import Rated, RatingsError, fit, read_ratings
from napari_cvsuite.quality.score import run as score

RNG = np.random.default_rng(0)


def test_a_linear_rule_is_found_and_promised() -> None:
    features = RNG.normal(size=(60, 8))
    truth = RNG.normal(size=8)
    found = fit(features, 3 * features @ truth + 50, RNG.normal(size=8))
    np.testing.assert_allclose(found.weight, 3 * truth, rtol=0.05, atol=0.05)
    assert found.bias == pytest.approx(50, abs=0.2)
    assert found.srcc_held_out > 0.99 > found.srcc_before


def test_noise_promises_nothing() -> None:
    found = fit(RNG.normal(size=(40, 30)), RNG.normal(size=40), RNG.normal(size=30))
    assert abs(found.srcc_held_out) < 0.5


def test_a_good_layer_is_hardly_changed() -> None:
    features, weight = RNG.normal(size=(30, 20)), RNG.normal(size=20)
    rated = 10 * (features @ weight) + RNG.normal(scale=0.1, size=30)
    found = fit(features, rated, weight)
    assert found.srcc_before > 0.99 and found.srcc_held_out > 0.99
    np.testing.assert_allclose(found.weight, 10 * weight, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.arange(19.0), "rate 20 or more"),
        (np.ones(20), "all ratings are equal"),
        (np.array([np.nan, *range(19)]), "no finite number"),
    ],
)
def test_bad_ratings_are_refused(values: np.ndarray, said: str) -> None:
    with pytest.raises(RatingsError, match=said):
        fit(RNG.normal(size=(len(values), 3)), values, np.ones(3))


def test_the_table_is_read_and_its_faults_are_named(tmp_path: Path) -> None:
    table = tmp_path / "rated.csv"
    table.write_text("path,rating\na.png,3\nb.png,\nc.png,4.5\n")
    assert read_ratings(table, "rating") == ([tmp_path / "a.png", tmp_path / "c.png"], [3, 4.5], [])
    with pytest.raises(RatingsError, match="columns path and stars"):
        read_ratings(table, "stars")
    table.write_text("path,rating\na.png,good\n")
    with pytest.raises(RatingsError, match="no number"):
        read_ratings(table, "rating")
    with pytest.raises(RatingsError, match="cannot be read"):
        read_ratings(tmp_path / "none.csv", "rating")


def test_a_better_model_is_kept_and_gives_the_ratings(tiny_quality_model: str) -> None:
    from skimage.data import camera

    from napari_cvsuite.quality.distortions import distort

    rated = []
    for number in range(24):
        level = number % 6
        top = 8 * (number // 6)
        pixels = distort(camera()[top : top + 96, 200:296], "gaussian noise", level, number)
        rated.append(Rated(Image.from_array(pixels, name=f"n{number}"), 100.0 - 15 * level))
    options = RatingsOptions(model=tiny_quality_model, name="mine")
    result = ratings.run(rated, options, Context())
    assert result.better and result.kept == "mine" and result.fit.srcc_held_out > 0.8
    card = Catalogue().get("mine")
    assert card.metrics["srcc_held_out"] == pytest.approx(result.fit.srcc_held_out)
    row = score(rated[0].image, ScoreOptions(model="mine"), Context()).rows[0]
    assert 60 < row.score < 130


def test_slices_of_a_stack_are_seen_as_the_scores_see_them(tiny_quality_model: str) -> None:
    rng = np.random.default_rng(1)
    stack = rng.integers(0, 4000, (22, 48, 48), np.uint16)
    stack[11:] //= 4
    image = Image.from_array(stack)
    options = ScoreOptions(model=tiny_quality_model)
    scores = [row.score for row in score(image, options, Context()).rows]
    rated = [Rated(image, value, number) for number, value in enumerate(scores)]
    result = ratings.run(rated, RatingsOptions(model=tiny_quality_model), Context())
    # Ratings that are the scores themselves are explained by the layer as it is.
    assert result.fit.srcc_before == pytest.approx(1.0, abs=0.02) and not result.kept
