"""Activations against direct calls, placement against arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kits import load_rule
from torch import nn
from torch.nn import functional as F

from napari_cvsuite.models import cnn
from napari_cvsuite.neurons.activations import (
    activations,
    conv_layers,
    recording,
)

rule = load_rule("robust_cnn")


def _hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


def test_an_in_place_relu_does_not_change_what_was_recorded() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1)).eval()
    images = torch.rand(2, 3, 8, 8)
    found = activations(network, images, ["0", "1"])
    want = F.conv2d(images, network[0].weight, network[0].bias)
    np.testing.assert_allclose(found["0"], want.detach(), rtol=1e-5, atol=1e-6)
    assert (found["0"] < 0).any() and torch.equal(found["1"], found["0"].relu())
    assert not found["0"].requires_grad and _hooks(network) == 0


def test_images_take_the_networks_type() -> None:
    network = rule.torch_tiny("tiny_s").double()
    found = activations(network, torch.rand(1, 3, 12, 12), ["relu2"])
    assert found["relu2"].dtype == torch.float64 and found["relu2"].shape == (1, 12, 6, 6)


def test_the_last_run_of_a_reused_module_counts() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twofold = nn.Conv2d(3, 3, 1, bias=False)
            self.twofold.weight.data = 2 * torch.eye(3)[..., None, None]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.twofold(self.twofold(x)).mean((2, 3))

    images = torch.rand(1, 3, 4, 4)
    np.testing.assert_allclose(
        activations(Twice(), images, ["twofold"])["twofold"], 4 * images, rtol=1e-5, atol=1e-6
    )


def test_unusable_layers_and_images_are_named() -> None:
    network = rule.torch_tiny("tiny_s")
    network.unused = nn.Conv2d(3, 3, 1)
    images = torch.rand(1, 3, 12, 12)
    with pytest.raises(ValueError, match=r"no layer 'conv3'; did you mean .*conv2"):
        activations(network, images, ["conv3"])
    with pytest.raises(ValueError, match=r"no layer ''"):
        activations(network, images, [""])
    with pytest.raises(ValueError, match=r"'fc' gives \(1, 10\), not maps .* such as conv2"):
        activations(network, images, ["fc"])
    with pytest.raises(ValueError, match="'unused' does not run"):
        activations(network, images, ["unused"])
    with pytest.raises(ValueError, match="B x 3 x H x W"):
        activations(network, images[0], ["conv1"])
    with pytest.raises(ValueError, match="NaN"):
        activations(network, images * torch.nan, ["conv1"])
    assert _hooks(network) == 0


def test_hooks_go_when_the_pass_fails() -> None:
    network = rule.torch_tiny("tiny_s")
    with pytest.raises(RuntimeError), recording(network, ["conv1", "relu2"]):
        assert _hooks(network) == 2
        network(torch.rand(1, 4, 12, 12))
    assert _hooks(network) == 0


class Functional(nn.Module):
    """Calls a function for its ReLU, and takes images of one size only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.fc = nn.Linear(2 * 30 * 30, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.relu(self.conv(x)).flatten(1))


def test_layers_worth_showing() -> None:
    assert conv_layers(rule.torch_tiny("tiny_s")) == ["relu1", "relu2"]
    # The classifier's ReLUs give no maps.
    alexnet = cnn.build("alexnet-small", 5)
    assert conv_layers(alexnet) == cnn.default_layers(alexnet)
    # The ReLU of a residual block runs several times; its last output is the block's.
    names = conv_layers(cnn.build("resnet18", 5))
    assert names == ["relu", *(f"layer{i}.{j}" for i in range(1, 5) for j in range(2))]
    network = Functional()
    assert conv_layers(network, torch.rand(1, 3, 32, 32)) == ["conv"]
    with pytest.raises(ValueError, match="does not run on an image of 64 x 64 pixels; give one"):
        conv_layers(network)
    assert _hooks(network) == 0
