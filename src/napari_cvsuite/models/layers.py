"""Building blocks shared by the network families of this package."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SPPF", "Bottleneck", "C2f", "Conv", "ConvTranspose", "LayerNorm2d"]


class Conv(nn.Module):
    """Convolution without bias, batch normalisation, SiLU.

    Parameters
    ----------
    in_channels, out_channels : int
        Number of input and output channels.
    kernel_size, stride : int
        Side of the square kernel and the step; padding is ``kernel_size // 2``.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x in x H x W`` to ``B x out x ceil(H/stride) x ceil(W/stride)``."""
        return F.silu(self.bn(self.conv(x)))


class ConvTranspose(nn.Module):
    """Transposed convolution (kernel = stride, no bias), batch normalisation, SiLU.

    Parameters
    ----------
    in_channels, out_channels : int
        Number of input and output channels.
    stride : int
        Enlargement factor; the kernel has the same side, so outputs do not overlap.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv_transpose = nn.ConvTranspose2d(
            in_channels, out_channels, stride, stride, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x in x H x W`` to ``B x out x stride*H x stride*W``."""
        return F.silu(self.bn(self.conv_transpose(x)))


class Bottleneck(nn.Module):
    """Two 3x3 convolutions with an optional identity shortcut."""

    def __init__(self, channels: int, shortcut: bool = True) -> None:
        super().__init__()
        self.cv1 = Conv(channels, channels, 3)
        self.cv2 = Conv(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x C x H x W`` to the same shape."""
        y: Tensor = self.cv2(self.cv1(x))
        return x + y if self.shortcut else y


class C2f(nn.Module):
    """Cross-stage partial block that keeps the output of every bottleneck.

    Parameters
    ----------
    in_channels, out_channels : int
        Number of input and output channels.
    repeats : int
        Number of bottlenecks in sequence.
    shortcut : bool
        Whether the bottlenecks add their input.
    """

    def __init__(
        self, in_channels: int, out_channels: int, repeats: int = 1, shortcut: bool = True
    ) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.cv1 = Conv(in_channels, 2 * hidden)
        self.cv2 = Conv((2 + repeats) * hidden, out_channels)
        self.m = nn.ModuleList(Bottleneck(hidden, shortcut) for _ in range(repeats))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x in x H x W`` to ``B x out x H x W``."""
        parts = list(self.cv1(x).chunk(2, dim=1))
        for block in self.m:
            parts.append(block(parts[-1]))
        y: Tensor = self.cv2(torch.cat(parts, dim=1))
        return y


class SPPF(nn.Module):
    """Spatial pyramid pooling by repeated max-pooling (5, 9 and 13 pixels)."""

    def __init__(self, channels: int, pool: int = 5) -> None:
        super().__init__()
        self.cv1 = Conv(channels, channels // 2)
        self.cv2 = Conv(2 * channels, channels)
        self.pool = nn.MaxPool2d(pool, stride=1, padding=pool // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x C x H x W`` to the same shape."""
        parts = [self.cv1(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        y: Tensor = self.cv2(torch.cat(parts, dim=1))
        return y


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of every pixel (biased variance)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x C x H x W`` to the same shape."""
        pixels = x.movedim(1, -1)
        y = F.layer_norm(pixels, (x.shape[1],), self.weight, self.bias, self.eps)
        return y.movedim(-1, 1)
