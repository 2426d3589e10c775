"""The commands of image quality."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture
from typer.testing import CliRunner

import napari_cvsuite
from napari_cvsuite.cli import app

RUNNER = CliRunner()
RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir()
    Picture.fromarray(RNG.integers(0, 255, (64, 80), np.uint8)).save(made / "a.png")
    stack = RNG.integers(0, 9000, (3, 64, 64), np.uint16)
    tifffile.imwrite(made / "b.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"})
    (made / "bad.png").write_bytes(b"no image")
    return made


def test_a_folder_gives_rows_maps_and_failures(
    folder: Path, tmp_path: Path, tiny_quality_model: str
) -> None:
    table, maps = tmp_path / "q.csv", tmp_path / "maps"
    arguments = ["quality", str(folder), "--model", tiny_quality_model, "--csv", str(table)]
    done = RUNNER.invoke(
        app, [*arguments, "--map", str(maps), "--window", "32", "--step", "16", "--json"]
    )
    assert done.exit_code == 1, done.output
    report = json.loads(done.stdout)
    assert [Path(row["path"]).name for row in report["rows"]] == ["a.png"] + ["b.tif"] * 3
    assert [row["index"] for row in report["rows"]] == [0, 0, 1, 2]
    assert max(row["percentile"] for row in report["rows"]) == 100
    assert "damaged" in report["failures"][0]["error"]
    with table.open() as handle:
        rows = list(csv.DictReader(handle))
    assert {"path", "index", "model", "score", "likely_distortion", "confidence"} <= set(rows[0])
    for read, told in zip(rows, report["rows"], strict=True):
        assert float(read["score"]) == pytest.approx(told["score"], rel=1e-5)
    pixels = np.asarray(Picture.open(folder / "a.png"))
    same = napari_cvsuite.score_quality(pixels, model=tiny_quality_model, device="cpu")
    assert same.rows[0].score == pytest.approx(report["rows"][0]["score"], abs=2e-5)
    assert tifffile.imread(maps / "a.quality.tif").shape == (3, 4)
    assert tifffile.imread(maps / "b.quality.tif").shape == (3, 3, 3)
    facts = json.loads((maps / "a.quality.json").read_text())
    assert facts["grid"] == {"step": [16, 16], "origin": [15.5, 15.5]}


def test_a_reference_in_words(folder: Path, tiny_comparing_model: str) -> None:
    image = str(folder / "a.png")
    arguments = ["quality", image, "--model", tiny_comparing_model]
    done = RUNNER.invoke(app, [*arguments, "--reference", image])
    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"{image} 0: ")
    refused = RUNNER.invoke(app, arguments)
    assert refused.exit_code == 1 and "or a model without" in refused.output


def test_an_empty_folder_is_named(tmp_path: Path, tiny_quality_model: str) -> None:
    done = RUNNER.invoke(app, ["quality", str(tmp_path / "home" / "models"), "--model", "x"])
    assert done.exit_code != 0 and "holds no image" in str(done.exception)


def test_ratings_are_fitted_from_a_table(tmp_path: Path, tiny_quality_model: str) -> None:
    lines = ["path,rating"]
    for number in range(20):
        noise = RNG.normal(0, 2 + 10 * (number % 5), (64, 64))
        pixels = np.clip(np.linspace(40, 200, 64) + noise, 0, 255).astype(np.uint8)
        Picture.fromarray(pixels).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{5 - number % 5}")
    (tmp_path / "rated.csv").write_text("\n".join(lines))
    arguments = ["train", "ratings", str(tmp_path / "rated.csv"), "--model", tiny_quality_model]
    done = RUNNER.invoke(app, [*arguments, "--name", "mine", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["n"] == 20 and -1 <= report["srcc_held_out"] <= 1
    assert report["kept"] == ("mine" if report["better"] else "")
