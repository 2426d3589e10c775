from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture
from typer.testing import CliRunner

import napari_cvsuite
from napari_cvsuite.cli import app
from napari_cvsuite.jobs import option_specs
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.quality.options import MapOptions, RatingsOptions
from napari_cvsuite.quality.options import TrainOptions as QualityTrainOptions
from napari_cvsuite.segmentation.options import PredictOptions, RetrainOptions, TrainOptions

RUNNER = CliRunner()


def test_segment_writes_the_same_pixels_as_python(tmp_path: Path, tiny_model: str) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Picture.fromarray(rng.integers(0, 255, (50, 60), dtype="u1")).save(tmp_path / f"{name}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    out = tmp_path / "out"
    files = [str(tmp_path / f"{name}.png") for name in ("a", "bad", "b")]
    done = RUNNER.invoke(
        app, ["segment", *files, "--model", tiny_model, "--out", str(out), "--json"]
    )
    assert done.exit_code == 1, done.output
    summary = json.loads(done.stdout)
    assert summary == json.loads((out / "summary.json").read_text())
    assert summary["failed"] == 1 and "damaged" in summary["inputs"][1]["error"]
    for name in ("a", "b"):
        labels = tifffile.imread(out / f"{name}.labels.tif")
        pixels = np.asarray(Picture.open(tmp_path / f"{name}.png"))
        result = napari_cvsuite.segment(pixels, model=tiny_model)
        assert labels.dtype == np.uint8 and np.array_equal(labels, result.classes)
        rows = list(csv.DictReader((out / f"{name}.objects.csv").read_text().splitlines()))
        assert len(rows) == len(result.table)
    areas = summary["inputs"][0]["class_areas"]
    assert sum(areas.values()) == 50 * 60


def test_inputs_of_one_stem_do_not_overwrite_each_other(tmp_path: Path, tiny_model: str) -> None:
    files = []
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "a.npy", np.eye(40))
        files.append(str(tmp_path / folder / "a.npy"))
    out = tmp_path / "out"
    done = RUNNER.invoke(app, ["segment", *files, "--model", tiny_model, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert {p.name for p in out.glob("*.tif")} == {"a.labels.tif", "a-2.labels.tif"}


def test_command_line_enforces_the_ranges_of_the_options() -> None:
    for command, options in (
        (["segment", "x.png", "--out", "o"], PredictOptions),
        (["train", "segment", "--out", "o"], TrainOptions),
        (["train", "corrections", "--images", "i", "--labels", "l"], RetrainOptions),
        (["quality", "x.png"], MapOptions),
        (["train", "quality", "--out", "o"], QualityTrainOptions),
        (["train", "ratings", "x.csv"], RatingsOptions),
    ):
        for name, (spec, _) in option_specs(options).items():
            if spec.maximum is None:
                continue
            flag = "--" + name.replace("_", "-")
            done = RUNNER.invoke(app, [*command, flag, str(spec.maximum * 2)])
            assert done.exit_code == 2, (name, done.output)
    done = RUNNER.invoke(app, ["segment", "x.png", "--out", "o", "--tile", "100"])
    assert done.exit_code == 2 and "multiple of 32" in done.output


def test_models_commands(tiny_model: str) -> None:
    listed = RUNNER.invoke(app, ["models", "list", "--json"])
    assert tiny_model in [card["name"] for card in json.loads(listed.stdout)]
    assert RUNNER.invoke(app, ["models", "verify", tiny_model]).exit_code == 0
    assert (
        json.loads(RUNNER.invoke(app, ["models", "info", tiny_model]).stdout)["name"] == tiny_model
    )


def test_import_and_help_load_no_torch_and_no_qt() -> None:
    code = (
        "import sys, napari_cvsuite, napari_cvsuite.cli\n"
        "for words in ([], ['neurons'], ['paths'], ['paths', 'whatif']):\n"
        "    try: napari_cvsuite.cli.app([*words, '--help'])\n"
        "    except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'qtpy', 'PyQt5', 'PyQt6', 'napari'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_bundle_travels_to_a_machine_without_network(
    tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.zip"
    done = RUNNER.invoke(app, ["models", "export", tiny_model, "--out", str(bundle)])
    assert done.exit_code == 0, done.output
    monkeypatch.setenv("NAPARI_CVSUITE_HOME", str(tmp_path / "elsewhere"))
    assert RUNNER.invoke(app, ["models", "verify", tiny_model]).exit_code != 0
    assert RUNNER.invoke(app, ["models", "import", str(bundle)]).exit_code == 0
    assert RUNNER.invoke(app, ["models", "verify", tiny_model]).exit_code == 0


def test_evaluate_reports_dice_of_the_model_own_masks_as_one(
    tmp_path: Path, tiny_model: str
) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        pixels = rng.integers(0, 255, (40, 40), dtype="u1")
        Picture.fromarray(pixels).save(tmp_path / f"images/{number}.png")
        mask = napari_cvsuite.segment(pixels, model=tiny_model).classes
        Picture.fromarray(mask).save(tmp_path / f"masks/{number}.png")
    (tmp_path / "index.csv").write_text("name,kind\n0,one\n1,two\n")
    arguments = ["evaluate", "segment", "--images", str(tmp_path / "images"), "--masks"]
    arguments += [str(tmp_path / "masks"), "--model", tiny_model, "--json", "--device", "cpu"]
    done = RUNNER.invoke(app, [*arguments, "--groups", f"{tmp_path / 'index.csv'}:kind"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert {k: v["n"] for k, v in report["groups"].items()} == {"all": 2, "one": 1, "two": 1}
    assert report["groups"]["all"]["dice"] == 1.0


def test_import_of_a_network_that_sees_the_whole_image(tmp_path: Path, tiny_model: str) -> None:
    source = tmp_path / "tiny.safetensors"
    arguments = ["models", "import", str(source), "--name", "published"]
    wrong = RUNNER.invoke(app, [*arguments, "--colour", "ycrcb"])
    assert wrong.exit_code == 2 and "--whole" in wrong.output
    done = RUNNER.invoke(app, [*arguments, "--whole", "512", "--colour", "ycrcb"])
    assert done.exit_code == 0, done.output
    card = Catalogue().get("published").input
    assert (card.mode, card.tile, card.colour, card.scale) == ("resize", 512, "ycrcb", 1.0)


@pytest.mark.parametrize(("validation", "counts"), [("none", (3, 0)), ("", (2, 1))])
def test_training_with_and_without_validation(
    tmp_path: Path, validation: str, counts: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    for folder, top in (("images", 255), ("masks", 1)):
        (tmp_path / folder).mkdir()
        for number in range(3):
            pixels = rng.integers(0, top, (64, 64), dtype="u1", endpoint=True)
            Picture.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    arguments = ["train", "segment", "--images", str(tmp_path / "images"), "--masks"]
    arguments += [str(tmp_path / "masks"), "--out", str(tmp_path / "run"), "--width", "4"]
    arguments += ["--size", "64", "--batch", "2", "--epochs", "1", "--device", "cpu", "--json"]
    arguments += ["--validation", validation] if validation else []
    done = RUNNER.invoke(app, arguments)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["trained_on"], report["validated_on"]) == counts
    assert (report["validation_dice"] is None) == (not counts[1])
    assert (tmp_path / "run" / "model.safetensors").is_file()
