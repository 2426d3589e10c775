"""Distorted copies of what a network sees of one image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from skimage.io import imread
from typer.testing import CliRunner

from napari_cvsuite.cli import app
from napari_cvsuite.images import Image
from napari_cvsuite.jobs import Cancelled, CancelToken, Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.models.store import default_store
from napari_cvsuite.neurons.controls import CONTROLS, distorted
from napari_cvsuite.neurons.copies import run
from napari_cvsuite.neurons.copy_options import DISTORTIONS, CopyOptions
from napari_cvsuite.neurons.explain import predict

# Twice as large as what the network sees.
PIXELS = np.random.default_rng(0).integers(0, 255, (64, 80, 3), np.uint8)
LABELS = np.zeros((64, 80), np.uint8)
LABELS[8:24, 18:40] = 2


def test_all_distortions_are_offered_and_no_others() -> None:
    assert tuple(CONTROLS) == DISTORTIONS


def test_copies_are_those_of_the_accuracy_table(tiny_classifier: str) -> None:
    image, labels = Image.from_array(PIXELS), Image.from_array(LABELS)
    options = CopyOptions(model=tiny_classifier)
    found = run(image, options, Context(), labels)
    kinds = [(n, level) for n, one in CONTROLS.items() for level in one.levels or (None,)]
    assert [(one.distortion, one.level) for one in found.copies] == kinds and len(kinds) == 13
    seen = predict(image, options, Context())
    assert found.likely == seen.likely
    x = torch.from_numpy(seen.pixels.transpose(2, 0, 1).copy())[None]
    mask = torch.zeros(1, 32, 32)
    mask[0, 4:12, 5:16] = 1
    card = Catalogue().get(tiny_classifier)
    with default_store().lease(card, "cpu", "float32", exclusive=True) as network:
        for one in found.copies:
            copy = distorted(x, one.distortion, one.level, mask)
            np.testing.assert_array_equal(one.pixels, copy[0].permute(1, 2, 0))
            with torch.no_grad():
                shares = network(copy).softmax(dim=1)[0]
            assert one.likely[0].probability == pytest.approx(float(shares.max()))
            assert one.grid == seen.grid and one.tag == CONTROLS[one.distortion].tag
    # Without a mask there is no silhouette.
    assert len(run(image, options, Context()).copies) == 12


def test_a_smaller_copy_lies_in_the_middle(tiny_classifier: str) -> None:
    options = CopyOptions(model=tiny_classifier, distortion="scrambled", level=5)
    (one,) = run(Image.from_array(PIXELS), options, Context()).copies
    # Five tiles of six pixels; of the two that are left over one lies before them. What is seen
    # begins at column 8, and its pixels are two of the image wide.
    assert one.pixels.shape == (30, 30, 3) and one.title == "scrambled 5"
    assert one.grid.step == (2.0, 2.0) and one.grid.origin == (2.5, 10.5)


def test_what_does_not_go_together(tiny_classifier: str) -> None:
    def copies(**values: object) -> None:
        run(Image.from_array(PIXELS), CopyOptions(model=tiny_classifier, **values), Context())

    with pytest.raises(OptionError, match="needs a mask"):
        copies(distortion="silhouette")
    with pytest.raises(OptionError, match="a level is that of one distortion"):
        copies(level=2.0)
    with pytest.raises(OptionError, match="grey has no level"):
        copies(distortion="grey", level=2.0)
    with pytest.raises(ValueError, match="whole numbers"):
        copies(distortion="scrambled", level=2.5)
    with pytest.raises(OptionError, match="must be one of all, scrambled"):
        copies(distortion="melted")


def test_a_stopped_job_stops(tiny_classifier: str) -> None:
    token = CancelToken()
    context = Context(token=token, on_progress=lambda _: token.cancel())
    with pytest.raises(Cancelled):
        run(Image.from_array(PIXELS), CopyOptions(model=tiny_classifier), context)
    assert not default_store().in_use()


def test_command_line(tiny_classifier: str, tmp_path: Path) -> None:
    Picture.fromarray(PIXELS).save(tmp_path / "cell.png")
    Picture.fromarray(LABELS).save(tmp_path / "mask.png")
    words = ["neurons", "copies", str(tmp_path / "cell.png"), "--out", str(tmp_path / "out")]
    words += ["--mask", str(tmp_path / "mask.png"), "--model", tiny_classifier, "--device", "cpu"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    found = run(
        Image.from_array(PIXELS),
        CopyOptions(model=tiny_classifier),
        Context(),
        Image.from_array(LABELS),
    )
    for one in found.copies:
        first = one.likely[0]
        assert f"{one.title:16} {first.probability:7.2%}  {first.name}" in done.stdout
    written = imread(tmp_path / "out/cell.black-and-white.png")
    shown = next(one for one in found.copies if one.distortion == "black and white")
    np.testing.assert_array_equal(written, 255 * shown.pixels)
    facts = json.loads((tmp_path / "out/cell.copies.json").read_text())
    assert len(facts["copies"]) == 13 == len(list((tmp_path / "out").glob("*.png")))
