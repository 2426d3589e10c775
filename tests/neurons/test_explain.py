"""What share of a saliency map lies on an object, beside a random map."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from typer.testing import CliRunner

import napari_cvsuite
from napari_cvsuite.cli import app
from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.jobs import Context
from napari_cvsuite.neurons.explain import Inside, run
from napari_cvsuite.neurons.options import SaliencyOptions
from napari_cvsuite.neurons.sanity import pointing_game, relevance_mass

PIXELS = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
LABELS = np.zeros((32, 32), np.uint8)
LABELS[4:20, 8:28] = 5


@pytest.mark.parametrize("method", ["gradient", "guided", "layercam", "rise"])
def test_the_share_is_that_of_the_map(tiny_classifier: str, method: str) -> None:
    options = SaliencyOptions(model=tiny_classifier, method=method, samples=2, masks=16)
    image, mask = Image.from_array(PIXELS), Image.from_array(LABELS)
    found = run(image, options, Context(), mask)
    other = run(image, options, Context(), Image.from_array((LABELS == 0).astype("u1")))
    assert found.inside is not None and other.inside is not None
    assert found.inside.area == 16 * 20 / 32**2
    assert found.inside.mass + other.inside.mass == pytest.approx(1)
    assert found.inside.pointing != other.inside.pointing
    np.testing.assert_array_equal(found.values, run(image, options, Context()).values)
    if method != "layercam":
        positive = found.values.clip(0).astype(np.float64)
        share = positive[LABELS > 0].sum() / positive.sum()
        assert found.inside.mass == pytest.approx(share, rel=1e-5)
        assert found.inside.pointing == (LABELS.flat[found.values.argmax()] > 0)


def test_a_random_map_has_the_share_that_the_mask_has_of_the_image() -> None:
    mask = torch.zeros(8, 8)
    mask[:3, :5] = 1
    maps = torch.randn(2000, 8, 8, generator=torch.Generator().manual_seed(0))
    area = 15 / 64
    # Four deviations of a share among 2000; a mass varies less than a hit.
    allowed = 4 * (area * (1 - area) / 2000) ** 0.5
    hits = np.mean([pointing_game(one, mask) for one in maps])
    masses = np.mean([relevance_mass(one, mask) for one in maps])
    assert hits == pytest.approx(area, abs=allowed) and masses == pytest.approx(area, abs=allowed)


def test_in_words() -> None:
    assert Inside(True, 0.25, 0.125).in_words() == (
        "pointing game: the most relevant pixel lies inside the mask (of random maps 12.5% do); "
        "relevance mass in it 0.250 (random maps 0.125)"
    )
    assert "outside the mask" in Inside(False, float("nan"), 0.5).in_words()
    assert "mass in it none" in Inside(False, float("nan"), 0.5).in_words()


def test_a_mask_that_does_not_fit_is_said(tiny_classifier: str) -> None:
    options = SaliencyOptions(model=tiny_classifier)
    with pytest.raises(ImageError, match="same size"):
        run(Image.from_array(PIXELS), options, Context(), Image.from_array(LABELS[:30]))


def test_the_same_at_every_door(tiny_classifier: str, tmp_path: Path) -> None:
    options = SaliencyOptions(model=tiny_classifier, method="gradient_x_input")
    found = run(Image.from_array(PIXELS), options, Context(), Image.from_array(LABELS))
    assert found.inside is not None
    again = napari_cvsuite.saliency(
        PIXELS, LABELS, model=tiny_classifier, method="gradient_x_input", device="cpu"
    )
    assert again.inside == found.inside
    Picture.fromarray(PIXELS).save(tmp_path / "cell.png")
    Picture.fromarray(LABELS).save(tmp_path / "mask.png")
    words = ["neurons", "saliency", str(tmp_path / "cell.png"), "--out", str(tmp_path / "out")]
    words += ["--mask", str(tmp_path / "mask.png"), "--model", tiny_classifier]
    done = CliRunner().invoke(app, [*words, "--method", options.method, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert found.inside.in_words() in done.stdout
    written = json.loads((tmp_path / "out/cell.saliency.json").read_text())["inside"]
    assert replace(found.inside, **written) == found.inside
