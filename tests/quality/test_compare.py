"""Ranking of versions of an image."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.jobs import Context
from napari_cvsuite.quality.compare import run
from napari_cvsuite.quality.options import ScoreOptions

RNG = np.random.default_rng(0)
PLANE = RNG.integers(20, 200, (48, 64), np.uint8)


def _named(name: str, array: np.ndarray) -> Image:
    return Image.from_array(array, name=name)


def test_versions_are_ranked_with_their_differences(tiny_comparing_model: str) -> None:
    versions = [_named("same", PLANE), _named("plus", PLANE + 51), _named("again", PLANE)]
    options = ScoreOptions(model=tiny_comparing_model)
    found = run(versions, options, Context(), _named("ref", PLANE))
    scores = [one.score for one in found.versions]
    assert scores == sorted(scores, reverse=True)
    ranks = {one.name: one.rank for one in found.versions}
    assert ranks["same"] == ranks["again"] != ranks["plus"]
    differences = {one.name: one.difference for one in found.versions}
    for name, expected in (("same", 0.0), ("plus", 0.2)):
        shown = differences[name]
        assert shown is not None and shown.shape == PLANE.shape
        np.testing.assert_allclose(shown, expected, atol=1e-6)


def test_without_reference_there_are_ranks_alone(tiny_quality_model: str) -> None:
    stack = np.stack([PLANE, PLANE])
    found = run(
        [_named("a", stack), _named("b", stack[:, ::-1].copy())],
        ScoreOptions(model=tiny_quality_model),
        Context(),
    )
    assert all(one.difference is None and len(one.rows) == 2 for one in found.versions)


def test_one_version_and_flat_ones_are_refused(tiny_quality_model: str) -> None:
    options = ScoreOptions(model=tiny_quality_model)
    with pytest.raises(ImageError, match="two versions or more"):
        run([_named("a", PLANE)], options, Context())
    with pytest.raises(ImageError, match="flat: there is nothing to judge"):
        run([_named("a", PLANE), _named("flat", np.zeros_like(PLANE))], options, Context())
