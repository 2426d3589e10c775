"""Ablation of channels: the kit, identities, and every way a layer can lie in a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kits import load_rule
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context, Progress
from napari_cvsuite.models.cnn import build
from napari_cvsuite.neurons.ablation import (
    MODES,
    ablate,
    ablate_each,
    channel_errors,
    channel_means,
)

rule = load_rule("robust_cnn")
NET = rule.torch_tiny("tiny_s")


def _images(count: int, side: int = 12) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(2))


class Around(nn.Module):
    """A network that leads around a layer, or counts its images in front of it."""

    def __init__(self, join: str) -> None:
        super().__init__()
        self.join = join
        self.first, self.middle = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 5, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.Linear(10 if join == "cat" else 5, 6)

    def forward(self, x: Tensor) -> Tensor:
        before = self.relu(self.first(x))
        after = self.middle(before)
        if self.join == "count":
            joined = after.reshape(len(x), -1, *after.shape[2:])[:, :5]
        else:
            joined = before + after if self.join == "add" else torch.cat([before, after], 1)
        out: Tensor = self.last(joined.relu_().mean((2, 3)))
        return out


def _around(join: str) -> Around:
    torch.manual_seed(3)
    return Around(join).eval()


def test_the_kit() -> None:
    def modes(case: dict[str, Any]) -> dict[str, Any]:
        network, layer = rule.torch_tiny(case["net"]), case["layer"]
        means = channel_means(network, layer, torch.from_numpy(case["reference"]), batch=3)
        images = torch.from_numpy(case["x"])
        return {
            mode: ablate_each(network, images, layer, mode, means)[:, 0].numpy() for mode in MODES
        }

    rule.check({"ablate": modes})


@settings(max_examples=30, deadline=None)
@given(chosen=st.sets(st.integers(0, 11)), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_sets_and_their_complements(chosen: set[int], dtype: torch.dtype) -> None:
    network, images = rule.torch_tiny("tiny_s").to(dtype), _images(2).to(dtype)
    with torch.no_grad():
        plain = network(images)
    everything = range(12)
    assert torch.equal(ablate(network, images, {"relu2": everything}, "keep"), plain)
    assert torch.equal(ablate(network, images, {"relu2": []}, "zero"), plain)
    others = [number for number in everything if number not in chosen]
    kept = ablate(network, images, {"relu2": sorted(chosen)}, "keep")
    assert torch.equal(kept, ablate(network, images, {"relu2": others}, "zero"))
    none = dict.fromkeys(["relu2"], torch.zeros(12))
    assert torch.equal(kept, ablate(network, images, {"relu2": others}, "mean", none))
    assert kept.dtype == dtype


def test_without_any_channel_only_the_bias_is_left() -> None:
    found = ablate(NET, _images(2), {"relu2": []}, "keep")
    torch.testing.assert_close(found, NET.fc.bias.detach().expand(2, -1))


def test_the_last_layer_is_linear_in_its_channels() -> None:
    """Zeroing a channel takes away its mean times its weights."""
    images = _images(3)
    with torch.no_grad():
        plain = NET(images)
    found = ablate_each(NET, images, "relu2")
    for channel in range(12):
        means = channel_means(NET, "relu2", images[:1])
        lost = float(means[channel]) * NET.fc.weight[:, channel].detach()
        torch.testing.assert_close(found[channel, 0], plain[0] - lost, rtol=1e-4, atol=1e-5)


def test_two_layers_at_once() -> None:
    images = _images(2)
    both = ablate(NET, images, {"relu1": [0, 3], "relu2": [1]})
    weights = {name: one.clone() for name, one in NET.state_dict().items()}
    network = rule.torch_tiny("tiny_s")
    with torch.no_grad():
        for layer, channels in (("conv1", [0, 3]), ("conv2", [1])):
            network.get_submodule(layer).weight[channels] = 0
            network.get_submodule(layer).bias[channels] = 0
        torch.testing.assert_close(both, network(images))
    assert all(torch.equal(weights[name], one) for name, one in NET.state_dict().items())


def _same_one_by_one(network: nn.Module, layer: str, images: Tensor, batch: int) -> None:
    means = channel_means(network, layer, images)
    for mode in MODES:
        found = ablate_each(network, images, layer, mode, means, batch)
        each = [
            ablate(network, images, {layer: [number]}, mode, {layer: means})
            for number in range(len(means))
        ]
        torch.testing.assert_close(found, torch.stack(each), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 5, 7, 64])
@pytest.mark.parametrize("layer", ["conv1", "relu2", "fc"])
def test_sweeps_equal_channels_one_by_one(layer: str, batch: int) -> None:
    _same_one_by_one(NET, layer, _images(3), batch)


@pytest.mark.parametrize("join", ["add", "cat", "count"])
@pytest.mark.parametrize("batch", [3, 20])
@pytest.mark.parametrize("count", [1, 3])
def test_a_way_around_the_layer(join: str, batch: int, count: int) -> None:
    network = _around(join)
    _same_one_by_one(network, "middle", _images(count), batch)
    _same_one_by_one(network, "first", _images(count), batch)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("alexnet-small", "features.0"),
        ("googlenet-small", None),
        ("resnet-small", "layer2"),
    ],
)
def test_the_package_s_networks(name: str, layer: str | None) -> None:
    torch.manual_seed(4)
    network = build(name, 10)
    branch = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d)][3]
    images = _images(2, 32)
    chosen = layer or branch
    found = ablate_each(network, images, chosen)
    for channel in (0, len(found) - 1):
        wanted = ablate(network, images, {chosen: [channel]})
        torch.testing.assert_close(found[channel], wanted, rtol=1e-3, atol=1e-5)


def test_what_comes_before_the_layer_runs_once() -> None:
    network = rule.torch_tiny("tiny_s")
    sizes: list[int] = []
    network.conv1.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    ablate_each(network, _images(6), "relu2", batch=24)
    # After the looks at one image and at two (as two, then as six copies): two images at a time.
    assert sizes[-3:] == [2, 2, 2] and sum(sizes) == 6 + 1 + 2 + 6


def test_errors_of_channels() -> None:
    images = _images(7)
    with torch.no_grad():
        logits = NET(images)
    labels = logits.argmax(1)
    labels[0] = (labels[0] + 1) % 10
    found = channel_errors(NET, images, labels, "relu2", batch=20)
    assert found.plain == pytest.approx(1 / 7)
    truth = torch.arange(7), labels
    for channel in range(12):
        changed = ablate(NET, images, {"relu2": [channel]})
        wrong = (changed.argmax(1) != labels).double().mean()
        assert float(found.error[channel]) == pytest.approx(float(wrong))
        change = (changed.softmax(1) - logits.softmax(1))[truth].mean()
        assert float(found.probability_change[channel]) == pytest.approx(float(change), abs=1e-6)


def test_means_of_a_known_layer() -> None:
    images = _images(5)
    network = nn.Sequential(nn.Identity(), nn.Flatten()).eval()
    np.testing.assert_allclose(
        channel_means(network, "0", images, batch=2), images.mean((0, 2, 3)), rtol=1e-6
    )
    means = channel_means(NET, "fc", images)
    np.testing.assert_allclose(means, NET(images).mean(0).detach(), rtol=1e-5)


@pytest.mark.parametrize("stop", [0, 3])
def test_progress_and_cancellation_leave_no_hooks(stop: int) -> None:
    token, seen = CancelToken(), []

    def watch(progress: Progress) -> None:
        seen.append(progress)
        if stop and len(seen) == stop:
            token.cancel()

    context = Context(token=token, on_progress=watch)
    network = rule.torch_tiny("tiny_s")
    labels = torch.zeros(5, dtype=torch.int64)

    def run() -> None:
        channel_errors(network, _images(5), labels, "relu2", batch=5, context=context)

    if stop:
        with pytest.raises(Cancelled):
            run()
    else:
        run()
        done = [progress.done for progress in seen]
        assert done == sorted(done) and done[-1] == seen[-1].total == 60
    assert all(not module._forward_hooks for module in network.modules())
    assert not network.training


class Twice(nn.Module):
    """Runs one layer twice, and one never."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.unused = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x)).mean((2, 3))


ONE = _images(1)
BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: ablate(NET, ONE, {"relu9": [0]}), "relu9"),
    (lambda: ablate(NET, ONE, {"relu2": [12]}), "channels 0 to 11"),
    (lambda: ablate(NET, ONE, {"relu2": [-1]}), "channels 0 to 11"),
    (lambda: ablate(NET, ONE, {"relu2": [0]}, "half"), "zero, keep, mean"),
    (lambda: ablate(NET, ONE, {"relu2": [0]}, "mean"), "means of its 12"),
    (lambda: ablate_each(NET, ONE, "relu2", "mean", torch.zeros(3)), "means of its 12"),
    (lambda: ablate_each(NET, ONE, "relu2", "mean", torch.zeros(12) / 0), "means of its 12"),
    (lambda: ablate_each(NET, ONE, "relu2", batch=0), "one image or more"),
    (lambda: ablate_each(NET, ONE[0], "relu2"), "B x 3"),
    (lambda: ablate_each(NET, ONE / 0, "relu2"), "NaN"),
    (lambda: ablate_each(Twice().eval(), ONE, "layer"), "2 times"),
    (lambda: ablate_each(Twice().eval(), ONE, "unused"), "not use"),
    (lambda: ablate_each(Twice(), ONE, "layer"), "training"),
    (lambda: channel_means(NET, "relu2", ONE[:0]), "one image or more"),
    (lambda: channel_means(NET, "relu2", ONE, batch=0), "one image or more"),
    (lambda: channel_errors(NET, ONE, torch.tensor([10]), "relu2"), "between 0 and 9"),
    (lambda: channel_errors(NET, ONE, torch.tensor([1, 2]), "relu2"), "one label"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_inputs(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
