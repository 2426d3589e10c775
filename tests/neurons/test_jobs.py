"""The jobs that look into a classifier, from an image to a result."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.jobs import Cancelled, CancelToken, Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.jobs.plain import plain
from napari_cvsuite.jobs.request import InputReference, Request
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.models.store import default_store
from napari_cvsuite.models.subject import opened
from napari_cvsuite.neurons import (
    bias,
    browse,
    dissecting,
    dream,
    explain,
    favourites,
    mislead,
    options,
    silence,
    simplicity,
)
from napari_cvsuite.neurons.subject import target_of


@pytest.fixture(scope="module")
def picture() -> Image:
    from skimage.data import cat

    return Image.from_array(cat()[:200, :260])


def _plain(name: str) -> Any:
    with default_store().lease(Catalogue().get(name), "cpu", "float32", exclusive=True) as network:
        return network.requires_grad_(False)


def test_what_is_seen_is_what_is_predicted(tiny_classifier: str, picture: Image) -> None:
    found = explain.predict(picture, options.NeuronOptions(model=tiny_classifier), Context())
    assert found.pixels.shape == (32, 32, 3)
    x = torch.from_numpy(found.pixels.transpose(2, 0, 1).copy())[None]
    shares = _plain(tiny_classifier)(x).softmax(dim=1)[0]
    assert [one.probability for one in found.likely] == pytest.approx(
        sorted(shares.tolist(), reverse=True)
    )
    assert found.likely[0].name == ("cat", "dog", "bird")[int(shares.argmax())]
    # The middle square of 200 x 260 pixels, 200 wide, in 32 cells.
    assert found.grid.step == (6.25, 6.25)
    assert found.grid.origin == (2.625, 32.625)
    assert found.provenance["model"] == tiny_classifier
    assert len(found.provenance["weights_sha256"]) == 64


@pytest.mark.parametrize("method", options.METHODS)
def test_every_method_gives_a_map_of_what_is_seen(
    tiny_classifier: str, picture: Image, method: str
) -> None:
    chosen = options.SaliencyOptions(model=tiny_classifier, method=method, masks=16, samples=2)
    found = explain.run(picture, chosen, Context())
    height, width = found.values.shape
    assert np.isfinite(found.values).all() and np.abs(found.values).max() <= 1
    assert found.signed == (method not in options.CAMS)
    if not found.signed:
        assert found.values.min() >= 0
    assert found.grid.step == (200 / height, 200 / width)
    assert (found.gap is not None) == (method in ("integrated_gradients", "deeplift"))
    json.dumps(plain(found), allow_nan=False)
    assert pickle.loads(pickle.dumps(found)).target == found.target


def test_the_gradient_is_that_of_the_logit(tiny_classifier: str, picture: Image) -> None:
    chosen = options.SaliencyOptions(model=tiny_classifier, target="dog")
    found = explain.run(picture, chosen, Context())
    seen = explain.predict(picture, options.NeuronOptions(model=tiny_classifier), Context()).pixels
    x = torch.from_numpy(seen.transpose(2, 0, 1).copy())[None].requires_grad_(True)
    grad = torch.autograd.grad(_plain(tiny_classifier)(x)[0, 1], x)[0]
    mean = grad[0].mean(dim=0)
    assert found.values == pytest.approx((mean / mean.abs().max()).numpy(), abs=1e-5)
    assert found.length == pytest.approx(float(grad.norm()), rel=1e-5)


def test_a_map_is_checked_beside_a_random_one(tiny_classifier: str, picture: Image) -> None:
    chosen = options.SaliencyOptions(model=tiny_classifier, check=True)
    check = explain.run(picture, chosen, Context()).check
    assert check is not None and check.infidelity is not None
    assert check.curves.map.deletion.shape == check.curves.random.deletion.shape
    assert check.curves.map.deletion[0] == check.curves.random.deletion[0]
    assert len(check.randomised.correlations) == 3 and check.sensitivity >= 0


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", None),
        ("dog", "dog"),
        ("1", "dog"),
        ("dog-cat", "dog - cat"),
        ("2-0", "bird - cat"),
        ("features.4:5", "features.4:5"),
        ("features.4:5:2,3", "features.4:5:2,3"),
    ],
)
def test_targets_by_name(tiny_classifier: str, text: str, name: str | None) -> None:
    with opened(options.NeuronOptions(model=tiny_classifier), Context()) as subject:
        target, shown = target_of(text, subject, torch.tensor([0.0, 0.0, 1.0]))
        assert shown == (name or "bird")
        if text == "dog-cat":
            assert (target.class_index, target.minus) == (1, 0)
        if text.endswith("2,3"):
            assert (target.layer, target.channel, target.position) == (
                "model.features.4",
                5,
                (2, 3),
            )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cow", "no class 'cow'; its classes are cat, dog, bird"),
        ("7", "no class '7'"),
        ("nowhere:3", "no layer 'nowhere'; choose one of features.1"),
        ("features.4:x", "LAYER:CHANNEL"),
        ("features.4:1:2", "LAYER:CHANNEL:Y,X"),
    ],
)
def test_targets_that_are_not_there(tiny_classifier: str, text: str, words: str) -> None:
    with (
        opened(options.NeuronOptions(model=tiny_classifier), Context()) as subject,
        pytest.raises(OptionError, match=words),
    ):
        target_of(text, subject, torch.zeros(3))


@pytest.mark.parametrize(
    "pixels",
    [
        np.random.default_rng(0).integers(0, 255, (8, 8), np.uint8),
        np.random.default_rng(0).integers(0, 60000, (3, 40, 50)).astype(np.uint16),
        np.random.default_rng(0).random((40, 50, 4)).astype(np.float32),
        np.ones((1, 1), np.float64),
        np.where(np.eye(64) > 0, np.nan, 0.5),
        np.zeros((2, 3, 20, 30), bool),
        np.broadcast_to((np.arange(10_000) % 251).astype(np.uint8), (10_000, 10_000)),
    ],
    ids=["8 px", "16-bit stack", "RGBA floats", "1 px", "NaN", "4D bool", "10,000 px"],
)
def test_images_of_any_kind_are_seen(tiny_classifier: str, pixels: np.ndarray) -> None:
    found = explain.run(
        Image.from_array(pixels), options.SaliencyOptions(model=tiny_classifier), Context()
    )
    assert found.values.shape == (32, 32) and np.isfinite(found.values).all()


def test_jobs_leave_the_shared_model_as_it_was(tiny_classifier: str, picture: Image) -> None:
    card = Catalogue().get(tiny_classifier)
    x = torch.rand(2, 3, 32, 32)
    with default_store().lease(card, "cpu", "float32") as shared:
        before = shared(x)
        for method in ("guided", "deeplift", "gradcam"):
            chosen = options.SaliencyOptions(model=tiny_classifier, method=method)
            explain.run(picture, chosen, Context())
        silence.run(picture, options.AblateOptions(model=tiny_classifier), Context())
        assert torch.equal(shared(x), before)
        assert not any(m._forward_hooks or m._backward_hooks for m in shared.modules())


def test_a_stopped_job_stops(tiny_classifier: str, picture: Image) -> None:
    token = CancelToken()
    chosen = options.SaliencyOptions(model=tiny_classifier, method="rise", masks=100_000)
    with pytest.raises(Cancelled):
        explain.run(picture, chosen, Context(token=token, on_progress=lambda _: token.cancel()))


def test_channels_of_a_layer(tiny_classifier: str, picture: Image) -> None:
    chosen = options.ActivationOptions(model=tiny_classifier, layer="features.4")
    found = browse.run(picture, chosen, Context())
    assert found.maps.shape == (96, 16, 16) and found.grid.step == (12.5, 12.5)
    means = found.maps.mean(axis=(1, 2))
    assert means[found.strongest()].tolist() == sorted(means, reverse=True)
    one = browse.run(picture, replace(chosen, channel=7), Context())
    assert one.channels == (7,) and np.array_equal(one.maps[0], found.maps[7])
    with pytest.raises(OptionError, match="96 channels, 0 to 95; got 96"):
        browse.run(picture, replace(chosen, channel=96), Context())


def test_a_montage_shows_every_channel_once() -> None:
    maps = np.arange(1, 6, dtype=np.float32)[:, None, None] * np.ones((5, 2, 3), np.float32)
    shown = browse.montage(maps)
    # Three in a row, with a gap of one cell.
    assert shown.shape == (5, 11) and np.nansum(shown) == 5 * 6
    found = [
        browse.channel_of_montage((y, x), maps.shape) for y in range(-1, 6) for x in range(-1, 12)
    ]
    assert [found.count(number) for number in range(5)] == [6] * 5
    assert browse.channel_of_montage((3, 8), maps.shape) is None


def test_favourite_patches_lead_back_to_their_place(tiny_classifier: str, tmp_path: Path) -> None:
    stack = np.full((3, 64, 64), 100, np.uint8)
    rng = np.random.default_rng(0)
    stack[1, 10:20, 40:50] = rng.integers(0, 255, (10, 10))
    path = tmp_path / "flat.png"
    Picture.fromarray(np.full((64, 64), 100, np.uint8)).save(path)
    chosen = options.PatchOptions(model=tiny_classifier, layer="features.1", top=2)
    found = favourites.run([path, Image.from_array(stack, name="stack")], chosen, Context())
    assert found.n == 4 and len(found.rows) == 48 * 2 and found.pictures.shape[:2] == (48, 2)
    # A kernel of 5 x 5 sees 10 x 10 pixels of a plane that is shrunk by two.
    lively = [row for row in found.rows if row.rank == 1 and (row.image, row.slice) == ("stack", 1)]
    assert len(lively) > 24 and all(row.item == 1 for row in lively)
    inside = [5 <= row.top <= 20 and 30 <= row.left <= 50 for row in lively]
    assert np.mean(inside) > 0.9 and {row.height for row in lively} <= {6.0, 8.0, 10.0}
    first = found.rows[0]
    assert favourites.run([path], replace(chosen, channel=3), Context()).rows[0].channel == 3
    assert first.activation == max(r.activation for r in found.rows if r.channel == 0)
    with pytest.raises(OptionError, match="48 channels"):
        favourites.run([path], replace(chosen, channel=48), Context())


def test_an_attack_stays_within_its_radius(tiny_classifier: str, picture: Image) -> None:
    for norm, eps in (("l2", 0.5), ("linf", 0.02)):
        chosen = options.AttackOptions(model=tiny_classifier, norm=norm, eps=eps, steps=5)
        found = mislead.run(picture, chosen, Context())
        size = np.linalg.norm(found.change) if norm == "l2" else np.abs(found.change).max()
        assert found.size == pytest.approx(size) and size <= eps * (1 + 1e-4)
        assert found.after.min() >= 0 and found.after.max() <= 1
        assert max(found.loss) > found.loss[0] and len(found.loss) == 6
        assert found.label == found.likely_before[0].name
    usual = mislead.run(picture, options.AttackOptions(model=tiny_classifier), Context())
    assert usual.eps == pytest.approx(0.008 * (3 * 32 * 32) ** 0.5)


def test_silenced_channels(tiny_classifier: str, picture: Image) -> None:
    chosen = options.AblateOptions(model=tiny_classifier, layer="features.11")
    each = silence.run(picture, chosen, Context())
    assert each.drop.shape == (128,) and len(each.rows()) == 128
    one = silence.run(picture, replace(chosen, silenced="5"), Context())
    assert one.drop[0] == pytest.approx(each.drop[5], abs=1e-6) and one.channels == (5,)
    kept = silence.run(picture, replace(chosen, silenced="0-127", mode="keep"), Context())
    assert kept.drop[0] == pytest.approx(0, abs=1e-6) and not kept.changed[0]
    assert options.channel_list("3, 7-9,3") == (3, 7, 8, 9)
    with pytest.raises(OptionError, match="such as 3,7-9"):
        replace(chosen, silenced="a")
    with pytest.raises(ValueError, match="128"):
        silence.run(picture, replace(chosen, silenced="128"), Context())


def test_simplicity_of_an_image(tiny_classifier: str, picture: Image) -> None:
    found = simplicity.run(picture, options.SmoothnessOptions(model=tiny_classifier), Context())
    kernels = _plain(tiny_classifier).model.features[0].weight.double()
    tv = kernels.diff(dim=2).abs().sum((2, 3)) + kernels.diff(dim=3).abs().sum((2, 3))
    assert found.kernel_tv == pytest.approx(float(tv.mean()), rel=1e-5)
    assert found.layers[0].layer == "features.1" and len(found.layers) == 5
    assert all(row.change > 0 for row in found.layers) and found.gradient_length > 0


def test_a_channel_is_pleased(tiny_classifier: str) -> None:
    chosen = options.MaximiseOptions(model=tiny_classifier, layer="features.4", steps=20)
    found = dream.run(chosen, Context())
    assert found.image.shape == (32, 32, 3) and found.scores[-1] > found.scores[0]
    with pytest.raises(ValueError, match="96"):
        dream.run(replace(chosen, channel=96), Context())


@pytest.mark.parametrize("preset", ["labels", "paper"])
def test_dissection_of_own_labels(tiny_classifier: str, other_classifier: str, preset: str) -> None:
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 90, (8, 40, 40), np.uint8)
    labels = np.zeros((8, 40, 40), np.uint8)
    labels[:, 5:20, 8:30] = 1
    stack[labels == 1] += 120
    pair = dissecting.Pair(Image.from_array(stack), (Image.from_array(labels),))
    chosen = options.DissectOptions(
        model=tiny_classifier, layer="features.1", preset=preset, shifts=20
    )
    found = dissecting.run([pair], chosen, Context(), {1: "bright"})
    assert found.n == 8 and found.layer == "features.1"
    rows = found.units.rows()
    assert len(rows) == 48 and {row["concept"] for row in rows} == {"bright"}
    assert any("bright: channel" in line for line in found.in_words())
    if preset == "labels":
        # A channel that answers to brightness finds what is bright, beyond chance.
        best = max(rows, key=lambda row: row["iou"])
        assert best["iou"] > 2 * best["chance"] and best["p_family"] <= 1 / 21 + 1e-9
    both = dissecting.Pair(pair.image, (pair.labels[0], Image.from_array(1 - labels)))
    two = dissecting.run([both], chosen, Context(), groups=["bright", "dark"])
    named = [(one.name, one.value, one.group) for one in two.units.concepts]
    assert named == [("bright: label 1", 1, 0), ("dark: label 1", 1, 1)]
    assert two.units.iou[:, 0] == pytest.approx(found.units.iou[:, 0])
    wrong = dissecting.Pair(Image.from_array(stack), (Image.from_array(labels[:, :30]),))
    with pytest.raises(ImageError, match="labels of the same size"):
        dissecting.run([wrong], chosen, Context())
    floats = dissecting.Pair(Image.from_array(stack), (Image.from_array(labels * 0.5),))
    with pytest.raises(ImageError, match="whole numbers"):
        dissecting.run([floats], chosen, Context())


def test_shape_or_texture_of_own_classes(
    tiny_classifier: str, tiny_model: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    names = ("cat1-dog1.png", "dog1-cat2.png", "bird1-cat1.png", "cat1-cat2.png", "car1-dog1.png")
    for name in (*names, "notes.png"):
        Picture.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(tmp_path / name)
    chosen = options.BiasOptions(model=tiny_classifier)
    found = bias.conflict(tmp_path, chosen, Context())
    assert found.bias.total.n == 3 and set(found.categories) == {"cat", "dog", "bird"}
    assert "not comparable" in found.in_words()
    with pytest.raises(ValueError, match="SHAPE1-TEXTURE1"):
        bias.find_stimuli(tmp_path / "none")


def test_every_job_is_found_by_its_name_and_keeps_its_form() -> None:
    for name, spec in options.JOBS.items():
        assert spec.name == f"neurons.{name}" and callable(spec.load_run())
        request = Request(spec.name, spec.load_options()(), (InputReference("file", "a.tif"),))
        assert Request.from_yaml(request.to_yaml()) == request
    assert len(options.JOBS) >= 8
