"""Backbones that return their maps at every scale, with the key names of published files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torchvision.models import resnet18, resnet50
from torchvision.models.resnet import BasicBlock, ResNet

from napari_cvsuite.models.swin import SwinBase

__all__ = ["BACKBONES", "Backbone", "CompactResNet", "ResNetMaps", "make_backbone"]


class CompactResNet(nn.Module):
    """A narrow ResNet for weights that ship with the package.

    The layout is that of ResNet-18 with one block a stage, and the stem is a 3 x 3 convolution.

    Parameters
    ----------
    channels : tuple of int
        Of the stem and of the four stages.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels[0], 3, stride=2, padding=1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(channels[0]), nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(channels[0], channels[1], 1)
        self.layer2 = _stage(channels[1], channels[2], 2)
        self.layer3 = _stage(channels[2], channels[3], 2)
        self.layer4 = _stage(channels[3], channels[4], 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _stage(before: int, after: int, stride: int) -> nn.Sequential:
    """Return a residual block that changes size and channels."""
    matched = nn.Sequential(
        nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after)
    )
    return nn.Sequential(BasicBlock(before, after, stride, matched))


class ResNetMaps(nn.Module):
    """A torchvision ResNet without its head.

    Parameters
    ----------
    network : ResNet
        Its parts are taken over.
    """

    def __init__(self, network: ResNet | CompactResNet) -> None:
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


COMPACT = (24, 32, 48, 64, 96)

BACKBONES = {
    "resnet50": Backbone(lambda: ResNetMaps(resnet50()), (64, 256, 512, 1024, 2048)),
    "resnet18": Backbone(lambda: ResNetMaps(resnet18()), (64, 64, 128, 256, 512)),
    "resnet10_compact": Backbone(lambda: ResNetMaps(CompactResNet(COMPACT)), COMPACT),
    "swin_base_patch4_window12_384": Backbone(SwinBase, (256, 512, 1024, 1024), 384),
}
"""Backbones by the name that published files give them."""


def make_backbone(name: str) -> nn.Module:
    """Return a new backbone with random weights."""
    return BACKBONES[name].make()
