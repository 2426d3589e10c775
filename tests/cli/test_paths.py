"""The commands that take transformers apart: same result as from Python."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
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

RUNNER = CliRunner()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "cell.png"
    path.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    Picture.fromarray(pixels).save(path)
    return path


def _run(*arguments: object, ok: bool = True) -> Any:
    done = RUNNER.invoke(app, ["paths", *map(str, arguments)])
    assert (done.exit_code == 0) == ok, done.output
    return done


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_contributions_are_the_same_at_both_doors(
    picture: Path, tmp_path: Path, tiny_transformer: str
) -> None:
    out, table = tmp_path / "out", tmp_path / "t.csv"
    arguments = ("contributions", picture, "--model", tiny_transformer)
    facts = json.loads(_run(*arguments, "--json", "--csv", table, "--out", out).stdout)
    found = napari_cvsuite.contributions(imread(picture), model=tiny_transformer)
    assert facts["shares"] == found.shares.tolist() and facts["rows"] == found.rows()
    assert facts["likely"][0]["name"] == found.likely[0].name
    assert [row["path"] for row in _rows(table)] == [*found.names, "constant"]
    assert {path.name for path in out.iterdir()} == {
        "cell.contributions.csv",
        "cell.contributions.json",
        "cell.contributions.shares.png",
        "cell.contributions.paths.png",
    }
    told = _run(*arguments, "--target", "cat-dog").stdout
    assert "cat - dog: sum" in told and "not what the network would do without it" in told
    assert "minus cell" in _run(*arguments, "--other", picture).stdout
    other = napari_cvsuite.contributions(
        imread(picture), imread(picture).transpose(1, 0, 2), model=tiny_transformer
    )
    assert other.against == "image" and other.shares.any()


def test_maps_are_the_same_at_both_doors(
    picture: Path, tmp_path: Path, tiny_transformer: str
) -> None:
    out = tmp_path / "out"
    arguments = ("map", picture, "--out", out, "--model", tiny_transformer)
    told = _run(*arguments, "--path", "msa_1").stdout
    found = napari_cvsuite.path_map(imread(picture), model=tiny_transformer, path="msa_1")
    assert np.array_equal(tifffile.imread(out / "cell.share.tif"), found.values)
    assert "share of msa_1" in told and "tokens without a place" in told
    facts = json.loads(_run(*arguments, "--kind", "rollout", "--json").stdout)
    assert facts["kind"] == "rollout" and facts["own"] is None
    assert (out / "cell.rollout.png").is_file()


def test_interventions_and_depth_of_an_image(
    picture: Path, tmp_path: Path, tiny_transformer: str
) -> None:
    model, table = ("--model", tiny_transformer), tmp_path / "w.csv"
    told = _run("whatif", picture, *model, "--csv", table).stdout
    assert "total_module, zero: logit of" in told and "estimate" in told
    rows = _rows(table)
    assert len(rows) == 4 and {row["intervention"] for row in rows} == {"total_module"}
    assert len(rows[0]["model_sha256"]) == 64 and rows[0]["image"] == "cell"
    told = _run("whatif", picture, *model, "--off", "msa_0,ffn_1").stdout
    assert "msa_0+ffn_1" in told and "%" in told
    mean = ("--replacement", "mean", "--intervention", "total_head")
    told = _run("whatif", picture, *model, *mean, "--reference", picture.parent).stdout
    assert "msa_1.head_2" in told
    told = _run("depth", picture, *model, "--out", tmp_path / "out").stdout
    assert "0 layers:" in told and "2 layers:" in told
    assert (tmp_path / "out" / "cell.depth.png").is_file()


def test_a_stack_is_the_same_at_both_doors(tmp_path: Path, tiny_transformer: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 40, 50), np.uint8)
    stack, table, out = tmp_path / "stack.tif", tmp_path / "s.csv", tmp_path / "out"
    tifffile.imwrite(stack, pixels, photometric="minisblack", metadata={"axes": "ZYX"})
    chosen = {"off": "msa_0", "weights": "ffn_1=0.5", "replacement": "mean"}
    arguments = [part for name, value in chosen.items() for part in (f"--{name}", value)]
    given = ("stack", stack, "--model", tiny_transformer, *arguments)
    facts = json.loads(_run(*given, "--csv", table, "--out", out, "--json").stdout)
    found = napari_cvsuite.path_stack(pixels, model=tiny_transformer, **chosen)
    assert facts["rows"] == found.rows() and facts["after"] == found.after.tolist()
    assert [row["slice"] for row in _rows(table)] == ["0", "1", "2"]
    assert (out / "stack.stack.png").is_file()
    told = _run(*given).stdout
    assert "msa_0+ffn_1*0.5, total_module, mean: prediction of every slice" in told
    assert told.count("becomes") == 3
    others = _run(*given, "--reference", stack).stdout
    with_others = napari_cvsuite.path_stack(pixels, [pixels], model=tiny_transformer, **chosen)
    assert f"effect {with_others.effects[0]:+.3f}" in others
    told = _run("stack", stack, "--model", tiny_transformer, ok=False)
    assert "name the paths to take away in every slice" in str(told.exception)
    told = _run("whatif", stack, "--weights", "msa_0=3", ok=False)
    assert "from 0 to 2" in told.output


def test_measures_over_labelled_images(
    animals: Path, tmp_path: Path, tiny_transformer: str
) -> None:
    model, here = ("--model", tiny_transformer), ("--images", animals)
    told = _run("depth-accuracy", *here, *model, "--limit", 9).stdout
    assert told.count("layers:") == 3
    out = tmp_path / "out"
    told = _run("influence", *here, *model, "--interventions", "total_edge", "--out", out).stdout
    assert told.count("total_edge zero") == 2 and "n = 36" in told
    assert (out / f"{tiny_transformer}.influence.png").is_file()
    told = _run("frequency", animals / "cat", *model, "--off", "embed").stdout
    assert "than the sum" in told and "These paths" in told
    told = _run("lengths", *model).stdout
    assert "3 layer paths, 5 module paths, 9 with heads apart" in told


def test_labels_can_come_from_a_table(animals: Path, tmp_path: Path, tiny_transformer: str) -> None:
    folder, table = tmp_path / "flat", tmp_path / "labels.csv"
    folder.mkdir()
    lines = ["file,kind"]
    for path in sorted(animals.glob("*/0[0-3].png")):
        name = f"{path.parent.name}-{path.name}"
        path.rename(folder / name)
        lines.append(f"{name},{path.parent.name}")
    table.write_text("\n".join(lines))
    arguments = ("depth-accuracy", "--images", folder, "--labels", f"{table}:kind")
    facts = json.loads(_run(*arguments, "--model", tiny_transformer, "--json").stdout)
    assert facts["rows"][0]["n"] == 12


def test_new_networks_are_imported(
    animals: Path, tmp_path: Path, tiny_transformer: str, install_transformer: Callable[..., str]
) -> None:
    for name, arguments in (
        ("pruned-vit", ("prune", "--method", "loss", "--steps", 1)),
        ("scaled-vit", ("scale", "--per", "channel", "--steps", 5)),
    ):
        out = tmp_path / name
        model = ("--images", animals, "--model", tiny_transformer, "--out", out)
        told = _run(*arguments, *model).stdout
        assert "change of held-out accuracy" in told and "models import" in told
        if name == "pruned-vit":
            assert "Pruning may lower accuracy" in told
            assert (out / "paths.prune.png").is_file()
        assert RUNNER.invoke(app, ["models", "import", str(out)]).exit_code == 0
        assert "3 layer paths" in _run("lengths", "--model", name).stdout
    streaming = install_transformer("stream-vit", ensemble_scale="scalar", placement="stream")
    told = _run("fold", "--model", streaming, "--out", tmp_path / "folded-vit").stdout
    assert "largest change of a logit" in told
    assert RUNNER.invoke(app, ["models", "import", str(tmp_path / "folded-vit")]).exit_code == 0


def test_mistakes_end_with_one_line(
    picture: Path, tmp_path: Path, tiny_transformer: str, tiny_classifier: str
) -> None:
    model = ("--model", tiny_transformer)
    for arguments, words in (
        (("contributions", picture, "--model", tiny_classifier), "no sum of paths"),
        (("contributions", picture, *model, "--target", "cow"), "no class 'cow'"),
        (("contributions", tmp_path / "none.png", *model), "none.png"),
        (("whatif", picture, *model, "--replacement", "mean"), "no other slices"),
        (("map", picture, *model, "--out", picture, "--path", "msa_0"), "choose another"),
        (("influence", "--images", tmp_path, *model), "fewer than two classes"),
        (("fold", *model, "--out", tmp_path / "f"), "no weights of its paths"),
    ):
        done = _run(*arguments, ok=False)
        assert done.exit_code == 1 and words in str(done.exception)
    # What the options themselves refuse is a mistake of usage.
    for arguments in (
        ("whatif", picture, *model, "--off", "x"),
        ("map", picture, *model, "--out", tmp_path, "--kind", "x"),
        ("prune", "--images", tmp_path, *model, "--method", "hand"),
    ):
        assert _run(*arguments, ok=False).exit_code == 2
