"""The commands that look into a classifier through images: same result as from Python."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture
from skimage.io import imread
from typer.testing import CliRunner

import napari_cvsuite
from napari_cvsuite.cli import app
from napari_cvsuite.images import Image
from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.plain import plain
from napari_cvsuite.neurons import (
    browse,
    class_map,
    copies,
    dream,
    explain,
    favourites,
    mislead,
    silence,
    simplicity,
)
from napari_cvsuite.neurons.class_map_options import ClassMapOptions
from napari_cvsuite.neurons.copy_options import CopyOptions
from napari_cvsuite.neurons.explain import run
from napari_cvsuite.neurons.options import (
    AblateOptions,
    ActivationOptions,
    AttackOptions,
    MaximiseOptions,
    NeuronOptions,
    PatchOptions,
    SaliencyOptions,
    SmoothnessOptions,
)

RUNNER = CliRunner()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "cell.png"
    path.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    Picture.fromarray(pixels).save(path)
    return path


def _run(*arguments: object, ok: bool = True) -> Any:
    done = RUNNER.invoke(app, ["neurons", *map(str, arguments)])
    assert (done.exit_code == 0) == ok, done.output
    return done


def test_saliency_is_the_same_at_both_doors(
    picture: Path, tmp_path: Path, tiny_classifier: str
) -> None:
    out = tmp_path / "out"
    done = _run("saliency", picture, "--out", out, "--model", tiny_classifier, "--json")
    facts = json.loads(done.stdout)
    image = Image.from_array(imread(picture))
    found = run(image, SaliencyOptions(model=tiny_classifier), Context())
    assert np.array_equal(tifffile.imread(out / "cell.saliency.tif"), found.values)
    again = napari_cvsuite.saliency(imread(picture), model=tiny_classifier)
    assert np.array_equal(again.values, found.values)
    likely = napari_cvsuite.classify(imread(picture), model=tiny_classifier).likely
    assert likely == again.likely
    assert napari_cvsuite.attack(imread(picture), model=tiny_classifier, steps=1).eps > 0
    assert facts["target"] == found.target and facts["grid"]["step"] == list(found.grid.step)
    assert imread(out / "cell.saliency.png").shape == (32, 32, 3)
    written = json.loads((out / "cell.saliency.json").read_text())
    assert written["provenance"]["weights_sha256"] == found.provenance["weights_sha256"]
    told = _run("saliency", picture, "--out", out, "--model", tiny_classifier, "--check").stdout
    assert "not a diagnosis" in told and "random" in told


def test_each_command_writes_what_it_says(
    picture: Path, tmp_path: Path, tiny_classifier: str
) -> None:
    out, model = tmp_path / "out", ("--model", tiny_classifier)
    assert "%" in _run("predict", picture, *model).stdout
    _run("channels", picture, "--out", out, *model, "--layer", "features.4")
    assert tifffile.imread(out / "cell.features.4.tif").shape == (96, 16, 16)
    told = _run("classes", picture, "--out", out, *model, "--cells", 4).stdout
    found = napari_cvsuite.class_map(imread(picture), model=tiny_classifier, cells=4)
    assert np.array_equal(tifffile.imread(out / "cell.classes.tif"), found.labels)
    assert found.words in told and found.rows()[0]["class"] in told
    assert json.loads((out / "cell.classes.json").read_text())["measure"] == "windows"
    told = _run("attack", picture, "--out", out, *model, "--steps", 2).stdout
    assert "The prediction" in told
    assert tifffile.imread(out / "cell.change.tif").shape == (3, 32, 32)
    table = tmp_path / "ablate.csv"
    _run("ablate", picture, *model, "--layer", "features.9", "--csv", table)
    with table.open() as handle:
        assert len(list(csv.DictReader(handle))) == 128
    grid = tmp_path / "patches.png"
    more = ("--layer", "features.1", "--picture", grid, "--csv", tmp_path / "p.csv", "--top", 2)
    told = _run("patches", picture.parent, *model, *more).stdout
    assert "features.1, 1 slices" in told and imread(grid).shape == (48 * 50, 50, 3)
    assert "first kernels" in _run("simplicity", picture, *model).stdout
    _run("maximise", "--out", tmp_path / "m.png", *model, "--steps", 2, "--channel", 3)
    assert imread(tmp_path / "m.png").shape == (32, 32, 3)


def _like(one: Any, other: Any) -> bool:
    """Return whether two results are the same but for the time that they took."""
    if isinstance(one, dict):
        keys = set(one) - {"seconds"}
        return keys == set(other) - {"seconds"} and all(_like(one[k], other[k]) for k in keys)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_like, one, other))
    return one == (pytest.approx(other, rel=1e-4, abs=1e-7) if isinstance(one, float) else other)


def test_every_command_gives_what_python_gives(
    picture: Path, tmp_path: Path, tiny_classifier: str
) -> None:
    name, image = tiny_classifier, Image.from_array(imread(picture))
    layer, out = ("--layer", "features.4"), ("--out", tmp_path / "out")
    chosen = {"model": name, "layer": "features.4"}
    cases: list[tuple[tuple[object, ...], Any]] = [
        (("predict", picture), explain.predict(image, NeuronOptions(model=name), Context())),
        (
            ("channels", picture, *out, *layer, "--channel", 3),
            browse.run(image, ActivationOptions(**chosen, channel=3), Context()),
        ),
        (
            ("attack", picture, *out, "--steps", 3, "--norm", "linf"),
            mislead.run(image, AttackOptions(model=name, steps=3, norm="linf"), Context()),
        ),
        (
            ("ablate", picture, *layer, "--silenced", "1,4-6", "--mode", "mean"),
            silence.run(image, AblateOptions(**chosen, silenced="1,4-6", mode="mean"), Context()),
        ),
        (
            ("simplicity", picture, "--sigma", 0.2),
            simplicity.run(image, SmoothnessOptions(model=name, sigma=0.2), Context()),
        ),
        (
            ("maximise", "--out", tmp_path / "m.png", *layer, "--steps", 2),
            dream.run(MaximiseOptions(**chosen, steps=2), Context()),
        ),
        (
            ("patches", picture, *layer, "--channel", 2),
            favourites.run([picture], PatchOptions(**chosen, channel=2), Context()),
        ),
        (
            ("classes", picture, *out, "--cells", 3),
            class_map.run(image, ClassMapOptions(model=name, cells=3), Context()),
        ),
        (
            ("copies", picture, *out, "--distortion", "noise"),
            copies.run(image, CopyOptions(model=name, distortion="noise"), Context()),
        ),
    ]
    for words, expected in cases:
        told = json.loads(_run(*words, "--model", name, "--device", "cpu", "--json").stdout)
        assert _like(told, json.loads(json.dumps(plain(expected)))), words[0]


def test_mistakes_end_with_one_line(picture: Path, tmp_path: Path, tiny_classifier: str) -> None:
    arguments = ("predict", picture, "--model", tiny_classifier)
    assert "top,left,height,width" in str(_run(*arguments, "--view", "region", ok=False).exception)
    assert "no model called" in str(_run("predict", picture, "--model", "x", ok=False).exception)
    (tmp_path / "file").write_text("")
    blocked = _run("channels", picture, "--out", tmp_path / "file", *arguments[2:], ok=False)
    assert "choose another" in str(blocked.exception)
