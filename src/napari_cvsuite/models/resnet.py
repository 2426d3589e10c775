"""Residual networks (He et al., arXiv 1512.03385) that give their maps of every scale, or classify.

Keys and computation are those of torchvision, whose own module is not imported: it loads torch's
compiler, whose LLVM crashes beside the one of Mesa's software OpenGL.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "LocalStatistics",
    "ResNet",
    "ResNetMaps",
    "classifier",
    "compact",
    "resnet18",
    "resnet50",
    "small_classifier",
]


def _conv3x3(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside an identity.

    Parameters
    ----------
    before, width : int
        Channels in; channels out.
    stride : int
    downsample : nn.Module, optional
        In place of the identity, where size or channels change.
    """

    expansion = 1

    def __init__(
        self, before: int, width: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv3x3(before, width, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv3x3(width, width), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x C x H x W`` to the block's channels and size."""
        beside = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.relu(self.bn2(self.conv2(y)) + beside)
        return out


class Bottleneck(nn.Module):
    """A 3 x 3 convolution between two products, beside an identity; the stride is on the 3 x 3.

    Parameters
    ----------
    before, width : int
        Channels in; inner channels, a quarter of those out.
    stride : int
    downsample : nn.Module, optional
        In place of the identity, where size or channels change.
    """

    expansion = 4

    def __init__(
        self, before: int, width: int, stride: int = 1, downsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        after = self.expansion * width
        self.conv1, self.bn1 = nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv3x3(width, width, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x C x H x W`` to the block's channels and size."""
        beside = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        out: Tensor = self.relu(self.bn3(self.conv3(y)) + beside)
        return out


def _box(x: Tensor, side: int) -> Tensor:
    """Mean over squares, the border repeated outwards."""
    # Sums of shifted images, a tenth of the time that torch's pooling takes on a CPU.
    total = F.pad(x, (side // 2,) * 4, mode="replicate")
    for axis in (2, 3):
        length = x.shape[axis]
        added = total.narrow(axis, 0, length).clone()
        for start in range(1, side):
            added += total.narrow(axis, start, length)
        total = added
    return total / side**2


class LocalStatistics(nn.Module):
    """Show a network what natural-scene statistics show: nine channels instead of three.

    Besides the colours these are their detail (what a 3 x 3 mean leaves), the brightness
    normalised by its local mean and deviation (MSCN, Mittal et al. 2012), and the logarithms of
    the local variance of brightness and of the energy of the detail. Noise, blur and blocks show
    in them at once, where a network trained on few images would need long to find them. It has no
    weights.
    """

    channels = 9

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``B x 3 x H x W`` to ``B x 9 x H x W``."""
        # Few channels are slow where they are last.
        x = x.contiguous()
        # From ImageNet's normalisation back to about [0, 1].
        image = 0.225 * x + 0.45
        gray = image.mean(dim=1, keepdim=True)
        detail = image - _box(image, 3)
        mean = _box(gray, 7)
        variance = (_box(gray * gray, 7) - mean * mean).clamp_min(0)
        energy = _box(detail * detail, 3).mean(dim=1, keepdim=True)
        # The constants bring each channel to about unit range; below them there is only rounding.
        return torch.cat(
            [
                x,
                8 * detail,
                (gray - mean) / (variance + 1e-4).sqrt(),
                ((variance + 1e-5).log() + 6) / 2.5,
                ((energy + 1e-6).log() + 8) / 2.5,
            ],
            dim=1,
        )


class ResNetMaps(nn.Module):
    """A residual network without its head.

    Parameters
    ----------
    block : type of BasicBlock or Bottleneck
    stem : nn.Conv2d
        The first convolution, of stride 2.
    widths, counts : tuple of int
        Inner channels and number of blocks of the four stages.
    front : nn.Module, optional
        What the images go through first.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        stem: nn.Conv2d,
        widths: tuple[int, ...],
        counts: tuple[int, ...],
        front: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.front = front
        before = stem.out_channels
        self.conv1, self.bn1 = stem, nn.BatchNorm2d(before)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = nn.MaxPool2d(3, stride=2, padding=1)
        stages = []
        for number, (width, count) in enumerate(zip(widths, counts, strict=True)):
            stride, after = 1 if number == 0 else 2, width * block.expansion
            matched = None
            if stride != 1 or before != after:
                matched = nn.Sequential(
                    nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after)
                )
            first = block(before, width, stride, matched)
            stages.append(nn.Sequential(first, *(block(after, width) for _ in range(count - 1))))
            before = after
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        for module in self.modules():
            # Normal numbers for tensors without storage would load torch's compiler.
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map ``B x 3 x H x W`` to five maps at strides 2, 4, 8, 16 and 32."""
        shown = x if self.front is None else self.front(x)
        stem = self.relu(self.bn1(self.conv1(shown)))
        maps = [stem]
        x = self.maxpool(stem)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps


class ResNet(ResNetMaps):
    """A residual network that classifies.

    Parameters
    ----------
    block, stem, widths, counts
        See :class:`ResNetMaps`.
    num_classes : int
    pool : bool
        Halve the maps of the stem, as for large images.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        stem: nn.Conv2d,
        widths: tuple[int, ...],
        counts: tuple[int, ...],
        num_classes: int,
        pool: bool = True,
    ) -> None:
        super().__init__(block, stem, widths, counts)
        if not pool:
            self.maxpool = nn.Identity()
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(widths[-1] * block.expansion, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Map normalised images ``B x 3 x H x W`` to logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        out: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return out


def classifier(
    block: type[BasicBlock] | type[Bottleneck], counts: tuple[int, ...], num_classes: int
) -> ResNet:
    """Return a published ResNet, such as ``(Bottleneck, (3, 4, 6, 3))`` for ResNet-50."""
    return ResNet(block, _stem(), (64, 128, 256, 512), counts, num_classes)


def small_classifier(num_classes: int) -> ResNet:
    """Return a narrow ResNet of one block a stage for images of 32 to 128 pixels."""
    stem = nn.Conv2d(3, 32, 3, padding=1, bias=False)
    return ResNet(BasicBlock, stem, (32, 64, 128, 256), (1, 1, 1, 1), num_classes, pool=False)


def _stem() -> nn.Conv2d:
    return nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)


def resnet18() -> ResNetMaps:
    """Return ResNet-18, maps of 64, 64, 128, 256 and 512 channels."""
    return ResNetMaps(BasicBlock, _stem(), (64, 128, 256, 512), (2, 2, 2, 2))


def resnet50() -> ResNetMaps:
    """Return ResNet-50, maps of 64, 256, 512, 1024 and 2048 channels."""
    return ResNetMaps(Bottleneck, _stem(), (64, 128, 256, 512), (3, 4, 6, 3))


def compact(channels: tuple[int, ...]) -> ResNetMaps:
    """Return a narrow ResNet with one block a stage, a 3 x 3 stem, and local statistics before it.

    Parameters
    ----------
    channels : tuple of int
        Of the stem and of the four stages.
    """
    front = LocalStatistics()
    stem = nn.Conv2d(front.channels, channels[0], 3, stride=2, padding=1, bias=False)
    return ResNetMaps(BasicBlock, stem, channels[1:], (1, 1, 1, 1), front)
