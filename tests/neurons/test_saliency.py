"""Saliency against autograd, the kit, closed forms and completeness."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kits import load_rule
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context
from napari_cvsuite.models.relu import UntraceableError
from napari_cvsuite.neurons import options as offered
from napari_cvsuite.neurons.cams import CAMS
from napari_cvsuite.neurons.deeplift import deeplift
from napari_cvsuite.neurons.gradients import completeness_gap, integrated_gradients
from napari_cvsuite.neurons.options import SaliencyOptions
from napari_cvsuite.neurons.perturbation import random_masks
from napari_cvsuite.neurons.saliency import METHODS, explain, signed_map
from napari_cvsuite.neurons.target import Scores, Target

rule = load_rule("robust_cnn")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Weighted(nn.Module):
    """Two linear scores: a fixed weight a pixel, and its negative."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        score = (self.weight * x).sum((1, 2, 3)) + 0.7
        return torch.stack([score, -score], 1)


class SharedRelu(nn.Module):
    """One in-place ReLU module for two layers, F.relu for the third; overlapping max pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.conv3, self.fc = nn.Conv2d(8, 8, 3), nn.Linear(8, 4)
        self.relu, self.pool = nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x - 0.4))
        x = self.pool(self.relu(self.conv2(x)) + x)
        return self.fc(self.pool(F.relu(self.conv3(x))).mean((2, 3)))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else -x.mean((2, 3))


@pytest.fixture
def tiny() -> nn.Module:
    return rule.torch_tiny("tiny_s")


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def _state(network: nn.Module) -> list[Any]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        (name, module.training, sorted(vars(module)), *(len(getattr(module, h)) for h in hooks))
        for name, module in network.named_modules()
    ] + [(name, p.requires_grad, p.grad, p.sum().item()) for name, p in network.named_parameters()]


def _kit(method: str, case: dict[str, Any], **options: Any) -> np.ndarray:
    found = explain(
        rule.torch_tiny(case["net"]),
        torch.from_numpy(case["x"]),
        Target(case["target"]),
        method,
        SaliencyOptions(**options),
    )
    return found.values.numpy()


def _integrated(case: dict[str, Any]) -> np.ndarray:
    scores = Scores(rule.torch_tiny(case["net"]), Target(case["target"]))
    baseline = torch.from_numpy(case["baseline"])
    return integrated_gradients(
        scores, torch.from_numpy(case["x"]), baseline, case["steps"]
    ).numpy()


def test_the_kit() -> None:
    rule.check(
        {
            "signed_map": lambda c: {"map": signed_map(torch.from_numpy(c["grad"])).numpy()},
            "gradient": lambda c: {"grad": _kit("gradient", c)},
            "guided": lambda c: {"grad": _kit("guided", c)},
            "integrated_gradients": lambda c: {"attr": _integrated(c)},
            "occlusion": lambda c: {
                "map": _kit("occlusion", c, **{k: c[k] for k in ("window", "stride", "fill")})[0]
            },
        }
    )


def test_the_gradient_is_autograds(tiny: nn.Module, images: Tensor) -> None:
    pixels = images.clone().requires_grad_()
    logits = tiny(pixels)
    (one,) = torch.autograd.grad(logits[:, 4].sum(), pixels, retain_graph=True)
    (two,) = torch.autograd.grad((logits[:, 4] - logits[:, 1]).sum(), pixels)
    assert torch.equal(explain(tiny, images, Target(4)).values, one)
    assert torch.equal(explain(tiny, images, Target(4, minus=1)).values, two)
    with torch.no_grad():
        found = explain(tiny, images, Target(4), "gradient_x_input").values
    assert torch.equal(found, images * one)


def test_a_neuron_is_a_channels_mean_or_one_position(tiny: nn.Module, images: Tensor) -> None:
    scores = Scores(tiny, Target(layer="conv1", channel=2))
    conv = F.conv2d((images - tiny.mean) / tiny.std, tiny.conv1.weight, tiny.conv1.bias, padding=1)
    torch.testing.assert_close(scores(images), conv[:, 2].mean((1, 2)))
    place = Scores(tiny, Target(layer="conv1", channel=2, position=(3, 5)))
    torch.testing.assert_close(place(images), conv[:, 2, 3, 5])
    grad = explain(tiny, images, place.target).values
    # A 3 x 3 convolution sees its own surroundings alone, through its weights.
    assert torch.count_nonzero(grad) == 3 * 27
    want = tiny.conv1.weight[2] / tiny.std
    torch.testing.assert_close(grad[1, :, 2:5, 4:7], want.detach())
    row = Scores(tiny, Target(layer="fc", channel=7))
    torch.testing.assert_close(row(images), tiny(images)[:, 7])


def test_smoothgrad_of_a_linear_network_is_its_weight(images: Tensor) -> None:
    weight = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(2))
    found = explain(Weighted(weight).eval(), images, Target(0), "smoothgrad").values
    torch.testing.assert_close(found, weight.expand(3, -1, -1, -1))


def test_smoothgrad_is_seeded_and_treats_images_one_by_one(tiny: nn.Module, images: Tensor) -> None:
    def found(x: Tensor, seed: int) -> Tensor:
        options = SaliencyOptions(seed=seed, samples=4)
        return explain(tiny, x, Target(0), "smoothgrad", options).values

    torch.testing.assert_close(found(images, 0)[1:2], found(images[1:2], 0))
    assert not torch.allclose(found(images, 0), found(images, 1), rtol=0.01)


def test_integrated_gradients_are_complete_on_a_smooth_network() -> None:
    torch.manual_seed(0)
    # Behind a ReLU many maxima are equal, and any of them may count.
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Softplus(), nn.Conv2d(6, 4, 3), nn.Softplus(), nn.Flatten(),
        nn.Linear(4 * 64, 5),
    ).eval()  # fmt: skip
    images = torch.rand(2, 3, 12, 12)
    found = explain(network, images, Target(2), "integrated_gradients")
    assert found.nodes == 32 and found.note == ""
    with torch.no_grad():
        want = (network(images) - network(torch.zeros_like(images)))[:, 2]
    torch.testing.assert_close(found.values.sum((1, 2, 3)), want, rtol=1e-3, atol=0)
    assert found.gap is not None and found.gap < 1e-3


def test_integrated_gradients_of_a_square_are_exact() -> None:
    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x**2).sum((2, 3))

    images = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    found = explain(
        Square().eval(), images, Target(1), "integrated_gradients", SaliencyOptions(baseline=0.25)
    ).values
    torch.testing.assert_close(found[0, 1], images[0, 1] ** 2 - 0.25**2)
    assert found[0, 0].abs().max() == 0 and found.dtype == torch.float64


def test_nodes_are_doubled_until_the_map_is_complete() -> None:
    class Step(nn.Module):
        """Rises by 1 at one grey value, steeply: few nodes miss it."""

        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(600 * (x.mean((2, 3)) - 0.3))

    image = torch.full((1, 3, 2, 2), 0.9, dtype=torch.float64)
    options = SaliencyOptions(tolerance=0.01)
    found = explain(Step().eval(), image, Target(0), "integrated_gradients", options)
    assert found.nodes is not None and 32 < found.nodes <= 512
    assert found.gap is not None and found.gap < 0.01
    capped = explain(
        Step().eval(), image, Target(0), "integrated_gradients", SaliencyOptions(tolerance=1e-6)
    )
    assert capped.nodes == 512 and "not complete" in capped.note


def test_the_gap_is_a_share_of_the_difference() -> None:
    maps = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    assert completeness_gap(maps, torch.tensor([4.0, 0.0])) == 0.25
    assert completeness_gap(maps, torch.tensor([3.0, 0.0])) == 0
    assert completeness_gap(maps, torch.tensor([0.0, 0.0])) == float("inf")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_deeplift_is_complete_with_shared_relus_and_overlapping_pooling(
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    network = SharedRelu().eval().to(dtype)
    images, target = torch.rand(4, 3, 16, 16), Target(1, minus=3)
    before = _state(network)
    found = explain(network, images, target, "deeplift", SaliencyOptions(batch=3))
    with torch.no_grad():
        want = network(images.to(dtype)) - network(torch.zeros(4, 3, 16, 16).to(dtype))
    want = want[:, 1] - want[:, 3]
    torch.testing.assert_close(found.values.sum((1, 2, 3)), want, rtol=1e-3, atol=0)
    assert found.gap is not None and found.gap < 1e-3 and found.note == ""
    assert found.values.dtype == dtype and _state(network) == before


def test_deeplift_is_captums_where_windows_lie_apart_behind_a_convolution() -> None:
    from captum.attr import DeepLift

    torch.manual_seed(0)
    # Behind a ReLU many maxima are equal, and any of them may count.
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Softplus(), nn.Conv2d(6, 6, 1), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3),
        nn.Tanh(), nn.Conv2d(6, 6, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 3),
        nn.Sigmoid(),
    ).eval().double()  # fmt: skip
    # captum has no rule for adaptive pooling: over a whole map it is plain pooling.
    theirs = nn.Sequential(*network[:7], nn.MaxPool2d(6), *network[8:])
    image, baseline = torch.rand(2, 1, 3, 18, 18, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = DeepLift(theirs).attribute(image.clone().requires_grad_(), baseline, target=2)
    found = deeplift(network, Target(2), image, baseline)
    torch.testing.assert_close(found, want.detach(), rtol=1e-6, atol=1e-12)


def test_where_a_baseline_is_even_the_images_own_maximum_counts() -> None:
    network = nn.Sequential(nn.MaxPool2d(2), nn.Flatten()).eval()
    image = torch.tensor([[0.1, 0.2], [0.4, 0.3]]).expand(1, 3, 2, 2)
    found = deeplift(network, Target(1), image, torch.tensor(0.5))
    want = torch.zeros(1, 3, 2, 2)
    want[0, 1, 1, 0] = -0.1
    torch.testing.assert_close(found, want)


def test_deeplift_says_so_if_it_is_not_complete() -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * x).mean((2, 3))

    found = explain(Product().eval(), torch.full((1, 3, 4, 4), 0.5), Target(0), "deeplift")
    # The derivative 2 x counts in place of the slope x.
    assert found.gap == pytest.approx(1.0) and "not complete" in found.note


def test_deconvolution_and_guided_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 2, 1)).eval()
    with torch.no_grad():
        network[0].weight[:] = torch.tensor([[1.0, 2, 3], [-1, -2, -3]])[..., None, None]
        network[2].weight[:] = torch.tensor([[5.0, 7], [-5, 7]])[..., None, None]
    image, options = torch.full((1, 3, 1, 1), 0.5), SaliencyOptions()
    one = Target(layer="2", channel=0)
    two = Target(layer="2", channel=1)
    # The first ReLU is active, the second not; the signals are 5 and 7, or -5 and 7.
    for method, target, want in (
        ("guided", one, [5.0, 10, 15]),
        ("guided", two, [0.0, 0, 0]),
        ("deconvolution", one, [-2.0, -4, -6]),
        ("deconvolution", two, [-7.0, -14, -21]),
        ("gradient", two, [-5.0, -10, -15]),
    ):
        found = explain(network, image, target, method, options)
        assert found.values.flatten().tolist() == pytest.approx(want), (method, target)
        assert ("randomised" in found.note) == (method != "gradient")


def test_occlusion_averages_the_windows_that_cover_a_pixel() -> None:
    weight = torch.zeros(3, 6, 6)
    weight[:, 2, 3] = 1
    image = torch.ones(1, 3, 6, 6)
    options = SaliencyOptions(window=2, stride=1, fill=0.0)
    found = explain(Weighted(weight).eval(), image, Target(0), "occlusion", options).values[0]
    # The score falls by 3 for the windows with the pixel: all 4 that cover it, 1 in 4 or 2 in 4
    # of those that cover its neighbours.
    want = torch.zeros(6, 6)
    want[1:4, 2:5] = 3 * torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    torch.testing.assert_close(found, want)


def test_rise_finds_the_pixel_that_counts() -> None:
    weight = torch.zeros(3, 14, 14)
    weight[:, 4, 9] = 1
    network, image = Weighted(weight).eval(), torch.ones(1, 3, 14, 14)
    options = SaliencyOptions(masks=600, shown=0.4)
    found = explain(network, image, Target(0), "rise", options).values[0]
    assert divmod(int(found.argmax()), 14) == (4, 9)
    # The mean of m^2 / m less that of m, times the weight 3, from the same masks.
    generator = torch.Generator().manual_seed(0)
    drawn = [random_masks(min(16, 600 - k), (14, 14), 7, 0.4, generator) for k in range(0, 600, 16)]
    here = torch.cat(drawn)[:, 4, 9].double()
    want = 3 * ((here**2).sum() / here.sum() - here.mean())
    assert float(found[4, 9]) == pytest.approx(float(want), rel=1e-4)


def test_rise_of_a_constant_score_is_zero(tiny: nn.Module, images: Tensor) -> None:
    flat = Weighted(torch.zeros(3, 12, 12)).eval()
    options = SaliencyOptions(masks=40)
    assert explain(flat, images, Target(0), "rise", options).values.abs().max() == 0
    again = [explain(tiny, images[:1], Target(3), "rise", options).values for _ in range(2)]
    assert torch.equal(*again) and again[0].abs().max() > 0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 6), st.integers(0, 99))
def test_masks_have_the_size_and_range(height: int, width: int, cells: int, seed: int) -> None:
    cells = min(cells, height, width)
    generator = torch.Generator().manual_seed(seed)
    masks = random_masks(3, (height, width), cells, 0.5, generator)
    assert masks.shape == (3, height, width) and masks.min() >= 0 and masks.max() <= 1


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_the_network_and_keeps_images_apart(
    method: str, tiny: nn.Module, images: Tensor
) -> None:
    options = SaliencyOptions(masks=10, window=6, stride=3, samples=2, batch=2, tolerance=0.5)
    before = _state(tiny)
    found = explain(tiny, images, Target(2), method, options).values
    assert _state(tiny) == before
    assert found.shape in ((3, 3, 12, 12), (3, 12, 12)) and bool(found.isfinite().all())
    alone = explain(tiny, images[1:2], Target(2), method, options).values
    torch.testing.assert_close(found[1:2], alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_cancelled_job_stops_and_leaves_no_hooks(
    method: str, tiny: nn.Module, images: Tensor
) -> None:
    before, token, seen = _state(tiny), CancelToken(), []

    def on_progress(progress: Any) -> None:
        seen.append(progress.done)
        if len(seen) == 2:
            token.cancel()

    options = SaliencyOptions(batch=1, window=6, stride=6, masks=40)
    target = Target(layer="relu2", channel=0)
    with pytest.raises(Cancelled):
        explain(
            tiny, images, target, method, options, Context(token=token, on_progress=on_progress)
        )
    assert len(seen) == 2 and _state(tiny) == before


def test_signed_maps_lie_in_minus_one_to_one() -> None:
    grad = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    grad[1] = 0
    found = signed_map(grad)
    assert found.abs().amax((1, 2)).tolist() == pytest.approx([1, 0, 1, 1])
    torch.testing.assert_close(signed_map(-3 * grad), -found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": Target(10)}, "class 10 is not one of 0 to 9"),
        ({"target": Target(-1)}, "class -1"),
        ({"target": Target(0, minus=12)}, "class 12"),
        ({"target": Target(layer="conv9", channel=0)}, "no layer 'conv9'.*conv"),
        ({"target": Target(layer="", channel=0)}, "no layer ''"),
        ({"target": Target(layer="conv2", channel=12)}, "channel 12.*0 to 11"),
        ({"target": Target(layer="conv2", channel=0, position=(6, 0))}, "6 x 6 positions"),
        ({"target": Target(layer="fc", channel=0, position=(0, 0))}, "1 positions"),
        ({"method": "lrp"}, "choose one of gradient"),
        ({"images": torch.rand(3, 12, 12)}, "B x 3 x H x W"),
        ({"images": torch.rand(0, 3, 12, 12)}, "one image or more"),
        ({"images": torch.rand(1, 1, 12, 12)}, "got 1 x 1 x 12 x 12"),
        ({"images": torch.full((1, 3, 12, 12), float("nan"))}, "without NaN"),
        ({"images": torch.full((1, 3, 12, 12), 255.0)}, "divide them"),
        ({"images": torch.zeros(1, 3, 12, 12, dtype=torch.uint8)}, "uint8"),
        (
            {"method": "occlusion", "options": SaliencyOptions(window=32)},
            "window of 32 pixels does not fit",
        ),
        ({"method": "occlusion", "options": SaliencyOptions(window=4, stride=5)}, "stride"),
        ({"method": "rise", "options": SaliencyOptions(cells=13)}, "1 to 12 cells"),
        ({"network": nn.Conv2d(3, 2, 1)}, "call its eval"),
        ({"network": nn.Conv2d(3, 2, 1).eval()}, "B x K"),
        ({"network": Branching().eval(), "method": "deeplift"}, "not to be had"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str, tiny: nn.Module) -> None:
    given = {"network": tiny, "images": torch.rand(1, 3, 12, 12), "target": Target(0)} | change
    with pytest.raises(ValueError, match=message):
        explain(**given)


def test_a_target_is_a_class_or_a_neuron() -> None:
    for wrong in (
        {}, {"class_index": 1, "layer": "a"}, {"layer": "a"}, {"class_index": 0, "channel": 1},
        {"layer": "a", "channel": 0, "minus": 1}, {"class_index": 0, "position": (0, 0)},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"target|neuron|layer"):
            Target(**wrong)


def test_an_untraceable_network_still_has_a_gradient() -> None:
    network = Branching().eval()
    with pytest.raises(UntraceableError, match="use the gradient"):
        explain(network, torch.rand(1, 3, 4, 4), Target(0), "guided")
    found = explain(network, torch.rand(1, 3, 4, 4), Target(0)).values
    assert torch.equal(found[:, 0], torch.full((1, 4, 4), 1 / 16))


def test_all_methods_are_offered_and_no_others() -> None:
    assert set(offered.METHODS) == {*METHODS, *CAMS}
    assert tuple(CAMS) == offered.CAMS
