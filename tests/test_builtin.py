"""The models that ship with the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

import napari_cvsuite
from napari_cvsuite.images import Image, read
from napari_cvsuite.jobs import Context
from napari_cvsuite.models.catalog import Catalogue, ModelCard, builtin_folder
from napari_cvsuite.models.subject import opened, see
from napari_cvsuite.models.weights import locate
from napari_cvsuite.neurons.options import SmoothnessOptions
from napari_cvsuite.neurons.simplicity import measure
from napari_cvsuite.paths.options import PathOptions
from napari_cvsuite.quality.demo import run_demo as quality_demo
from napari_cvsuite.quality.distortions import distort
from napari_cvsuite.segmentation.demo import DEMOS, run_demo
from napari_cvsuite.segmentation.metrics import dice

CARDS = [c for c in Catalogue() if (builtin_folder() / c.weights.filename).is_file()]


def test_there_are_models() -> None:
    wanted = {"qtseg-nuclei", "qtseg-vessels", "qtseg-larynx", "topiq-nr-synth", "topiq-fr-synth"}
    wanted |= {"cifar-resnet-s", "cifar-resnet-r", "cifar-vit"}
    assert wanted <= {card.name for card in CARDS}
    assert Catalogue().problems == []


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_card_is_complete_and_weights_have_its_hash(card: ModelCard) -> None:
    assert card.license and card.data and card.citation and card.metrics
    assert locate(card).parent == builtin_folder()


def test_all_weights_together_are_small() -> None:
    sizes = {
        kind: sum(card.weights.size for card in CARDS if card.architecture == kind)
        for kind in ("qtseg", "topiq", "cnn", "vit")
    }
    assert sizes["qtseg"] + sizes["topiq"] <= 30e6
    assert sizes["topiq"] <= 10e6 and sizes["cnn"] <= 15e6
    assert sizes["vit"] <= 15e6
    assert sum(sizes.values()) == sum(card.weights.size for card in CARDS)


@pytest.mark.parametrize("name", ["gaussian blur", "defocus", "gaussian noise", "speckle", "jpeg"])
def test_worse_pictures_are_further_from_their_reference(name: str) -> None:
    from skimage.data import coffee

    picture = coffee()[100:356, 150:406]
    series = np.stack([distort(picture, name, level) for level in range(6)])
    result = napari_cvsuite.score_quality(series, picture, device="cpu")
    scores = np.array([row.score for row in result.rows])
    assert (np.diff(scores) < 0).all(), scores
    assert result.rows[0].likely_distortion == "none"


def test_the_sharpest_slice_of_the_demonstration_is_found(tmp_path: Path) -> None:
    picture, facts = quality_demo(tmp_path, Context())
    assert picture.is_file() and abs(facts["best"] - facts["slices"] // 2) <= 1
    rows = (tmp_path / "focus.csv").read_text().splitlines()
    assert len(rows) == facts["slices"] + 1


@pytest.mark.parametrize("polarity", [1, -1])
def test_nuclei_are_found_in_a_drawn_picture(polarity: int) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    truth = np.zeros((256, 256), bool)
    for cy in range(32, 256, 48):
        for cx in range(32, 256, 48):
            truth |= ((y - cy) / 11) ** 2 + ((x - cx) / 8) ** 2 < 1
    picture = ndimage.gaussian_filter(truth.astype(float), 1.5) * 120 + 30
    picture = 128 + polarity * (picture + rng.normal(0, 3, truth.shape) - 128)
    result = napari_cvsuite.segment(picture, model="qtseg-nuclei", device="cpu")
    assert dice(result.classes > 0, truth) > 0.8


def test_vessels_are_darker_than_the_retina_beside_them() -> None:
    pixels = np.asarray(read(DEMOS["vessels"].path).plane())
    vessels = napari_cvsuite.segment(pixels, model="qtseg-vessels", device="cpu").classes > 0
    beside = ndimage.binary_dilation(vessels, iterations=8)
    beside &= ~ndimage.binary_dilation(vessels, iterations=3)
    green = pixels[..., 1]
    assert 0.02 < vessels.mean() < 0.2
    assert green[vessels].mean() < green[beside].mean() - 8


@pytest.mark.parametrize("name", list(DEMOS))
def test_demo_finds_something_and_draws_it(name: str, tmp_path: Path) -> None:
    picture, row = run_demo(tmp_path / "demo", name, Context())
    assert picture.is_file() and row["objects"] > 0


def test_what_adversarial_training_changed_in_the_pair() -> None:
    from skimage.data import astronaut, chelsea, coffee, rocket

    measured = {}
    for name in ("s", "r"):
        options = SmoothnessOptions(model=f"cifar-resnet-{name}")
        with opened(options, Context()) as subject:
            pictures = (see(Image.from_array(one()), subject, Context()).tensor()
                        for one in (astronaut, chelsea, coffee, rocket))  # fmt: skip
            measured[name] = measure(subject, torch.cat(list(pictures)), options, Context())
    S, R = measured["s"], measured["r"]
    assert R.kernel_tv_over_l1 < S.kernel_tv_over_l1
    assert R.gradient_length <= S.gradient_length / 5
    # The first row is behind the first convolution, the others are the stages after it.
    assert [row.layer for row in S.layers[1:]] == ["layer1", "layer2", "layer3", "layer4"]
    for one, other in zip(S.layers[1:], R.layers[1:], strict=True):
        assert other.change <= one.change / 2, one.layer
    attacked = {n: Catalogue().get(f"cifar-resnet-{n}").metrics["accuracy_pgd10_l2_0.5"]
                for n in "sr"}  # fmt: skip
    assert attacked["r"] >= attacked["s"] + 0.2


def test_the_robust_network_stands_where_the_standard_one_breaks() -> None:
    from skimage.data import chelsea

    found = {
        name: napari_cvsuite.attack(chelsea(), model=f"cifar-resnet-{name}", label="cat", eps=0.5)
        for name in ("s", "r")
    }
    assert found["s"].likely_before[0].name == "cat" and found["s"].broken
    # The gradient of the robust one is shorter, and its loss grows less.
    rise = {name: max(one.loss) - one.loss[0] for name, one in found.items()}
    assert rise["r"] < rise["s"] / 3
    length = {
        name: napari_cvsuite.saliency(chelsea(), model=one.provenance["model"], target="cat")
        for name, one in found.items()
    }
    assert (length["r"].length or 0) <= (length["s"].length or 0) / 5


def test_the_shares_of_the_transformer_sum_to_its_logits() -> None:
    from skimage.data import cat

    image = Image.from_array(cat())
    with opened(PathOptions(), Context()) as subject:
        card, seen = subject.card, see(image, subject, Context())
        with torch.inference_mode():
            logits = subject.network(seen.tensor())[0].numpy()
    assert (card.name, card.architecture, card.input.tile) == ("cifar-vit", "vit", 32)
    assert card.training["arch"].startswith("vit") and 0.5 < card.metrics["accuracy"] <= 1
    found = napari_cvsuite.contributions(image, device="cpu")
    assert found.shares.shape == (2 * card.options["num_layers"] + 2, 10)
    # Rounding in float32, in logits of about 10: 5e-6.
    bound = 5e-7 * max(10.0, float(np.abs(logits).max()))
    sums = found.shares.astype(np.float64).sum(axis=0)
    np.testing.assert_allclose(sums, logits, rtol=0, atol=bound)
    assert np.abs(found.shares[:-1]).max(axis=1).min() > 0
    likely = napari_cvsuite.classify(cat(), model="cifar-vit", device="cpu").likely
    shares = np.array([one.probability for one in likely])
    assert np.isfinite(shares).all() and (shares > 0).all() and shares.sum() <= 1 + 1e-6
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    by_name = dict(zip(card.classes, expected, strict=True))
    assert shares == pytest.approx([by_name[one.name] for one in likely], abs=1e-5)
