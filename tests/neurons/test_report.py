"""The report on a pair of classifiers: small networks with random weights, on made images."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture
from safetensors.torch import save_file
from torch import Tensor, nn

import napari_cvsuite
from napari_cvsuite.images import ImageError
from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context, Progress
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.attack import suggested_eps
from napari_cvsuite.models.catalog import ModelCard
from napari_cvsuite.models.cnn import Classifier, build
from napari_cvsuite.models.store import default_store
from napari_cvsuite.models.weights import import_file
from napari_cvsuite.neurons import report_claims as claims
from napari_cvsuite.neurons.ablation import ablate
from napari_cvsuite.neurons.bias import Conflict
from napari_cvsuite.neurons.controls import gaussian_noise
from napari_cvsuite.neurons.options import ReportOptions
from napari_cvsuite.neurons.report import PairReport, ReportInputs, command, run, spread
from napari_cvsuite.neurons.report_accuracy import accuracy, attack_radius
from napari_cvsuite.neurons.report_dissection import masked
from napari_cvsuite.neurons.report_html import html, write_report
from napari_cvsuite.neurons.report_measures import ablation, diversity, noise, responses
from napari_cvsuite.neurons.report_parts import (
    AblationPart,
    AccuracyPart,
    BiasPart,
    ConceptRow,
    DissectionPart,
    DiversityPart,
    DiversityRow,
    KernelRow,
    NoisePart,
    NoiseRow,
    SmoothnessPart,
)
from napari_cvsuite.neurons.shape_bias import BiasCount, ShapeBias
from napari_cvsuite.neurons.smoothness import KernelSmoothness, noise_response
from napari_cvsuite.reports.claims import HOLDS, NOT, UNKNOWN, Skipped
from napari_cvsuite.reports.intervals import Interval
from napari_cvsuite.training.labelled import Labelled, tensors

CLASSES = ("bird", "cat", "truck")
LAYER = "model.features.11"
QUICK = ReportOptions(pair="tiny", top=4)


@dataclass(frozen=True)
class World:
    """A pair of networks, installed in `home`, and a folder of images that S names rightly."""

    home: Path
    folder: Path
    networks: tuple[nn.Module, nn.Module]
    data: Labelled

    @property
    def inputs(self) -> ReportInputs:
        """Everything that a report can be made from."""
        return ReportInputs(
            self.folder / "pics & <b>",
            None,
            "label",
            self.folder / "stimuli",
            self.folder / "masks",
            self.folder / "names.json",
        )


def _pictures() -> np.ndarray[Any, np.dtype[np.uint8]]:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (24, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def _networks(pictures: np.ndarray[Any, Any]) -> tuple[nn.Module, nn.Module]:
    """Return S, whose classes are equally frequent, and R, which is nearly S."""
    torch.manual_seed(0)
    found = [
        Classifier(build("alexnet-small", 3), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)).eval()
        for _ in range(2)
    ]
    last = found[0].get_submodule("model.classifier")[-1]  # type: ignore[index]
    with torch.no_grad():
        last.weight *= 100
        last.bias -= found[0](tensors(pictures)).mean(dim=0)
        found[1].load_state_dict(found[0].state_dict())
        for weight in found[1].parameters():
            if weight.ndim == 4:
                weight.add_(0.05 * weight.std() * torch.randn_like(weight))
    return found[0], found[1]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    pictures = _pictures()
    networks = _networks(pictures)
    with torch.no_grad():
        labels = networks[0](tensors(pictures)).argmax(dim=1).numpy()
    for number, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
        name = f"{CLASSES[label]}/{number:02}.png"
        bright = pixels.astype(int).sum(axis=2)
        for place, picture in (
            ("pics & <b>", pixels),
            ("masks/colour", 1 + (bright > 380).astype(np.uint8)),
            ("masks/object", np.tri(32, dtype=np.uint8)),
        ):
            path = folder / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Picture.fromarray(picture).save(path)
    (folder / "stimuli").mkdir()
    for number, pixels in enumerate(pictures[:12]):
        shape, texture = CLASSES[number % 3], CLASSES[(number + 1) % 3]
        Picture.fromarray(pixels).save(folder / f"stimuli/{shape}{number}-{texture}1.png")
    (folder / "names.json").write_text('{"1": "dark <i>", "2": "light"}')
    names = tuple(f"{number:02}" for number in range(len(labels)))
    data = Labelled(pictures, labels.astype(np.int64), CLASSES, names)
    made = World(folder / "home", folder, networks, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_CVSUITE_HOME", str(made.home))
        for which, network in zip("sr", networks, strict=True):
            save_file(network.state_dict(), folder / f"tiny-{which}.safetensors")
            import_file(folder / f"tiny-{which}.safetensors", {"classes": list(CLASSES)})
    return made


@pytest.fixture
def installed(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Make the pair known to one test."""
    monkeypatch.setenv("NAPARI_CVSUITE_HOME", str(world.home))
    return world


@pytest.fixture(scope="module")
def full(world: World) -> PairReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_CVSUITE_HOME", str(world.home))
        return run(world.inputs, QUICK, Context())


class _Page(HTMLParser):
    """A page whose tags must close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.met: Counter[str] = Counter()
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.met[tag] += 1
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "img":
            known = dict(attrs)
            assert known["alt"] and (known["src"] or "").startswith("data:image/png;base64,iVBOR")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_every_section_is_measured(full: PairReport, world: World) -> None:
    assert isinstance(full.accuracy, AccuracyPart) and isinstance(full.bias, BiasPart)
    assert isinstance(full.dissection, DissectionPart) and isinstance(full.noise, NoisePart)
    assert isinstance(full.diversity, DiversityPart) and isinstance(full.ablation, AblationPart)
    with torch.no_grad():
        S, R = (one(tensors(world.data.images)).argmax(dim=1) for one in world.networks)
    agreed = int((S == R).sum())
    assert 0 < agreed < 24
    # The images are labelled by what S says.
    assert full.accuracy.clean[0].value == 1
    assert full.accuracy.clean[1].value == agreed / 24
    assert full.accuracy.both == full.both == full.noise.n == full.ablation.n == agreed
    assert full.accuracy.eps == 0.5
    assert full.bias.standard.bias.total.n == 12
    assert [row.concept for row in full.dissection.concepts] == [
        "colour: dark <i>",
        "colour: light",
        "object: dark <i>",
    ]
    assert full.smoothness.kernels[0].layer == "features.0"
    assert [one.verdict for one in full.claims].count(UNKNOWN) <= 1
    assert full.folders == {"images": "pics & <b>", "stimuli": "stimuli", "masks": "masks"}
    assert not full.command.count(str(world.folder))


def test_the_page_is_whole_and_escaped(full: PairReport, tmp_path: Path) -> None:
    paths = write_report(full, tmp_path)
    assert [path.name for path in paths] == ["report.html", "report.json"]
    text = paths[0].read_text(encoding="utf-8")
    page = _Page(text)
    assert not page.open
    assert page.met["section"] == 8 and page.met["figure"] == page.met["img"] == 8
    words = "".join(page.words)
    for shown in ("pics & <b>", "dark <i>", full.models[1].weights_sha256, full.command, full.date):
        assert shown in words
    assert not {"b", "i", "script", "link"} & set(page.met)
    # Nothing is fetched from elsewhere.
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    found = json.loads(paths[1].read_text(encoding="utf-8"))
    assert isinstance(full.accuracy, AccuracyPart) and isinstance(full.ablation, AblationPart)
    assert found["accuracy"]["clean"][1]["low"] == full.accuracy.clean[1].low
    assert found["ablation"]["robust"]["errors"] == full.ablation.robust.errors.tolist()
    assert found["claims"][0]["rule"] == full.claims[0].rule


def test_sections_without_data_say_why(installed: World) -> None:
    found = run(ReportInputs(), QUICK, Context())
    found = replace(found, command='"><script>alert(1)</script>')
    parsed = _Page(html(found))
    assert "script" not in parsed.met
    page = "".join(parsed.words)
    assert isinstance(found.accuracy, Skipped) and isinstance(found.bias, Skipped)
    assert page.count("No labelled images were given (--images).") >= 5
    assert "No cue-conflict images were given (--stimuli)." in page
    assert {one.verdict for one in found.claims} == {UNKNOWN}
    kernels = {row.layer: row for row in found.smoothness.kernels}
    weight = installed.networks[1].get_parameter("model.features.3.weight").detach()
    by_hand = weight.diff(dim=2).abs().sum((2, 3)) + weight.diff(dim=3).abs().sum((2, 3))
    assert kernels["features.3"].robust.tv == pytest.approx(float(by_hand.mean()), rel=1e-5)


def test_accuracy_on_images_that_both_name_rightly(world: World) -> None:
    part, kept = accuracy(world.networks, world.data, (0.0, "none"), 7, Context())
    # Nothing moves within a radius of 0.
    assert part.attacked == part.clean
    assert part.controls[-1].rates[0].value == part.controls[-1].rates[1].value == 1
    with torch.no_grad():
        for place, network in enumerate(world.networks):
            x = gaussian_noise(tensors(kept.images), 0.2)
            right = (network(x).argmax(dim=1).numpy() == kept.labels).mean()
            row = next(one for one in part.controls if (one.control, one.level) == ("noise", 0.2))
            assert row.rates[place].value == right
    errors: dict[str, list[float]] = {}
    for row in part.controls:
        errors.setdefault(row.control, [0, 0])
        for place in (0, 1):
            errors[row.control][place] += 1 - row.rates[place].value
    assert part.corruption is not None
    assert part.corruption.each["blur"] == pytest.approx(errors["blur"][1] / errors["blur"][0])


def test_no_image_that_both_know(world: World) -> None:
    wrong = replace(world.data, labels=(world.data.labels + 1) % 3)
    with pytest.raises(ValueError, match="no image is named rightly by both"):
        accuracy(world.networks, wrong, (0.0, "none"), 32, Context())


def test_blocks_of_noise_are_one_measurement(world: World) -> None:
    options = replace(QUICK, sigma=0.2, seed=3)
    S, R = (responses(one, [LAYER], world.data, options, Context()) for one in world.networks)
    part = noise((S, R), options)
    x = tensors(world.data.images)
    noisy = gaussian_noise(x, 0.2, seed=3)
    whole = [noise_response(one, x, noisy, [LAYER])[LAYER] for one in world.networks]
    row = part.layers[0]
    for place in (0, 1):
        assert row.change[place].value == pytest.approx(whole[place].relative_change, rel=1e-5)
        assert row.tv_ratio[place] == pytest.approx(whole[place].layer_ratio, rel=1e-5)
        assert row.change[place].low < row.change[place].value < row.change[place].high
    same = noise((S, S), options).layers[0].ratio
    # S and R are drawn together, so equal networks have a ratio without spread.
    assert (same.low, same.value, same.high) == (1, 1, 1)


def test_silenced_channels(world: World) -> None:
    part = ablation(world.networks, LAYER, world.data, QUICK, Context())
    x, labels = tensors(world.data.images), torch.from_numpy(world.data.labels)
    worst = part.standard.channel
    logits = ablate(world.networks[0], x, {LAYER: [worst]})
    wrong = int((logits.argmax(dim=1) != labels).sum())
    assert part.standard.largest == pytest.approx(wrong / 24)
    assert part.standard.largest == part.standard.errors.max()
    assert part.standard.mean.value == pytest.approx(part.standard.errors.mean())


class _Colours(nn.Module):
    """Channels that respond to red, to green, to any colour, and never."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1, bias=False)
        rows = [[1.0, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 0]]
        self.layer.weight = nn.Parameter(torch.tensor(rows)[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x)
        return found.mean((2, 3))


def test_silent_channels_and_images_do_not_count() -> None:
    images = np.zeros((12, 8, 8, 3), np.uint8)
    labels = np.arange(12) % 3
    for number, label in enumerate(labels):
        images[number, ..., label] = 255
    data = Labelled(images, labels, ("red", "green", "blue"), ("",) * 12)
    network = _Colours().eval()
    options = replace(QUICK, top=12)
    with pytest.raises(ValueError, match="no layer"):
        diversity((network, network), ["nowhere"], data, options, Context())
    part = diversity((network, network), ["layer"], data, options, Context())
    assert part.top == 3 and part.classes == 3
    # The third channel is the same for all images, and the fourth never responds.
    assert part.layers[0].channels == (2, 2)
    # Four red images fill a red channel's three places.
    assert part.total.classes[0] == Interval(1, 1, 1)
    images[:] = 0
    images[0, ..., 0] = 255
    part = diversity((network, network), ["layer"], data, options, Context())
    # Eleven images are black: only the first one counts for red, and for any colour.
    assert part.layers[0].channels == (2, 2) and part.total.classes[0] == Interval(1, 1, 1)


def test_radius_of_the_attack(installed: World) -> None:
    from napari_cvsuite.models.catalog import Catalogue

    card: ModelCard = Catalogue().get("tiny-r")
    assert attack_radius(card)[0] == 0.5
    trained = {"adversarial": "l2", "eps": 0.25}
    assert attack_radius(replace(card, training=trained))[0] == 0.25
    assert attack_radius(replace(card, training={"adversarial": "linf", "eps": 0.03}))[0] == 0.5
    large = replace(card, input=replace(card.input, tile=64))
    assert attack_radius(large)[0] == suggested_eps(64, 64)


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(2, 30), st.integers(0, 5))
def test_choice_of_images_is_even(labels: list[str], limit: int, seed: int) -> None:
    found = [(Path(f"{number}.png"), label) for number, label in enumerate(labels)]
    chosen = spread(found, limit, seed)
    assert len(chosen) == min(limit, len(found)) == len(set(chosen))
    assert set(chosen) <= set(found)
    had, got = Counter(labels), Counter(label for _, label in chosen)
    for label in had:
        # A class falls behind another only where it has no more images.
        assert got[label] == had[label] or got[label] >= max(got.values()) - 1


def test_masks_by_name_and_group(tmp_path: Path) -> None:
    for name in ("images/a/1.png", "images/a/2.png", "masks/a/1.tif", "groups/x/a/2.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    images = tmp_path / "images"
    paths = [images / "a/1.png", images / "a/2.png"]
    pairs, groups = masked(paths, images, tmp_path / "masks")
    assert [(one.image, one.labels) for one in pairs] == [(paths[0], (tmp_path / "masks/a/1.tif",))]
    assert groups == ("masks",)
    pairs, groups = masked(paths, images, tmp_path / "groups")
    assert [one.image for one in pairs] == [paths[1]] and groups == ("x",)
    with pytest.raises(ValueError, match="none of the chosen images has a mask"):
        masked(paths, images, tmp_path / "nowhere")


def _bias(shape: tuple[int, int]) -> BiasPart:
    S, R = (
        Conflict(ShapeBias(BiasCount(200, count, 100 - count), {}, 0), (), "", {})
        for count in shape
    )
    return BiasPart(S, R)


@pytest.mark.parametrize(
    ("shape", "verdict"),
    [
        # Wilson: 20 of 100 [.133, .289], 40 of 100 [.309, .498], 28 of 100 [.201, .375].
        ((20, 40), HOLDS),
        ((20, 28), NOT),
        ((40, 20), NOT),
    ],
)
def test_claim_of_shape(shape: tuple[int, int], verdict: str) -> None:
    assert claims.shape(_bias(shape)).verdict == verdict
    assert claims.shape(Skipped("because")).because == "because"


@pytest.mark.parametrize(
    ("kernels", "highs", "verdict"),
    [
        ((1.7, 1.5), (0.4, 0.9), HOLDS),
        ((1.7, 1.5), (0.4, 1.1), NOT),
        ((1.5, 1.7), (0.4, 0.9), NOT),
    ],
)
def test_claim_of_smoothness(
    kernels: tuple[float, float], highs: tuple[float, float], verdict: str
) -> None:
    S, R = (KernelSmoothness(8, 1.0, one) for one in kernels)
    any_change = (Interval(0.5, 0.4, 0.6), Interval(0.2, 0.1, 0.3))
    rows = tuple(
        NoiseRow(f"layer{number}", any_change, Interval(high - 0.2, high - 0.3, high), (1, 1))
        for number, high in enumerate(highs)
    )
    row = KernelRow("conv1", S, R)
    found = claims.smoother(SmoothnessPart((row,), row), NoisePart(0.1, 9, rows))
    assert found.verdict == verdict
    assert f"{sum(high < 1 for high in highs)} of 2 layers" in found.because


@pytest.mark.parametrize(
    ("groups", "reliable", "verdict"),
    [
        # Low-level detectors of S 20 of 100, of R 60 of 100; then 28 of 100.
        (("texture", "object"), ((20, 60), (80, 40)), HOLDS),
        (("Colour", "part"), ((20, 28), (80, 72)), NOT),
        (("texture", "object"), ((0, 60), (0, 40)), UNKNOWN),
        (("masks", "masks"), ((20, 60), (80, 40)), UNKNOWN),
        (("texture", "colour"), ((20, 60), (80, 40)), UNKNOWN),
    ],
)
def test_claim_of_features(
    full: PairReport,
    groups: tuple[str, str],
    reliable: tuple[tuple[int, int], tuple[int, int]],
    verdict: str,
) -> None:
    assert isinstance(full.dissection, DissectionPart)
    rows = tuple(
        ConceptRow(group, group, 0.1, (0.1, 0.1), (0.0, 0.0), counts, counts)
        for group, counts in zip(groups, reliable, strict=True)
    )
    assert claims.features(replace(full.dissection, concepts=rows)).verdict == verdict


@pytest.mark.parametrize(
    ("S", "R", "verdict"),
    [
        (Interval(6, 5.5, 6.5), Interval(5, 4.6, 5.4), HOLDS),
        (Interval(6, 5.5, 6.5), Interval(5, 4.4, 5.6), NOT),
        (Interval(6.05, 6, 6.1), Interval(7.66, 7.5, 7.8), NOT),
    ],
)
def test_claim_of_types(S: Interval, R: Interval, verdict: str) -> None:
    row = DiversityRow("all", (9, 9), (S, R))
    found = claims.types(DiversityPart(49, 300, 10, (row,), row))
    assert found.verdict == verdict and "definition of this project" in found.rule


def test_a_cancelled_report_leaves_nothing(installed: World) -> None:
    token = CancelToken()

    def stop(progress: Progress) -> None:
        if "ablation" in progress.message:
            token.cancel()

    inputs = ReportInputs(installed.inputs.images)
    with pytest.raises(Cancelled):
        run(inputs, replace(QUICK, limit=6), Context(token=token, on_progress=stop))
    assert not default_store().in_use()


def test_models_that_are_no_pair(installed: World) -> None:
    network = Classifier(build("resnet-small", 3))
    save_file(network.state_dict(), installed.folder / "odd-r.safetensors")
    import_file(installed.folder / "odd-r.safetensors", {"classes": list(CLASSES)})
    import_file(installed.folder / "tiny-s.safetensors", {"classes": list(CLASSES)}, "odd-s")
    with pytest.raises(OptionError, match="differ in their network"):
        run(ReportInputs(), replace(QUICK, pair="odd"), Context())
    with pytest.raises(LookupError, match="nothing-s"):
        run(ReportInputs(), replace(QUICK, pair="nothing"), Context())


def test_the_command_that_makes_a_report_again() -> None:
    table = ReportInputs(Path("a/b"), Path("c/kinds.csv"), "kind")
    assert command(table, ReportOptions(sigma=0.2)) == (
        "napari-cvsuite neurons report --pair cifar-resnet --sigma 0.2 --images b "
        "--labels kinds.csv:kind"
    )


def test_python_s_door(
    full: PairReport, installed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = installed.inputs
    found = napari_cvsuite.pair_report(
        stimuli=given.stimuli, out=tmp_path / "made" / "here", device="cpu", pair="tiny", top=4
    )
    assert found.bias == full.bias and found.claims[0] == full.claims[0]
    assert isinstance(found.accuracy, Skipped)
    facts = json.loads((tmp_path / "made/here/report.json").read_text())
    assert facts["command"] == found.command and (tmp_path / "made/here/report.html").exists()
    monkeypatch.setattr("napari_cvsuite.neurons.report.run", lambda inputs, *_: inputs)
    paths = {name: str(getattr(given, name)) for name in ("images", "stimuli", "masks", "names")}
    inputs = napari_cvsuite.pair_report(**paths, table="kinds.csv", column="kind", device="cpu")
    assert inputs == replace(given, table=Path("kinds.csv"), column="kind")


def test_a_folder_that_cannot_be_made_is_said_before_the_work(
    installed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("napari_cvsuite.neurons.report_run.run", lambda *_: pytest.fail("worked"))
    with pytest.raises(ImageError, match="choose another"):
        napari_cvsuite.pair_report(pair="tiny", out=tmp_path / "file" / "out", device="cpu")
