"""Smoothness of kernels and maps: the kit, and arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kits import load_rule
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context
from napari_cvsuite.neurons.controls import gaussian_noise
from napari_cvsuite.neurons.smoothness import (
    KernelSmoothness,
    LayerResponse,
    kernel_smoothness,
    mean_smoothness,
    noise_response,
    outlier_channels,
    saliency_tv,
    total_variation,
    tv_over_l1,
)

rule = load_rule("robust_cnn")


def _images(count: int = 4) -> Tensor:
    return torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def _maps(case: dict[str, Any]) -> dict[str, Any]:
    maps = torch.from_numpy(case["maps"])
    return {"tv": total_variation(maps), "tv_over_l1": tv_over_l1(maps)}


def _pair(case: dict[str, Any]) -> dict[str, Any]:
    kernels, ratios = [], []
    images = torch.from_numpy(case["x"])
    noisy = (images + torch.from_numpy(case["noise"])).clamp(0, 1)
    for name in case["nets"]:
        network = rule.torch_tiny(name)
        found = kernel_smoothness(network)["conv1"]
        kernels.append([found.tv, found.tv_over_l1])
        ratios.append(noise_response(network, images, noisy, ["relu2"])["relu2"].ratio.numpy())
    return {"kernel_tv": kernels, "ratio": ratios}


def test_the_kit() -> None:
    rule.check({"tv": _maps, "tv_pair": _pair})


def test_variation_by_hand() -> None:
    maps = torch.tensor([[[0.0, 1.0], [3.0, -1.0]]])
    # Rows: |3 - 0| + |-1 - 1|; columns: |1 - 0| + |-1 - 3|.
    assert total_variation(maps).tolist() == [10.0]
    assert tv_over_l1(maps).tolist() == [2.0]
    assert saliency_tv(maps).tolist() == pytest.approx([10 / 3])
    assert total_variation(torch.ones(2, 1, 1)).tolist() == [0, 0]
    zeros = torch.zeros(1, 3, 3)
    assert tv_over_l1(zeros).tolist() == saliency_tv(zeros).tolist() == [0]
    with pytest.raises(ValueError, match="H x W"):
        total_variation(torch.ones(4))


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    scale=st.floats(0.01, 100),
    shift=st.floats(-5, 5),
    seed=st.integers(0, 99),
)
def test_what_scale_and_shift_do(
    shape: tuple[int, int], dtype: torch.dtype, scale: float, shift: float, seed: int
) -> None:
    maps = torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    near: dict[str, float] = {"rtol": 1e-3, "atol": 1e-3}
    torch.testing.assert_close(total_variation(maps + shift), total_variation(maps), **near)
    torch.testing.assert_close(total_variation(scale * maps), scale * total_variation(maps), **near)
    for measure in (tv_over_l1, saliency_tv):
        torch.testing.assert_close(measure(-scale * maps), measure(maps), **near)
    turned = total_variation(maps.transpose(1, 2))
    torch.testing.assert_close(turned, total_variation(maps), **near)
    # Each difference is at most the sum of two magnitudes, and a pixel has four neighbours.
    assert float(tv_over_l1(maps)) <= 4 + 1e-3


def test_layers_count_with_their_channels() -> None:
    kernels = {"a": KernelSmoothness(10, 3.0, 1.0), "b": KernelSmoothness(30, 1.0, 2.0)}
    assert mean_smoothness(kernels) == KernelSmoothness(40, 1.5, 1.75)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 3, bias=False))
    nn.init.ones_(network[1].weight)
    with torch.no_grad():
        network[1].weight[:, :, 1, 1] = 3
    # One bright pixel in the middle differs by 2 from four neighbours; the sum is 8 + 3.
    found = kernel_smoothness(network)
    assert found["0"] == KernelSmoothness(4, 0.0, 0.0)
    assert found["1"].tv == 8 and found["1"].tv_over_l1 == pytest.approx(8 / 11)
    with pytest.raises(ValueError, match="no two-dimensional convolution"):
        kernel_smoothness(nn.Linear(2, 2))


def test_a_layer_that_passes_images_on_shows_the_noise_itself() -> None:
    network = nn.Sequential(nn.Identity(), nn.Flatten()).eval()
    images = torch.full((3, 3, 40, 40), 0.5)
    noisy = gaussian_noise(images, 0.1)
    found = noise_response(network, images, noisy, ["0"], batch=2)["0"]
    assert found.clean.tolist() == [0, 0, 0]
    np.testing.assert_allclose(found.noisy, total_variation(noisy).mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.change, (noisy - images).abs().mean((0, 2, 3)), rtol=1e-5)
    # Mean magnitude of normal numbers: sqrt(2 / pi) of their deviation.
    assert found.relative_change == pytest.approx(0.1 * np.sqrt(2 / np.pi) / 0.5, rel=0.02)


def test_no_noise_no_change_and_batches_do_not_matter() -> None:
    network, images = rule.torch_tiny("tiny_s"), _images(5)
    still = noise_response(network, images, images, ["relu1", "relu2"])
    assert list(still) == ["relu1", "relu2"]
    assert still["relu2"].relative_change == 0 and still["relu2"].layer_ratio == 1
    noisy = gaussian_noise(images, 0.1)
    whole = noise_response(network, images, noisy, ["conv1"])["conv1"]
    parts = noise_response(network.double(), images, noisy, ["conv1"], batch=2)["conv1"]
    for name in ("clean", "noisy", "activation", "change"):
        np.testing.assert_allclose(getattr(whole, name), getattr(parts, name), rtol=1e-4)
    assert all(not module._forward_hooks for module in network.modules())


def test_an_in_place_relu_behind_the_layer_does_not_matter() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 6, 3)
    images = _images(2)
    responses = [
        noise_response(
            nn.Sequential(conv, nn.ReLU(inplace=inplace)).eval(), images, images * 0.5, ["0"]
        )["0"]
        for inplace in (True, False)
    ]
    assert torch.equal(responses[0].activation, responses[1].activation)


def test_outliers_are_measured_by_the_standard_network() -> None:
    def response(clean: list[float], noisy: list[float]) -> LayerResponse:
        ones = torch.ones(len(clean))
        return LayerResponse(torch.tensor(clean), torch.tensor(noisy), ones, ones)

    standard = response([10.0, 20.0, 30.0], [14.0, 23.9, 50.0])
    robust = response([1.0, 1.0, 1.0], [1.3, 5.5, 0.0])
    # A fifth of the standard network's mean of 20.
    assert outlier_channels(standard, standard).tolist() == [True, False, True]
    assert outlier_channels(robust, standard).tolist() == [False, True, False]
    assert standard.layer_ratio == pytest.approx((14 + 23.9 + 50) / 60)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layers": ["relu9"]}, "relu9"),
        ({"layers": ["fc"]}, "maps"),
        ({"layers": []}, "one layer"),
        ({"batch": 0}, "one image"),
        ({"noisy": torch.zeros(4, 3, 6, 6)}, "own size"),
        ({"noisy": torch.full((4, 3, 12, 12), float("nan"))}, "NaN"),
        ({"images": torch.zeros(0, 3, 12, 12), "noisy": torch.zeros(0, 3, 12, 12)}, "one image"),
    ],
)
def test_bad_inputs(changed: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"images": _images(), "noisy": _images(), "layers": ["relu2"]}
    with pytest.raises(ValueError, match=message):
        noise_response(rule.torch_tiny("tiny_s"), **(options | changed))


def test_cancellation_leaves_no_hooks() -> None:
    network, token = rule.torch_tiny("tiny_s"), CancelToken()
    context = Context(token=token, on_progress=lambda progress: token.cancel())
    with pytest.raises(Cancelled):
        noise_response(network, _images(), _images(), ["relu1"], batch=1, context=context)
    assert all(not module._forward_hooks for module in network.modules())
