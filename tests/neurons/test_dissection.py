"""Dissection against the reference vectors, planted detectors and properties of chance."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kits import load_rule
from torch import nn

from napari_cvsuite.jobs.context import Cancelled, Context, Progress
from napari_cvsuite.neurons.dissection import dissect, dissect_labels, dissect_spool
from napari_cvsuite.neurons.overlap import Concept
from napari_cvsuite.neurons.spool import Spool
from napari_cvsuite.neurons.units import Dissection

rule = load_rule("robust_cnn")


def _dissected(
    acts: np.ndarray, labels: np.ndarray, groups: dict[int, int], q: float
) -> Dissection:
    concepts = [Concept(value, str(value), group) for value, group in groups.items()]
    names = [str(group) for group in range(labels.shape[1])]
    with Spool() as spool:
        for maps, marked in zip(acts, labels, strict=True):
            spool.append(maps, list(marked))
        return dissect_spool(spool, concepts, Context(), "layer", names, q=q)


def test_the_reference_vectors_are_met() -> None:
    def quantity(case: dict[str, Any]) -> dict[str, Any]:
        found = _dissected(case["acts"], case["labels"], case["concept_group"], case["q"])
        return {
            "threshold": found.threshold[:, 0],
            "on": found.on[:, 0],
            "iou_paper": found.iou_paper,
            "iou_plain": found.iou_plain,
            "chance": found.chance,
            "ceiling": found.ceiling,
        }

    rule.check({"dissect": quantity})


class Colours(nn.Module):
    """Two units that see red and green, and a third that sees nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        self.conv.weight.data = torch.diag(torch.tensor([1.0, 1.0, 0.0]))[..., None, None]
        self.runs = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += len(x)
        return self.conv(x).mean((2, 3))


def _squares(count: int, side: int = 16) -> list[tuple[torch.Tensor, list[np.ndarray]]]:
    """Dim noise with a red and a green square of 4 x 4 pixels, labelled 1 and 2."""
    rng = np.random.default_rng(5)
    items = []
    for _ in range(count):
        image = rng.random((3, side, side), dtype=np.float32) * 0.1
        labels = np.zeros((side, side), np.int64)
        top = rng.integers(0, side - 4, 2)
        for colour, left in enumerate((0, side // 2)):
            rows, columns = slice(top[colour], top[colour] + 4), slice(left + 1, left + 5)
            image[colour, rows, columns] = 1 - 0.1 * rng.random((4, 4), dtype=np.float32)
            labels[rows, columns] = colour + 1
        items.append((torch.from_numpy(image), [labels]))
    return items


def test_planted_detectors_are_found_with_one_pass_an_image() -> None:
    network, items = Colours(), _squares(10)
    # A square covers 16 of 256 pixels, so q of 1 / 16 lets exactly it through.
    found = dissect(
        network,
        "conv",
        iter(items),
        Context(),
        {1: "red", 2: "green"},
        ["colour"],
        q=1 / 16,
        batch=3,
    )
    assert network.runs == 10
    assert found.labels == ["red", "green", ""] and found.unique_concepts == ("red", "green")
    np.testing.assert_allclose(found.iou[[0, 1], [0, 1]], 1, atol=0.01)
    np.testing.assert_allclose(found.area, 1 / 16)
    assert found.on[2].max() == 0 and found.iou[2].max() == 0 and found.ceiling[2].max() == 0


@pytest.mark.parametrize("count", [8, 40])
def test_images_and_labels_are_let_go(count: int) -> None:
    met: list[weakref.ref[object]] = []
    most = 0

    def stream() -> Iterator[tuple[torch.Tensor, list[np.ndarray]]]:
        nonlocal most
        for image, (labels,) in map(_copied, _squares(count)):
            met.extend((weakref.ref(image), weakref.ref(labels)))
            most = max(most, sum(one() is not None for one in met))
            yield image, [labels]
            del image, labels

    dissect_labels(Colours(), "conv", stream(), Context(), shifts=10, batch=2)
    # Two arrays of each image: of those that were in the network, and of those to follow them.
    assert len(met) == 2 * count and most <= 2 * (2 + 2)


def _copied(
    item: tuple[torch.Tensor, list[np.ndarray]],
) -> tuple[torch.Tensor, list[np.ndarray]]:
    return item[0].clone(), [item[1][0].copy()]


def test_own_labels_choose_q_and_tell_chance() -> None:
    network = Colours()
    found = dissect_labels(network, "conv", _squares(20), Context(), {1: "red"}, shifts=60)
    # The share nearest to the 1 / 16 of a square below it is 0.05: 0.05 / 0.0625 = 0.8.
    assert found.q.tolist() == [0.05, 0.05] and network.runs == 20
    np.testing.assert_allclose(found.iou[[0, 1], [0, 1]], 0.8, atol=0.08)
    assert found.p is not None and found.p_family is not None
    # No shift of ten images reaches the true place; the unit that is never active is beaten by all.
    assert found.p[0, 0] == found.p[1, 1] == found.p_family[0, 0] == 1 / 61
    assert found.p[2].tolist() == [1, 1]
    assert (found.p_family >= found.p).all()
    assert found.labels == ["red", "label 2", ""]
    without = dissect_labels(network, "conv", _squares(20), Context(), shifts=0)
    assert without.p is None and np.array_equal(without.iou, found.iou)


def test_batches_and_lengths_change_nothing() -> None:
    network = rule.torch_tiny("tiny_s")
    rng = np.random.default_rng(2)
    items = [
        (torch.rand(3, 12, 12), [rng.integers(0, 3, (9, 14)), rng.integers(0, 2, (9, 14)) * 3])
        for _ in range(9)
    ]
    # One image at a time, as a network's sums may depend on the batch.
    whole = torch.stack([image for image, _ in items])
    kept: list[torch.Tensor] = []
    hook = network.relu2.register_forward_hook(lambda module, x, y: kept.append(y.clone()))
    with torch.no_grad():
        for image in whole:
            network(image[None])
    hook.remove()
    labels = np.stack([np.stack(marked) for _, marked in items])
    want = _dissected(torch.cat(kept).numpy(), labels, {1: 0, 2: 0, 3: 1}, 0.1)
    for source in (items, iter(items)):
        found = dissect(network, "relu2", source, Context(), q=0.1, batch=1)
        for name in ("threshold", "on", "area", "iou_paper", "iou_plain"):
            assert np.array_equal(getattr(found, name), getattr(want, name))
    assert found.groups == ("group 0", "group 1")


def test_double_networks_work() -> None:
    found = dissect(Colours().double(), "conv", _squares(4), Context(), q=1 / 16)
    assert found.labels == ["label 1", "label 2", ""]


def test_a_concept_belongs_to_the_group_of_most_of_its_pixels() -> None:
    image = torch.rand(3, 4, 4)
    few, many = np.zeros((4, 4), int), np.zeros((4, 4), int)
    few[0, 0], many[1:] = 7, 7
    found = dissect(Colours(), "conv", [(image, [few, many])], Context())
    assert [one.group for one in found.concepts] == [1]
    assert found.area.tolist() == [12 / 16]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), q=st.floats(0.01, 0.6), share=st.floats(0.02, 0.9))
def test_no_overlap_exceeds_its_ceiling(seed: int, q: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    acts = rng.random((3, 4, 5, 5), dtype=np.float32)
    labels = (rng.random((3, 1, 12, 12)) < share).astype(int)
    labels[0, 0, 0, 0] = 1
    found = _dissected(acts, labels, {1: 0}, q)
    assert (found.iou_plain <= found.ceiling + 1e-12).all()
    assert (found.iou_plain <= found.iou_paper + 1e-12).all()


def test_chance_is_that_of_independent_masks() -> None:
    rng = np.random.default_rng(3)
    acts = rng.random((20, 10, 32, 32), dtype=np.float32)
    labels = (rng.random((20, 1, 32, 32)) < 0.2).astype(int)
    found = _dissected(acts, labels, {1: 0}, 0.1)
    # 0.02 of the pixels in common, over 0.1 + 0.2 - 0.02.
    assert found.iou_plain.mean() == pytest.approx(0.02 / 0.28, rel=0.1)
    np.testing.assert_allclose(found.chance, 0.02 / 0.28, rtol=0.1)


def test_p_is_uniform_where_units_and_labels_are_unrelated() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(4)
    found = []
    # Many small data sets, of which each gives one p: units of one data set share its images.
    for seed in range(100):
        items = [
            (torch.rand(3, 48, 48), [(rng.random((48, 48)) < 0.3).astype(int)]) for _ in range(4)
        ]
        network = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1, padding_mode="circular")).eval()
        result = dissect_labels(network, "0", items, Context(), grid=[0.1], shifts=99, seed=seed)
        assert result.p is not None
        found.append(result.p[0, 0])
    p = np.sort(found)
    # Kolmogorov's distance exceeds 1.63 / sqrt(n) once in 100 draws; equal counts, which weigh
    # against a unit, make up about 0.03 here.
    distance = np.abs(np.arange(1, len(p) + 1) / len(p) - p).max()
    assert distance < 1.63 / np.sqrt(len(p)) + 0.03
    # Three standard deviations above the share that is due.
    assert (p <= 0.05).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / len(p))


@pytest.mark.parametrize("stop", [0.2, 0.7, 1.5, 2.5])
def test_cancelling_leaves_neither_file_nor_hook(
    stop: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    plain = tempfile.TemporaryFile
    monkeypatch.setattr(
        tempfile, "TemporaryFile", lambda **options: opened.append(plain(**options)) or opened[-1]
    )
    context = Context()

    def watch(progress: Progress) -> None:
        if progress.done >= stop:
            context.token.cancel()

    context.on_progress = watch
    network = Colours().train()
    with pytest.raises(Cancelled):
        dissect_labels(network, "conv", _squares(10), context, batch=1)
    assert len(opened) == 1 and opened[0].closed
    assert not any(module._forward_hooks for module in network.modules())
    assert network.training and all(one.requires_grad for one in network.parameters())


def test_unusable_input_is_explained() -> None:
    network, context = Colours(), Context()
    image, (labels,) = _squares(1)[0]

    def fails(message: str, *items: tuple[torch.Tensor, list[np.ndarray]], **options: Any) -> None:
        with pytest.raises(ValueError, match=message):
            dissect(network, options.pop("layer", "conv"), items, context, **options)

    fails("no images; give one")
    fails("no pixel is labelled", (image, [0 * labels]))
    fails("image 1 has shape .* resize", (image, [labels]), (image[:, :8], [labels]))
    fails("image 1 has 2 label maps, others 1", (image, [labels]), (image, [labels, labels]))
    fails("image 0 has 0 label maps", (image, []))
    fails("must be H x W", (image, [labels[None]]))
    fails("must be H x W, all of one size", (image, [labels, labels[1:]]))
    fails("must be integers.*float64", (image, [labels * 1.0]))
    fails("from -1", (image, [labels - 1]))
    fails("finite floats", (image * np.nan, [labels]))
    fails("no layer 'cov'; did you mean conv", (image, [labels]), layer="cov")
    fails("no mode 'papers'", (image, [labels]), mode="papers")
    fails("q must lie", (image, [labels]), q=1.0)
    fails("cut must lie", (image, [labels]), cut=-1)
    fails("1 label maps an image, but 2 names", (image, [labels]), groups=["a", "b"])
    fails("2500 different labels", (image, [np.arange(2501).reshape(61, 41)]))
    with pytest.raises(ValueError, match="label two images or more"):
        dissect_labels(network, "conv", [(image, [labels])], context)
    with pytest.raises(ValueError, match="must not be negative"):
        dissect_labels(network, "conv", [(image, [labels])] * 2, context, shifts=-1)
    network.conv.weight.data[0] = torch.nan
    fails("gives NaN", (image, [labels]))


def test_a_concept_in_one_half_only_is_warned_about() -> None:
    warned: list[str] = []
    items = _squares(4)
    items[0][1][0][0, -1] = 3
    dissect_labels(Colours(), "conv", items, Context(on_warning=warned.append), shifts=5)
    assert len(warned) == 1 and "'label 3'" in warned[0]
