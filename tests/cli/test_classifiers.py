"""The commands that train and measure classifiers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from typer.testing import CliRunner

from napari_cvsuite.cli import app

RUNNER = CliRunner()


def test_a_classifier_is_trained_imported_and_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data, out = tmp_path / "data", tmp_path / "my-run"
    for name, low in (("bright", 150), ("dark", 0)):
        (data / name).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(low, low + 100, (16, 16, 3), np.uint8)
            Picture.fromarray(pixels).save(data / name / f"{number}.png")
    train = ["train", "classifier", "--images", str(data), "--out", str(out), "--epochs", "1"]
    train += ["--arch", "alexnet-small", "--size", "16", "--held-out", "0.2", "--batch", "8"]
    done = RUNNER.invoke(app, [*train, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["trained_on"] == 16
    assert RUNNER.invoke(app, ["models", "import", str(out)]).exit_code == 0
    measure = ["evaluate", "classifier", "--images", str(data), "--model", "my-run"]
    done = RUNNER.invoke(app, [*measure, "--attack", "l2", "--steps", "2"])
    assert done.exit_code == 0 and "under attack" in done.stdout and "n = 20" in done.stdout
    wrong = RUNNER.invoke(app, [*train, "--adversarial", "l1"])
    assert wrong.exit_code == 2
