"""Statistics and top images of channels against the reference vectors and the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kits import load_rule
from torch import nn

from napari_cvsuite.jobs.context import Cancelled, Context, Progress
from napari_cvsuite.neurons.activations import activations
from napari_cvsuite.neurons.channels import (
    TopImages,
    boxes,
    channels,
    distinct_classes,
    patch_distance,
    patches,
    top_images,
)
from napari_cvsuite.neurons.fields import ReceptiveField

rule = load_rule("robust_cnn")


def test_the_reference_vectors_are_met() -> None:
    def quantity(case: dict[str, Any]) -> dict[str, Any]:
        found = top_images(case["acts"], case["k"])
        unique = distinct_classes(found.index, case["classes"])
        return {"index": found.index, "position": found.position, "unique": unique}

    rule.check({"top_images": quantity})


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 9),
    k=st.integers(1, 12),
    batch=st.integers(1, 4),
)
def test_a_stream_gives_what_the_whole_gives(seed: int, count: int, k: int, batch: int) -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False)).eval()
    network[0].weight.data = torch.eye(3)[..., None, None]
    # Few different values, so that ties are common.
    images = torch.from_numpy(
        np.random.default_rng(seed).integers(0, 5, (count, 3, 2, 3)) / 4
    ).float()
    found = channels(network, "0", list(images), k, Context(), batch)
    whole = top_images(images.numpy(), k)
    assert found.top.index.shape == (3, min(k, count))
    for name in ("index", "position", "value"):
        assert np.array_equal(getattr(found.top, name), getattr(whole, name))
    np.testing.assert_allclose(found.mean, images.double().mean(dim=(0, 2, 3)).numpy(), rtol=1e-12)
    assert np.array_equal(found.maximum, images.amax(dim=(0, 2, 3)).numpy())


def test_rows_count_channels_from_0() -> None:
    network = rule.torch_tiny("tiny_s").double()
    images = torch.rand(5, 3, 12, 12, dtype=torch.float64)
    rows = channels(network, "relu2", iter(images), 2, Context()).rows()
    maps = activations(network, images, ["relu2"])["relu2"]
    assert len(rows) == 12 and rows[3]["channel"] == 3
    assert rows[3]["mean"] == pytest.approx(maps[:, 3].mean().item(), rel=1e-12)
    assert rows[3]["max"] == maps[:, 3].max().item()


FIELD = ReceptiveField((4, 4), (2, 2), (-1, -1))
TOP = TopImages(
    index=np.array([[1, 0], [1, 1]]),
    position=np.array([[[0, 0], [1, 1]], [[2, 1], [1, 1]]]),
    value=np.array([[2.0, 1.0], [3.0, 2.0]]),
)


def test_boxes_are_what_positions_see() -> None:
    found = boxes(TOP, FIELD, (6, 6))
    assert found.tolist() == [[[0, 0, 3, 3], [1, 1, 5, 5]], [[3, 1, 6, 5], [1, 1, 5, 5]]]


class Loaded:
    """Counts which images are loaded."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images, self.numbers = images, []

    def __getitem__(self, number: int) -> torch.Tensor:
        self.numbers.append(number)
        return self.images[number]


def test_patches_are_cut_from_images_that_are_loaded_once() -> None:
    images = Loaded(torch.rand(3, 3, 6, 6))
    found = patches(images, TOP, FIELD, [1, 0], Context(), side=4)
    assert images.numbers == [0, 1] and found.shape == (2, 2, 3, 4, 4)
    np.testing.assert_allclose(found[0, 1], images.images[1, :, 1:5, 1:5], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1, 1], images.images[0, :, 1:5, 1:5], rtol=1e-5, atol=1e-6)
    # Shrunk to one pixel, a patch of 4 x 4 keeps the mean of a constant image.
    even = patches([torch.full((3, 6, 6), 0.3)] * 2, TOP, FIELD, [0], Context(), side=1)
    np.testing.assert_allclose(even, torch.full((1, 2, 3, 1, 1), 0.3), rtol=1e-5, atol=1e-6)


def test_distance_of_patches() -> None:
    levels = torch.tensor([[0.0, 0.5, 1.0], [0.2, 0.2, 0.2]])
    cut = levels[..., None, None, None].expand(2, 3, 3, 4, 4)
    # Pairs of the first channel differ by 0.5, 0.5 and 1.
    np.testing.assert_allclose(patch_distance(cut), [2 / 3, 0], atol=1e-12)
    assert patch_distance(cut[:, :1]).tolist() == [0, 0]


def test_cancelling_removes_the_hooks() -> None:
    network, context = rule.torch_tiny("tiny_s"), Context()

    def watch(progress: Progress) -> None:
        if progress.done == 2:
            context.token.cancel()

    context.on_progress = watch
    with pytest.raises(Cancelled):
        channels(network, "relu1", list(torch.rand(6, 3, 12, 12)), 2, context, batch=2)
    assert not any(module._forward_hooks for module in network.modules())


def test_unusable_input_is_explained() -> None:
    network, images = rule.torch_tiny("tiny_s"), list(torch.rand(2, 3, 12, 12))
    with pytest.raises(ValueError, match="no images; give one"):
        channels(network, "relu1", [], 3, Context())
    with pytest.raises(ValueError, match="batch must be 1"):
        channels(network, "relu1", images, 3, Context(), batch=0)
    with pytest.raises(ValueError, match="k must be 1"):
        channels(network, "relu1", images, 0, Context())
    with pytest.raises(ValueError, match=r"shapes \(3, 12, 12\) and \(3, 8, 8\); resize"):
        channels(network, "relu1", [*images, torch.rand(3, 8, 8)], 3, Context())
    with pytest.raises(ValueError, match="N x U x h x w"):
        top_images(np.zeros((0, 3, 2, 2)), 1)
    with pytest.raises(ValueError, match="check images and weights"):
        top_images(np.full((1, 3, 2, 2), np.nan), 1)
    with pytest.raises(ValueError, match="image 2 has no class"):
        distinct_classes(np.array([[0, 2]]), [1, 1])
    with pytest.raises(ValueError, match="between 0 and 1 and side"):
        patches(images, TOP, FIELD, [2], Context())
    with pytest.raises(ValueError, match="U x k x 3"):
        patch_distance(torch.zeros(2, 3, 4, 4))
