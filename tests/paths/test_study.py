"""The study of deep transformers: real trainings of a few steps, and comparisons by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from typer.testing import CliRunner

from napari_cvsuite.cli import app
from napari_cvsuite.jobs import Cancelled, CancelToken, Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths.study import FILE, StudyInputs, run, training_options
from napari_cvsuite.paths.study_options import StudyOptions
from napari_cvsuite.paths.study_read import StudyFileError, packaged_studies, read_study
from napari_cvsuite.paths.study_result import (
    Study,
    accuracy,
    difference,
    kind_rows,
    seeds_of,
    short_paths,
)
from napari_cvsuite.training.accuracy import wilson
from napari_cvsuite.training.given import given_classifier
from napari_cvsuite.training.labelled import find_labelled, hold_out, read_labelled, tensors
from napari_cvsuite.training.loop import RunFolderError
from tests.paths.studies import trained

QUICK = StudyOptions(
    depths="1,2", variants="distill-logit", seeds=1, epochs=1, batch=8, held_out=0.5
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that brightness tells apart, twelve training and five test images of each."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 5)):
        for name, low in (("bright", 120), ("dark", 0)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(low, low + 130, (16, 16, 3), np.uint8)
                Picture.fromarray(pixels).save(folder / f"{number}.png")
    return root


def _inputs(folders: Path, out: Path) -> StudyInputs:
    return StudyInputs(folders / "train", folders / "test", out)


@pytest.fixture(scope="module")
def made(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    out = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        # Ten test images are three batches then.
        patch.setattr("napari_cvsuite.paths.study_measure.BATCH", 4)
        return out, run(_inputs(folders, out), QUICK, Context())


def test_numbers_are_those_of_the_written_networks(made: tuple[Path, Study], folders: Path) -> None:
    out, study = made
    assert [(one.variant, one.layers) for one in study.runs] == [
        ("plain", 1),
        ("plain", 2),
        ("distill-logit", 2),
    ]
    test = read_labelled(find_labelled(folders / "test"), 16, Context())
    labels, x = torch.from_numpy(test.labels), tensors(test.images)
    for one in study.runs:
        found = one.measured
        name = f"{one.variant}-L{one.layers}-s0"
        network, _ = given_classifier(str(out / name / "model.safetensors"))
        model = network.model
        assert isinstance(model, VisionTransformer)
        assert model.config.num_layers == one.layers and not model.config.stem
        with torch.no_grad():
            logits = network(x)
            streams = [stream.final for stream in model.streams(network.normalize(x))]
            lens = [model.classify(final).argmax(dim=1) for final in streams]
            lengths = [final[:, 1:].norm(dim=-1).mean() for final in streams]
            without_start = model.classify(streams[-1] - streams[0]).argmax(dim=1)
        right = int((logits.argmax(dim=1) == labels).sum())
        assert found.accuracy == wilson(right, 10)
        assert found.loss == pytest.approx(
            float(torch.nn.functional.cross_entropy(logits, labels)), abs=1e-5
        )
        assert found.lens == tuple(float((one == labels).double().mean()) for one in lens)
        assert found.stream == pytest.approx([float(one) for one in lengths], rel=1e-5)
        assert found.from_layer[0] == found.lens[-1] == right / 10
        assert found.from_layer[1] == float((without_start == labels).double().mean())
        assert len(found.from_layer) == len(found.lens) == one.layers + 1
        assert (one.trained_on, one.held_out) == (12, 12)
        assert one.parameters == sum(each.numel() for each in network.parameters())
        for gain in (found.pruned, *found.scaled.values()):
            assert (gain.chosen_on[0].images, gain.test[0].images) == (12, 10)
            assert gain.test[0].accuracy == right / 10
            assert gain.chosen_on[1].loss <= gain.chosen_on[0].loss + 1e-6
            change = gain.test[1].accuracy - gain.test[0].accuracy
            assert gain.change.value == pytest.approx(change)
            assert gain.change.low <= change <= gain.change.high


def test_choices_are_made_on_what_training_held_out(
    made: tuple[Path, Study], folders: Path
) -> None:
    out, study = made
    network, _ = given_classifier(str(out / "plain-L2-s0" / "model.safetensors"))
    images = read_labelled(find_labelled(folders / "train"), 16, Context())
    _, held = hold_out(images, 0.5, 0)
    with torch.no_grad():
        logits = network(tensors(held.images))
    loss = float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(held.labels)))
    one = study.of("plain", 2)[0]
    assert one.measured.pruned.chosen_on[0].loss == pytest.approx(loss, abs=1e-5)
    guesses = logits.argmax(dim=1).numpy()
    recall = np.mean([(guesses[held.labels == k] == k).mean() for k in (0, 1)])
    assert one.score == pytest.approx(recall)


def test_the_file_holds_everything(made: tuple[Path, Study], folders: Path) -> None:
    out, study = made
    assert study.complete and read_study(out / FILE) == study
    facts = json.loads((out / FILE).read_text())
    assert facts["summary"][1]["accuracy"]["values"] == [study.runs[1].measured.accuracy.value]
    assert facts["data"]["train"]["folder"] == f"{folders.name}/train"
    assert str(folders) not in (out / FILE).read_text()
    assert study.command == (
        "napari-cvsuite paths study --depths 1,2 --variants distill-logit --seeds 1 --epochs 1 "
        f"--batch 8 --held-out 0.5 --images train --test test --out {out.name}"
    )
    assert study.depths == (1, 2) and study.deepest == 2 and study.variants == ("distill-logit",)
    assert study.kinds == (("plain", 1), ("plain", 2), ("distill-logit", 2))


def test_a_stopped_study_goes_on(
    made: tuple[Path, Study], folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, inputs = CancelToken(), _inputs(folders, tmp_path / "out")
    monkeypatch.setattr("napari_cvsuite.paths.study_measure.BATCH", 4)

    def stop(_: object) -> None:
        if (inputs.out / "plain-L2-s0" / "last.pt").exists():
            token.cancel()

    with pytest.raises(Cancelled):
        run(inputs, QUICK, Context(token=token, on_progress=stop))
    begun = read_study(inputs.out / FILE)
    assert [one.layers for one in begun.runs] == [1] and not begun.complete
    trained: list[str] = []
    monkeypatch.setattr(
        "napari_cvsuite.paths.study.train", _noted(trained, "napari_cvsuite.training.classifier")
    )
    study = run(inputs, QUICK, Context())
    assert trained == ["plain-L2-s0", "distill-logit-L2-s0"] and study.complete
    before = made[1].runs
    assert [one.measured for one in study.runs] == [one.measured for one in before]
    # Another depth is added to what is there.
    more = run(inputs, replace(QUICK, depths="1,2,3", variants=""), Context())
    assert trained[2:] == ["plain-L3-s0"] and len(more.runs) == 4
    with pytest.raises(RunFolderError, match="other options"):
        run(inputs, replace(QUICK, lr=0.5), Context())
    with pytest.raises(RunFolderError, match="other images"):
        run(replace(inputs, test=folders / "train"), QUICK, Context())


def _noted(names: list[str], module: str) -> Callable[..., Any]:
    from napari_cvsuite.training import classifier

    assert classifier.__name__ == module
    original = classifier.run

    def train(inputs: Any, options: Any, context: Any) -> Any:
        names.append(inputs.out.name)
        return original(inputs, options, context)

    return train


def test_pictures_on_both_sides_are_counted(folders: Path, tmp_path: Path) -> None:
    for name in ("bright", "dark"):
        (tmp_path / "test" / name).mkdir(parents=True)
        for part, number in (("train", 3), ("test", 1)):
            pixels = (folders / part / name / f"{number}.png").read_bytes()
            (tmp_path / "test" / name / f"{part}.png").write_bytes(pixels)
    inputs = StudyInputs(folders / "train", tmp_path / "test", tmp_path / "out")
    study = run(inputs, replace(QUICK, depths="1", variants=""), Context())
    assert study.data["test_images_among_training"] == 2
    (tmp_path / "test" / "dark").rename(tmp_path / "test" / "dim")
    with pytest.raises(ValueError, match="labelled 'dim', but the classes are bright, dark"):
        run(inputs, QUICK, Context())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depths": "4,x"}, "numbers of layers"),
        ({"depths": "0"}, "numbers of layers"),
        ({"depths": ""}, "numbers of layers"),
        ({"variants": "plain"}, "variants are some of scale-channel"),
        ({"size": 18}, "multiple of patch"),
        ({"depths": "1", "variants": "distill-hidden"}, "no shorter paths"),
        ({"seeds": 0}, "between 1 and 100"),
    ],
)
def test_options_that_make_no_study(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        StudyOptions(**changes)


def test_plan_and_trainings() -> None:
    options = StudyOptions(depths="8,4,8", variants="scale-scalar, distill-hidden", seeds=2)
    kinds = [("plain", 4), ("plain", 8), ("scale-scalar", 8), ("distill-hidden", 8)]
    assert options.plan() == tuple((*kind, seed) for seed in (0, 1) for kind in kinds)
    scaled = training_options(StudyOptions(epochs=50), "scale-channel", 16, 2)
    assert (scaled.arch, scaled.layers, scaled.seed, scaled.stem) == ("vit-deep", 16, 2, False)
    assert (scaled.ensemble_scale, scaled.placement) == ("channel", "stream")
    assert (scaled.distill, scaled.validate_every, scaled.turn) == ("none", 10, "none")
    assert training_options(options, "scale-scalar", 8, 0).placement == "final"
    assert training_options(options, "distill-hidden", 8, 0).distill == "hidden"
    plain = training_options(options, "plain", 4, 1)
    assert (plain.ensemble_scale, plain.distill, plain.layers) == ("none", "none", 4)


def test_intervals_over_seeds_are_student_s() -> None:
    found = seeds_of({2: 3.0, 0: 1.0, 1: 2.0})
    assert (found.seeds, found.values, found.deviation) == ((0, 1, 2), (1.0, 2.0, 3.0), 1.0)
    # The 97.5 % quantile with two degrees of freedom is 4.302653 (any table of Student's t).
    half = 4.302653 / math.sqrt(3)
    assert found.mean.value == 2.0
    assert (found.mean.low, found.mean.high) == pytest.approx((2 - half, 2 + half), abs=1e-6)
    one = seeds_of({4: 0.5})
    assert one.mean.value == 0.5 and math.isnan(one.mean.low) and math.isnan(one.deviation)
    assert math.isnan(seeds_of({}).mean.value)


def test_differences_are_of_the_same_seed() -> None:
    plain = [trained("plain", 4, seed, right) for seed, right in ((0, 80), (1, 90))]
    other = [trained("distill-logit", 4, seed, right) for seed, right in ((1, 91), (2, 99))]
    found = difference(other, plain, accuracy)
    assert found.seeds == (1,) and found.values == pytest.approx([0.01])


def test_short_paths_are_those_that_distillation_teaches() -> None:
    one = trained("plain", 4, 0, 80)
    lens = (0.1, 0.2, 0.4, 0.8, 0.9)
    one = replace(one, measured=replace(one.measured, lens=lens))
    # A third of four layers is two, rounded up: the depths 2 and 3.
    assert short_paths(one) == pytest.approx((0.4 + 0.8) / 2)
    flat = trained("plain", 1, 0, 80)
    assert math.isnan(short_paths(flat))


def test_rows_stand_beside_plain_networks_of_the_largest_depth() -> None:
    runs = (
        trained("plain", 2, 0, 99),
        trained("plain", 4, 0, 80, 0.3),
        trained("distill-logit", 4, 0, 85, 0.7),
    )
    study = Study("x", {}, {}, True, runs, "", "", "", {})
    rows = kind_rows(study)
    assert [(row.variant, row.layers) for row in rows] == list(study.kinds)
    assert rows[0].accuracy_gain is None and rows[1].short_gain is None
    assert rows[2].accuracy_gain is not None and rows[2].short_gain is not None
    assert rows[2].accuracy_gain.values == pytest.approx([0.05])
    assert rows[2].short_gain.values == pytest.approx([0.4])
    assert rows[2].growth.values == (2.0,)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"kind": "study of vision transformers", "runs": [{"layers": 1}]}']
)
def test_files_that_hold_no_study_are_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(StudyFileError, match=r"other\.json cannot be used"):
        read_study(path)
    with pytest.raises(StudyFileError, match="nothing"):
        read_study(tmp_path / "nothing.json")


def test_studies_of_the_package_can_be_read() -> None:
    for study in packaged_studies():
        assert study.complete and study.runs and study.data["test_images_among_training"] >= 0


def test_command_line(folders: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = f"paths study --images {folders}/train --test {folders}/test --out {out} --depths 1"
    options = "--variants= --seeds 1 --epochs 1 --batch 8 --held-out 0.5 --device cpu"
    done = CliRunner().invoke(app, [*words.split(), *options.split()])
    assert done.exit_code == 0, done.output
    assert "plain,   1 layers" in done.stdout and str(out / FILE) in done.stdout
    done = CliRunner().invoke(app, [*words.split(), *options.split(), "--json"])
    facts = json.loads(done.stdout)
    assert facts["complete"] and len(facts["runs"]) == 1
    done = CliRunner().invoke(app, [*words.split(), "--depths", "none"])
    assert done.exit_code == 2 and "numbers of layers" in done.output
