"""The report on the paths of a transformer: a tiny one with random weights, on made images."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import napari_cvsuite
from napari_cvsuite.cli import app
from napari_cvsuite.images import ImageError
from napari_cvsuite.jobs import Cancelled, CancelToken, Context, Progress
from napari_cvsuite.models.catalog import CardError
from napari_cvsuite.models.store import default_store
from napari_cvsuite.models.subject import Subject, opened
from napari_cvsuite.paths import report_claims as claims
from napari_cvsuite.paths.decompose import collect
from napari_cvsuite.paths.fourier import fourier_curve, fourier_sum
from napari_cvsuite.paths.frequency import Frequencies
from napari_cvsuite.paths.influence import Effect, Influence
from napari_cvsuite.paths.options import PathOptions
from napari_cvsuite.paths.pruning import Pruned, PruneStep
from napari_cvsuite.paths.report import PathReport, ReportInputs, run
from napari_cvsuite.paths.report_html import html, write_report
from napari_cvsuite.paths.report_measures import check, frequencies
from napari_cvsuite.paths.report_options import ReportOptions
from napari_cvsuite.paths.report_parts import (
    CheckPart,
    Filter,
    FrequencyPart,
    InfluencePart,
    PruningPart,
    ScalePart,
    Studies,
    StudyPart,
)
from napari_cvsuite.paths.report_run import report_into
from napari_cvsuite.paths.report_study import studies_of
from napari_cvsuite.paths.rows import Score
from napari_cvsuite.paths.scaling import Scaled
from napari_cvsuite.paths.study_read import StudyFileError
from napari_cvsuite.paths.study_result import Study, Trained, kind_rows
from napari_cvsuite.paths.subject import LabelledInputs, normalised, transformer
from napari_cvsuite.reports.claims import HOLDS, NOT, UNKNOWN, Skipped
from napari_cvsuite.reports.files import write_facts
from napari_cvsuite.reports.intervals import Interval
from napari_cvsuite.training.accuracy import wilson
from napari_cvsuite.training.labelled import Labelled, find_labelled, read_labelled, tensors
from tests.paths.plain import network_of
from tests.paths.studies import trained

QUICK = ReportOptions(model="tiny-vit", checked=5)
ZERO = Interval(0.0, 0.0, 0.0)


def _study(*runs: Trained, name: str = "made <b>") -> Study:
    facts = {"folder": "d/train", "images": 100, "sha256_of_pixels": ""}
    data = {"train": facts, "test": facts, "classes": ["a"], "test_images_among_training": 3}
    return Study(name, data, {"epochs": 1}, True, runs, "study --it", "2026-01-01", "1", {})


def _studies(*studies: Study) -> Studies:
    return Studies(tuple(StudyPart(one, kind_rows(one)) for one in studies))


def _runs(variant: str, layers: int, right: tuple[int, ...], short: float = 0.5) -> list[Trained]:
    return [trained(variant, layers, seed, one, short) for seed, one in enumerate(right)]


@pytest.fixture
def report(tiny_transformer: str, animals: Path, tmp_path: Path) -> PathReport:
    folder = animals.rename(animals.with_name("pics & <b>"))
    study = tmp_path / "study.json"
    runs = [*_runs("plain", 4, (80, 82)), *_runs("scale-channel", 4, (90, 91))]
    write_facts(study, _study(*runs))
    return run(ReportInputs(folder, studies=(study,)), QUICK, Context())


class _Page(HTMLParser):
    """A page whose tags must close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.met: Counter[str] = Counter()
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.met[tag] += 1
        if tag == "img":
            known = dict(attrs)
            assert known["alt"] and (known["src"] or "").startswith("data:image/png;base64,iVBOR")
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_report_and_page(report: PathReport, tmp_path: Path) -> None:
    found = report
    assert (found.images, found.check.images, found.folder) == (36, 5, "pics & <b>")
    assert found.check.parts == 0 and found.check.paths < 1e-5
    network = network_of("tiny-vit")
    data = _images(tmp_path / "pics & <b>")
    with torch.no_grad():
        right = network(tensors(data.images)).argmax(dim=1).numpy() == data.labels
    assert found.influence.zero.accuracy == wilson(int(right.sum()), 36)
    assert found.influence.mean.accuracy == found.influence.zero.accuracy
    assert found.influence.frequent == 1 / 3 and found.influence.early() == ("msa_0", "ffn_0")
    kinds = {(one.intervention, one.replacement) for one in found.influence.zero.effects}
    kinds |= {(one.intervention, one.replacement) for one in found.influence.mean.effects}
    assert kinds == {
        ("removed_final", "zero"),
        ("total_edge", "zero"),
        ("total_module", "zero"),
        ("total_layer", "zero"),
        ("total_module", "mean"),
        ("total_layer", "mean"),
    }
    assert found.pruning.greedy.method == "greedy"
    assert [step.paths for step in found.pruning.from_layer.steps] == [
        (),
        ("embed",),
        ("msa_0", "ffn_0"),
    ]
    assert found.scale.scalar.alpha.shape == (5,) and found.scale.channel.alpha.shape == (5, 12)
    assert isinstance(found.frequency, FrequencyPart)
    pruned = found.frequency.filters[0]
    assert pruned.changed == bool(found.pruning.greedy.removed)
    assert found.lengths.counts.module == 5
    assert len(found.claims) == 10 and found.claims[0].verdict == HOLDS
    assert found.command == (
        "napari-cvsuite paths report --model tiny-vit --checked 5 --images 'pics & <b>' --study "
        "study.json"
    )
    _check_page(found, tmp_path / "out")


def _check_page(report: PathReport, out: Path) -> None:
    out.mkdir()
    paths = write_report(report, out)
    assert [path.name for path in paths] == ["report.html", "report.json"]
    text = paths[0].read_text(encoding="utf-8")
    page = _Page(text)
    assert not page.open and page.met["section"] == 8
    assert page.met["figure"] == page.met["img"] >= 9
    for shown in ("pics & <b>", "made <b>", report.model.weights_sha256, report.command):
        assert shown in page.words
    assert "3 of them also among the others" in page.words
    assert not {"b", "script", "link"} & set(page.met)
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    facts = json.loads(paths[1].read_text(encoding="utf-8"))
    assert facts["claims"][0]["verdict"] == report.claims[0].verdict
    assert facts["influence"]["zero"]["accuracy"]["low"] == report.influence.zero.accuracy.low
    assert facts["studies"]["parts"][0]["rows"][1]["accuracy"]["values"] == [0.9, 0.91]


def _images(folder: Path) -> Labelled:
    return read_labelled(find_labelled(folder), 32, Context(), ("cat", "dog", "bird"))


def test_without_studies_the_page_says_so(
    tiny_transformer: str, animals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_cvsuite.paths.report_study.packaged_studies", lambda: ())
    found = run(ReportInputs(animals), replace(QUICK, limit=30), Context())
    assert isinstance(found.studies, Skipped)
    assert [one.verdict for one in found.claims].count(UNKNOWN) >= 4
    assert "No study of deep transformers was given (--study)" in _Page(html(found)).words


def test_studies_come_from_files_or_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, its = _study(*_runs("plain", 2, (80,)), name="mine"), _study(*_runs("plain", 2, (70,)))
    write_facts(tmp_path / "mine.json", mine)
    monkeypatch.setattr("napari_cvsuite.paths.report_study.packaged_studies", lambda: (its,))
    for files, expected in (((tmp_path / "mine.json",), "mine"), ((), "made <b>")):
        found = studies_of(files)
        assert isinstance(found, Studies) and found.parts[0].study.name == expected
    with pytest.raises(StudyFileError):
        studies_of((tmp_path / "none.json",))


@pytest.fixture
def subject(tiny_transformer: str) -> Any:
    with opened(PathOptions(model=tiny_transformer), Context()) as found:
        yield found


def test_check_finds_sums_that_do_not_add_up(
    subject: Subject, animals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _images(animals)
    found = check(subject, data, Context())
    with torch.no_grad():
        largest = float(subject.network(tensors(data.images)).abs().max())
    assert found.images == 36 and found.largest == pytest.approx(largest, rel=1e-4)
    assert 0 < found.paths < 1e-5 and found.heads < 1e-5 and found.sources < 1e-5
    from napari_cvsuite.paths import report_measures

    original = report_measures.head_direct
    monkeypatch.setattr(report_measures, "head_direct", lambda *given: original(*given)[:, 1:])
    without = check(subject, data, Context())
    assert without.heads > 1e-3 and without.paths == found.paths


def test_frequencies_of_sums(subject: Subject, animals: Path) -> None:
    data, model = _images(animals), transformer(subject)
    alone = np.array([1, 0, 0, 0, 0], np.float32)
    weights = {"as it is": np.ones(5, np.float32), "embedding": alone}
    found = frequencies(subject, data, weights, 0, Context())
    assert isinstance(found, FrequencyPart)
    paths = collect(model, normalised(subject, tensors(data.images)))
    whole = fourier_sum(model, paths).numpy()
    assert found.curves.whole == pytest.approx(whole, abs=1e-5)
    for number, write in enumerate(paths.writes):
        curve = fourier_curve(write[:, 1:]).numpy()
        assert found.curves.curves[number] == pytest.approx(curve, abs=1e-5)
    same, embedding = found.filters
    assert not same.changed and same.kind == "changes nothing"
    assert same.change.value == pytest.approx(0, abs=1e-5)
    curve = fourier_curve(paths.writes[0][:, 1:]).numpy()
    assert embedding.curve == pytest.approx(curve, abs=1e-5)
    # Of 4 x 4 patches there are two frequencies; the upper half is the second one.
    assert embedding.change.value == pytest.approx(float((curve - whole)[1]), abs=1e-5)
    assert embedding.change.low < embedding.change.value < embedding.change.high
    assert list(found.curves.frequencies) == [0.0, 0.25]


def test_few_patches_know_no_frequency(
    install_transformer: Callable[..., str], animals: Path
) -> None:
    name = install_transformer("coarse", patch_size=16)
    with opened(PathOptions(model=name), Context()) as coarse:
        found = frequencies(coarse, _images(animals), {}, 0, Context())
    assert isinstance(found, Skipped) and "2 x 2 patches" in found.reason
    assert claims.high_pass(found).verdict == UNKNOWN


def test_a_network_with_a_tanh_has_no_shares(
    install_transformer: Callable[..., str], animals: Path
) -> None:
    name = install_transformer("tanh", pre_logits=7)
    options = ReportOptions(model=name, checked=3, limit=30)
    found = run(ReportInputs(animals), options, Context())
    assert found.check.unit == "pre_logits" and found.check.paths < 1e-5
    assert found.claims[1].verdict == UNKNOWN and "tanh" in found.claims[1].because
    assert "pre_logits" in _Page(html(found)).words


def _check(paths: float = 1e-6, largest: float = 0.5, parts: float = 0.0) -> CheckPart:
    return CheckPart(8, largest, paths, 1e-7, 1e-7, parts, "logits")


@pytest.mark.parametrize(
    ("part", "verdict"),
    [
        (_check(), HOLDS),
        (_check(paths=6e-6), NOT),
        (_check(paths=6e-6, largest=2), HOLDS),
        (_check(parts=1e-7), NOT),
    ],
)
def test_claim_of_the_sum(part: CheckPart, verdict: str) -> None:
    assert claims.exact_sum(part).verdict == verdict


def _influence(
    alone: tuple[int, ...] = (), losses: tuple[tuple[float, float], ...] = ((0, 1), (0, 1))
) -> InfluencePart:
    """Return an influence of four layers; `losses` are of msa_0 and ffn_0, then repeated."""
    names = ("embed", *(f"{kind}_{k}" for k in range(4) for kind in ("msa", "ffn")))

    def effect(name: str, kind: str, how: str, loss: float) -> Effect:
        return Effect(name, kind, how, ZERO, Interval(loss, loss - 0.1, loss + 0.1))

    pairs = dict(zip(names[1:], losses * 4, strict=False))
    votes = [effect(name, "removed_final", "zero", pairs.get(name, (0, 0))[0]) for name in names]
    totals = [effect(name, "total_module", "mean", pairs[name][1]) for name in names[1:]]
    rates = tuple(wilson(count, 100) for count in alone)
    zero = Influence(tuple(votes), names, rates, wilson(90, 100), 0.1, {})
    return InfluencePart(zero, replace(zero, effects=tuple(totals)), 0.5)


def test_claim_of_votes() -> None:
    # Wilson: 59 of 100 is [.492, .681], 70 of 100 is [.604, .781].
    assert claims.votes(_influence((70,) * 5 + (59,) * 4)).verdict == HOLDS
    found = claims.votes(_influence((70,) * 4 + (59,) * 5))
    assert found.verdict == NOT and "4 of 9 paths" in found.because
    assert claims.votes(_influence()).verdict == UNKNOWN


def test_claim_of_inputs() -> None:
    found = claims.later(_influence())
    assert found.verdict == HOLDS and "4 of 4 paths: msa_0, ffn_0, msa_1, ffn_1" in found.because
    # Half of the paths, or intervals that touch, are not enough.
    assert claims.later(_influence(losses=((0, 1), (0, 0)))).verdict == NOT
    assert claims.later(_influence(losses=((0, 0.2), (0, 0.2)))).verdict == NOT
    assert "costs most" not in _influence().in_words()


def _pruning(change: Interval) -> PruningPart:
    score = Score(0.3, 0.9, 100)
    steps = (PruneStep((), score, score), PruneStep(("embed",), score, score))
    one = Pruned("greedy", steps, 1, ("embed",), change, None, {})
    return PruningPart(one, one)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (Interval(0.02, 0.01, 0.03), HOLDS),
        (Interval(0.02, 0.0, 0.04), NOT),
        (Interval(-0.02, -0.03, -0.01), NOT),
    ],
)
def test_claims_of_pruning_and_fitted_weights(change: Interval, verdict: str) -> None:
    studies = _studies(_study(*_runs("plain", 2, (80, 82)), name="digits"))
    found = claims.pruning_helps(_pruning(change), studies)
    assert found.verdict == verdict and "Study on digits, 2 layers: +0.00 points" in found.because
    score = Score(0.3, 0.9, 100)
    alpha = np.ones(3, np.float32)
    fits = [
        Scaled(("embed", "msa_0", "ffn_0"), alpha, (), (), 0, score, score, one, None, {})
        for one in (ZERO, change)
    ]
    assert claims.scale_helps(ScalePart(fits[0], fits[1])).verdict == verdict


@pytest.mark.parametrize(
    ("scaled", "verdict"),
    [
        # Differences 10, 10, 11 points: Student's interval is [8.9, 11.8].
        ((90, 90, 91), HOLDS),
        # 1, 10, 20 points: [-13.3, 34.0].
        ((81, 90, 100), NOT),
        ((70, 70, 71), NOT),
        ((95,), UNKNOWN),
    ],
)
def test_claim_of_weights_trained_with_the_network(scaled: tuple[int, ...], verdict: str) -> None:
    study = _study(*_runs("plain", 4, (80, 80, 80)), *_runs("scale-channel", 4, scaled))
    found = claims.learned_scale(_studies(study))
    assert found.verdict == verdict
    # It takes all studies, but only those that tell.
    worse = _study(*_runs("plain", 4, (80, 80)), *_runs("scale-scalar", 4, (70, 71)))
    assert claims.learned_scale(_studies(study, worse)).verdict == NOT
    silent = _study(*_runs("plain", 4, (80, 80)))
    assert claims.learned_scale(_studies(study, silent)).verdict == verdict
    assert claims.learned_scale(Skipped("none")).because == "none"


def test_claim_of_depth() -> None:
    scaled = _runs("scale-channel", 8, (90, 91, 90))
    deep = _runs("plain", 8, (80, 81, 80))
    shallow = _runs("plain", 4, (85, 86, 85))
    assert claims.deeper(_studies(_study(*shallow, *deep, *scaled))).verdict == HOLDS
    # Better than plain networks of its own depth, but not than shallower ones.
    better = _runs("plain", 4, (95, 96, 95))
    found = claims.deeper(_studies(_study(*better, *deep, *scaled)))
    assert found.verdict == NOT and "-5.00 points" in found.because
    assert claims.deeper(_studies(_study(*deep, *scaled))).verdict == UNKNOWN


def test_claims_of_distillation() -> None:
    plain = _runs("plain", 4, (80, 81, 80), short=0.3)
    taught = _runs("distill-logit", 4, (80, 80, 81), short=0.6)
    taught[0] = trained("distill-logit", 4, 0, 80, 0.61)
    studies = _studies(_study(*plain, *taught))
    found = claims.short_paths_learn(studies)
    assert found.verdict == HOLDS and "+30.33 points" in found.because
    assert claims.net_gains(studies).verdict == NOT


def _filters(*rows: tuple[Interval, bool]) -> FrequencyPart:
    two = np.zeros(2, np.float32)
    curves = Frequencies(("embed",), two, two[None], two, (), None, "", "", 9, {})
    return FrequencyPart(curves, tuple(Filter(f"f{k}", two, *row) for k, row in enumerate(rows)))


def test_claim_of_frequencies() -> None:
    high, low = Interval(0.2, 0.1, 0.3), Interval(-0.2, -0.3, -0.1)
    unsure = Interval(0.1, -0.1, 0.3)
    assert claims.high_pass(_filters((high, True), (ZERO, False))).verdict == HOLDS
    for other, kind in ((low, "low-pass"), (unsure, "neither")):
        found = claims.high_pass(_filters((high, True), (other, True)))
        assert found.verdict == NOT and f"f1: {kind}" in found.because
    assert claims.high_pass(_filters((ZERO, False))).verdict == UNKNOWN


def test_a_cancelled_report_leaves_nothing(
    tiny_transformer: str, animals: Path, tmp_path: Path
) -> None:
    token = CancelToken()

    def stop(progress: Progress) -> None:
        if "influence" in progress.message:
            token.cancel()

    out = tmp_path / "out"
    with pytest.raises(Cancelled):
        report_into(out, ReportInputs(animals), QUICK, Context(token=token, on_progress=stop))
    assert not list(out.iterdir()) and not default_store().in_use()


def test_what_cannot_be_reported_on(
    tiny_transformer: str, animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LookupError, match="nothing"):
        run(ReportInputs(animals), replace(QUICK, model="nothing"), Context())
    with pytest.raises(CardError, match="no sum of paths"):
        run(ReportInputs(animals), replace(QUICK, model="cifar-resnet-s"), Context())
    with pytest.raises(ValueError, match="too few to hold out"):
        run(ReportInputs(animals), replace(QUICK, limit=6), Context())
    with pytest.raises(ValueError, match="fewer than two classes"):
        run(ReportInputs(animals / "cat"), QUICK, Context())
    monkeypatch.setattr("napari_cvsuite.paths.report_run.run", lambda *_: pytest.fail("worked"))
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="choose another"):
        report_into(tmp_path / "file" / "out", ReportInputs(animals), QUICK, Context())


def test_a_table_can_name_the_classes(tmp_path: Path) -> None:
    inputs = ReportInputs(Path("a/b"), Path("c/kinds.csv"), "kind")
    assert inputs.labelled == LabelledInputs(Path("a/b"), Path("c/kinds.csv"), "kind")


def test_command_line(tiny_transformer: str, animals: Path, tmp_path: Path) -> None:
    study = tmp_path / "mine.json"
    write_facts(study, _study(*_runs("plain", 2, (80, 82))))
    out = tmp_path / "out"
    words = ["paths", "report", "--model", tiny_transformer, "--images", str(animals)]
    words += ["--study", str(study), "--study", str(study), "--limit", "30", "--checked", "3"]
    done = CliRunner().invoke(app, [*words, "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["images"] == 30 and len(facts["studies"]["parts"]) == 2
    assert {path.name for path in out.iterdir()} == {"report.html", "report.json"}
    assert json.loads((out / "report.json").read_text())["claims"] == facts["claims"]


def test_python_s_door(
    tiny_transformer: str, animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"model": tiny_transformer, "checked": 5, "limit": 30}
    (tmp_path / "file").touch()
    # A folder that cannot be made is said before the work.
    with monkeypatch.context() as held, pytest.raises(ImageError, match="choose another"):
        held.setattr("napari_cvsuite.paths.report_run.run", lambda *_: pytest.fail("worked"))
        napari_cvsuite.path_report(animals, out=tmp_path / "file" / "out", device="cpu", **options)
    out = tmp_path / "made" / "here"
    found = napari_cvsuite.path_report(str(animals), out=str(out), device="cpu", **options)
    inputs = ReportInputs(animals)
    same = run(inputs, ReportOptions(**options), Context(device="cpu"))
    assert (found.command, found.check, found.claims) == (same.command, same.check, same.claims)
    facts = json.loads((out / "report.json").read_text())
    assert facts["command"] == found.command and (out / "report.html").exists()
    monkeypatch.setattr("napari_cvsuite.paths.report.run", lambda *given: given[:2])
    given = {"table": "t.csv", "column": "kind", "studies": ["a.json"], "seed": 3}
    assert napari_cvsuite.path_report("pics", device="cpu", **given) == (
        ReportInputs(Path("pics"), Path("t.csv"), "kind", (Path("a.json"),)),
        ReportOptions(seed=3),
    )
