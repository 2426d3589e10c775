"""The commands that compare classifiers on labelled images: same result as from Python."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from typer.testing import CliRunner

from napari_cvsuite.cli import app
from napari_cvsuite.jobs import Context
from napari_cvsuite.neurons.control_accuracy import control_rows, controls_of_folder
from napari_cvsuite.neurons.options import BiasOptions

RUNNER = CliRunner()


def _run(*arguments: object, ok: bool = True) -> Any:
    done = RUNNER.invoke(app, ["neurons", *map(str, arguments)])
    assert (done.exit_code == 0) == ok, done.output
    return done


def test_dissection_of_two_models(
    tmp_path: Path, tiny_classifier: str, other_classifier: str
) -> None:
    rng = np.random.default_rng(0)
    images, masks = tmp_path / "images", tmp_path / "masks"
    for folder in (images, masks):
        folder.mkdir()
    for number in range(6):
        mask = np.zeros((32, 32), np.uint8)
        mask[4:20, 6:24] = 1
        pixels = rng.integers(0, 80, (32, 32), np.uint8) + 100 * mask
        Picture.fromarray(pixels).save(images / f"{number}.png")
        Picture.fromarray(mask).save(masks / f"{number}.png")
    names, table = tmp_path / "names.json", tmp_path / "d.csv"
    names.write_text('{"1": "nucleus"}')
    arguments = ("dissect", "--images", images, "--masks", masks, "--model", tiny_classifier)
    more = ("--other", other_classifier, "--names", names, "--csv", table, "--shifts", 10)
    told = _run(*arguments, *more, "--layer", "features.1").stdout
    assert told.count("nucleus: channel") == 2 and "gained:" in told
    with table.open() as handle:
        assert len(list(csv.DictReader(handle))) == 2 * 48
    names.write_text("[1]")
    assert "names by label number" in str(_run(*arguments, "--names", names, ok=False).exception)
    for path in masks.iterdir():
        path.rename(masks / f"x{path.name}")
    assert "names of their images" in str(_run(*arguments, ok=False).exception)


def test_bias_and_controls_of_two_models(
    tmp_path: Path, tiny_classifier: str, other_classifier: str
) -> None:
    rng = np.random.default_rng(0)
    stimuli, data = tmp_path / "stimuli", tmp_path / "data"
    stimuli.mkdir()
    for name in ("cat", "dog", "bird"):
        (data / name).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 255, (32, 32, 3), np.uint8)
            Picture.fromarray(pixels).save(data / name / f"{number}.png")
            Picture.fromarray(pixels).save(stimuli / f"{name}{number}-dog{number}.png")
    models = ("--model", tiny_classifier, "--other", other_classifier)
    assert _run("bias", stimuli, *models).stdout.count("shape bias") == 2
    table = tmp_path / "c.csv"
    arguments = ("controls", "--images", data, "--model", tiny_classifier, "--csv", table)
    assert "CE" not in _run(*arguments).stdout
    rows = json.loads(_run(*arguments, "--json").stdout)
    assert rows[0]["control"] == "none" and {row["tag"] for row in rows} <= {
        "paper",
        "secondary",
        "ours",
    }
    with table.open() as handle:
        assert len(list(csv.DictReader(handle))) == len(rows)


def test_corruption_errors_are_those_of_python(
    animals: Path, tmp_path: Path, tiny_classifier: str, other_classifier: str
) -> None:
    models, table = (tiny_classifier, other_classifier), tmp_path / "c.csv"
    arguments = ("controls", "--images", animals, "--model", models[0], "--other", models[1])
    rows = json.loads(_run(*arguments, "--device", "cpu", "--csv", table, "--json").stdout)
    found = controls_of_folder(animals, models, BiasOptions(model=models[0]), Context())
    expected = control_rows(found, models)
    assert rows == expected and rows[-1]["control"] == "mean corruption error"
    with table.open() as handle:
        written = list(csv.DictReader(handle))
    assert written[-1].keys() == rows[-1].keys() and f"{models[1]} CE" in written[-1]
    told = _run(*arguments).stdout
    assert "mean corruption error" in told and "in the place of AlexNet" in told
