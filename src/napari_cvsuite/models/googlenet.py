"""GoogLeNet with batch normalisation (Szegedy et al., arXiv 1409.4842), in torchvision's layout.

torchvision's own module is not imported: it loads torch's compiler, whose LLVM crashes beside the
one of Mesa's software OpenGL.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["BLOCKS", "SMALL_BLOCKS", "BasicConv2d", "GoogLeNet", "Inception", "SmallGoogLeNet"]


class Widths(NamedTuple):
    """Channels of an inception block: in, and of its four branches."""

    before: int
    one: int
    reduce_two: int
    two: int
    reduce_three: int
    three: int
    pooled: int

    @property
    def after(self) -> int:
        """Channels out."""
        return self.one + self.two + self.three + self.pooled


BLOCKS = {
    "inception3a": Widths(192, 64, 96, 128, 16, 32, 32),
    "inception3b": Widths(256, 128, 128, 192, 32, 96, 64),
    "inception4a": Widths(480, 192, 96, 208, 16, 48, 64),
    "inception4b": Widths(512, 160, 112, 224, 24, 64, 64),
    "inception4c": Widths(512, 128, 128, 256, 24, 64, 64),
    "inception4d": Widths(512, 112, 144, 288, 32, 64, 64),
    "inception4e": Widths(528, 256, 160, 320, 32, 128, 128),
    "inception5a": Widths(832, 256, 160, 320, 32, 128, 128),
    "inception5b": Widths(832, 384, 192, 384, 48, 128, 128),
}
SMALL_BLOCKS = {
    "inception3a": Widths(48, 24, 24, 40, 8, 16, 16),
    "inception3b": Widths(96, 40, 32, 56, 12, 24, 24),
    "inception4a": Widths(144, 56, 48, 80, 16, 32, 32),
    "inception4b": Widths(200, 64, 56, 96, 16, 40, 40),
    "inception5a": Widths(240, 80, 64, 112, 20, 48, 48),
}


class BasicConv2d(nn.Module):
    """Convolution, batch normalisation, ReLU.

    Parameters
    ----------
    before, after, kernel_size, stride, padding : int
    """

    def __init__(
        self, before: int, after: int, kernel_size: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=0.001)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x C x H x W``."""
        out: Tensor = self.relu(self.bn(self.conv(x)))
        return out


class Inception(nn.Module):
    """Four branches side by side; the third has a 3 x 3 kernel, as in torchvision.

    Parameters
    ----------
    widths : Widths
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        before = widths.before
        self.branch1 = BasicConv2d(before, widths.one, 1)
        self.branch2 = nn.Sequential(
            BasicConv2d(before, widths.reduce_two, 1),
            BasicConv2d(widths.reduce_two, widths.two, 3, padding=1),
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(before, widths.reduce_three, 1),
            BasicConv2d(widths.reduce_three, widths.three, 3, padding=1),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True),
            BasicConv2d(before, widths.pooled, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x C x H x W`` to the channels of all branches."""
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return torch.cat([branch(x) for branch in branches], dim=1)


class GoogLeNet(nn.Module):
    """The network of 22 layers, without the auxiliary heads.

    Parameters
    ----------
    num_classes : int
    transform_input : bool
        Undo the normalisation by ImageNet's statistics and bring each channel to [-1, 1], as the
        weights of torchvision need it.
    """

    inception3a: Inception
    inception3b: Inception
    inception4a: Inception
    inception4b: Inception
    inception4c: Inception
    inception4d: Inception
    inception4e: Inception
    inception5a: Inception
    inception5b: Inception

    def __init__(self, num_classes: int, transform_input: bool = True) -> None:
        super().__init__()
        self.transform_input = transform_input
        self.conv1 = BasicConv2d(3, 64, 7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = BasicConv2d(64, 64, 1)
        self.conv3 = BasicConv2d(64, 192, 3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        for name, widths in BLOCKS.items():
            self.add_module(name, Inception(widths))
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(BLOCKS["inception5b"].after, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``B x 3 x H x W`` to logits."""
        if self.transform_input:
            scale = x.new_tensor([0.229, 0.224, 0.225]).view(3, 1, 1) / 0.5
            shift = (x.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1) - 0.5) / 0.5
            x = x * scale + shift
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        x = self.inception4c(self.inception4b(self.inception4a(x)))
        x = self.maxpool4(self.inception4e(self.inception4d(x)))
        x = self.avgpool(self.inception5b(self.inception5a(x)))
        out: Tensor = self.fc(self.dropout(torch.flatten(x, 1)))
        return out


class SmallGoogLeNet(nn.Module):
    """A GoogLeNet of five inception blocks for images of 32 to 128 pixels.

    Parameters
    ----------
    num_classes : int
    """

    inception3a: Inception
    inception3b: Inception
    inception4a: Inception
    inception4b: Inception
    inception5a: Inception

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        blocks = SMALL_BLOCKS
        self.conv1 = BasicConv2d(3, 24, 3, padding=1)
        self.conv2 = BasicConv2d(24, blocks["inception3a"].before, 3, stride=2, padding=1)
        for name, widths in blocks.items():
            self.add_module(name, Inception(widths))
        self.maxpool3 = nn.MaxPool2d(3, stride=2, padding=1)
        self.maxpool4 = nn.MaxPool2d(3, stride=2, padding=1)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(0.1)
        self.fc = nn.Linear(blocks["inception5a"].after, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``B x 3 x H x W`` to logits."""
        x = self.conv2(self.conv1(x))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        x = self.maxpool4(self.inception4b(self.inception4a(x)))
        x = self.avgpool(self.inception5a(x))
        out: Tensor = self.fc(self.dropout(torch.flatten(x, 1)))
        return out
