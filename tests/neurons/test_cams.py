"""Class activation maps against the kit and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kits import load_rule
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context
from napari_cvsuite.neurons.cams import CAMS, class_activation_map, enlarged
from napari_cvsuite.neurons.target import Target

rule = load_rule("robust_cnn")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Sums(nn.Module):
    """Maps that are the image's channels, in-place ReLU, and weights for their means."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        self.maps, self.relu = nn.Conv2d(3, 3, 1, bias=False), nn.ReLU(inplace=True)
        self.maps.weight.data = torch.eye(3)[..., None, None]
        self.register_buffer("weights", torch.tensor(weights))

    def forward(self, x: Tensor) -> Tensor:
        return (self.relu(self.maps(x)).mean((2, 3)) * self.weights).sum(1, keepdim=True)


def _kit(case: dict[str, Any]) -> dict[str, Any]:
    network, x = rule.torch_tiny(case["net"]), torch.from_numpy(case["x"])
    found = {
        name: class_activation_map(network, x, Target(case["target"]), case["layer"], name)
        for name in CAMS
    }
    up = enlarged(found["gradcam"], (12, 12))
    return {name: maps[0].numpy() for name, maps in found.items()} | {"gradcam_up": up[0].numpy()}


def test_the_kit() -> None:
    rule.check({"cams": _kit})


def test_by_hand_with_an_in_place_relu_behind_the_layer() -> None:
    image = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    network = Sums([2.0, -1.0, 0.5]).eval()
    for layer in ("maps", "relu"):
        found = {m: class_activation_map(network, image, Target(0), layer, m) for m in CAMS}
        gradient = torch.tensor([2.0, -1.0, 0.5]) / 20
        plain = (gradient.view(3, 1, 1) * image).sum(1)
        torch.testing.assert_close(found["gradcam"], plain.clamp_min(0))
        positive = (gradient.clamp_min(0).view(3, 1, 1) * image).sum(1)
        torch.testing.assert_close(found["layercam"], positive)
        # With g the same everywhere, 20 positions give 20 g^3 / (2 g^2 + g^3 S) each.
        total = image.sum((2, 3))
        weight = 20 * gradient.clamp_min(0) / (2 + gradient * total)
        torch.testing.assert_close(found["gradcampp"], (weight[..., None, None] * image).sum(1))


def test_a_neuron_can_be_the_target_and_images_stay_apart() -> None:
    network, images = rule.torch_tiny("tiny_r"), torch.rand(5, 3, 12, 12)
    target = Target(layer="relu2", channel=3, position=(2, 2))
    found = class_activation_map(network, images, target, "relu1", batch=2)
    assert found.shape == (5, 12, 12) and found.max() > 0
    torch.testing.assert_close(
        found[3:4], class_activation_map(network, images[3:4], target, "relu1")
    )
    same = class_activation_map(network, images, Target(layer="relu2", channel=3), "relu2")
    conv = torch.relu(network.conv2(network.pool(torch.relu(network.conv1(
        (images - network.mean) / network.std)))))  # fmt: skip
    torch.testing.assert_close(same, conv[:, 3].detach() / 36)


def test_enlarging_lies_between_the_centres_of_cells() -> None:
    found = enlarged(torch.tensor([[[0.0, 4.0]]]), (1, 8))
    # Centres of the two cells are 1.5 and 5.5; in between the value rises by one a pixel.
    assert found.flatten().tolist() == [0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4]


def test_mistakes_are_named_and_leave_no_hooks() -> None:
    network, images = rule.torch_tiny("tiny_s"), torch.rand(1, 3, 12, 12)
    for layer, target, method, message in (
        ("relu9", Target(0), "gradcam", "no layer 'relu9'.*relu"),
        ("fc", Target(0), "gradcam", "no positions"),
        ("relu2", Target(layer="conv1", channel=0), "gradcam", "does not depend on layer 'relu2'"),
        ("relu2", Target(10), "gradcam", "class 10"),
        ("relu2", Target(0), "scorecam", "choose one of gradcam, gradcampp, layercam"),
    ):
        with pytest.raises(ValueError, match=message):
            class_activation_map(network, images, target, layer, method)
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        class_activation_map(network, images, Target(0), "relu2", context=Context(token=token))
    assert not any(module._forward_hooks for module in network.modules())


def test_a_layer_that_does_not_run_or_gives_several_tensors_is_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused, self.pair = nn.ReLU(), Pair()

        def forward(self, x: Tensor) -> Tensor:
            return self.pair(x)[0]

    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.mean((2, 3)), x

    network, images = Odd().eval(), torch.rand(1, 3, 4, 4)
    with pytest.raises(ValueError, match="does not use its layer 'unused'"):
        class_activation_map(network, images, Target(0), "unused")
    with pytest.raises(ValueError, match="several tensors"):
        class_activation_map(network, images, Target(0), "pair")
