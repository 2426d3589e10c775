"""Backbones that return their maps at every scale, with the key names of published files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torchvision.models import resnet18, resnet50
from torchvision.models.resnet import ResNet

from napari_cvsuite.models.swin import SwinBase

__all__ = ["BACKBONES", "Backbone", "ResNetMaps", "make_backbone"]


class ResNetMaps(nn.Module):
    """A torchvision ResNet without its head.

    Parameters
    ----------
    network : ResNet
        Its parts are taken over.
    """

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = network.conv1, network.bn1, network.relu
        self.maxpool = network.maxpool
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map ``B x 3 x H x W`` to five maps at strides 2, 4, 8, 16 and 32."""
        stem = self.relu(self.bn1(self.conv1(x)))
        maps = [stem]
        x = self.maxpool(stem)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps


@dataclass(frozen=True)
class Backbone:
    """How to make a backbone, and what it returns.

    Parameters
    ----------
    make : callable
    channels : tuple of int
        Of its maps, from shallow to deep.
    side : int
        The only side of images it takes; 0 takes any.
    """

    make: Callable[[], nn.Module]
    channels: tuple[int, ...]
    side: int = 0


BACKBONES = {
    "resnet50": Backbone(lambda: ResNetMaps(resnet50()), (64, 256, 512, 1024, 2048)),
    "resnet18": Backbone(lambda: ResNetMaps(resnet18()), (64, 64, 128, 256, 512)),
    "swin_base_patch4_window12_384": Backbone(SwinBase, (256, 512, 1024, 1024), 384),
}
"""Backbones by the name that published files give them."""


def make_backbone(name: str) -> nn.Module:
    """Return a new backbone with random weights."""
    return BACKBONES[name].make()
