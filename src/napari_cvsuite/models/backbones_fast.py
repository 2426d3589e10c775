"""Backbones in their prediction form: batch normalisation folded, maps given one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_cvsuite.jobs.context import current_context
from napari_cvsuite.models.resnet import Bottleneck, ResNetMaps
from napari_cvsuite.models.swin import Stage, SwinBase

__all__ = [
    "FastResNet",
    "FastSwin",
    "Product",
    "at_once",
    "channels_last",
    "check",
    "product",
    "rows_of",
]

PIECE = 1 << 19
"""Values computed at a time on a CPU: 2 MB stay in the cache, and its memory is used again."""


def check() -> None:
    """Raise ``Cancelled`` if the running job was cancelled."""
    current_context().check()


def channels_last(rows: Tensor) -> Tensor:
    return rows.permute(0, 3, 1, 2)


def rows_of(x: Tensor) -> Tensor:
    """Return ``B x H x W x C``, one after the other in memory, of ``B x C x H x W``."""
    return x.permute(0, 2, 3, 1).contiguous()


def at_once(limit: int, each: int, like: Tensor) -> int:
    """Return how many items of `each` values to compute at a time: on a graphics card, all."""
    return max(1, limit // each) if like.device.type == "cpu" else 1 << 62


class Product(nn.Module):
    """A 1x1 convolution as a product over pixels.

    Parameters
    ----------
    weight : Tensor, shape (out, in)
    bias : Tensor, shape (out,)
    stride : int
    """

    def __init__(self, weight: Tensor, bias: Tensor, stride: int = 1) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        self.stride = stride

    def forward(self, rows: Tensor) -> Tensor:
        """Map ``... x in`` to ``... x out``."""
        return F.linear(rows, self.weight, self.bias)

    def stepped(self, rows: Tensor) -> Tensor:
        """Return the pixels ``B x H x W x in`` that the convolution steps on."""
        return rows if self.stride == 1 else rows[:, :: self.stride, :: self.stride].contiguous()


def product(conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None) -> Product:
    """Return a 1x1 convolution, with the normalisation after it, as a product."""
    fused = conv if norm is None else fuse_conv_bn_eval(conv, norm)
    assert fused.bias is not None
    return Product(fused.weight.detach().flatten(1), fused.bias.detach(), int(fused.stride[0]))


class Convolution(nn.Module):
    """A convolution with folded batch normalisation, on pixel rows."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv = fuse_conv_bn_eval(conv, norm)

    def forward(self, rows: Tensor) -> Tensor:
        """Map ``B x H x W x in`` to ``B x H' x W' x out``."""
        return rows_of(self.conv(channels_last(rows)))


class _Basic(nn.Module):
    """Residual block of two 3x3 convolutions, on pixel rows."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        self.first, self.second = (
            Convolution(plain.conv1, plain.bn1),
            Convolution(plain.conv2, plain.bn2),
        )
        self.match = None if plain.downsample is None else product(*plain.downsample)

    def forward(self, x: Tensor, owned: bool) -> Tensor:
        """Map ``B x H x W x C``; `owned` tells whether `x` may be written to."""
        y: Tensor = self.second(self.first(x).relu_())
        check()
        y += x if self.match is None else self.match(self.match.stepped(x))
        return y.relu_()


class _Bottleneck(nn.Module):
    """Residual block of a 3x3 convolution between two products, on pixel rows."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        self.narrow = product(plain.conv1, plain.bn1)
        self.widen = product(plain.conv3, plain.bn3)
        self.conv = Convolution(plain.conv2, plain.bn2)
        self.match = None if plain.downsample is None else product(*plain.downsample)

    def forward(self, x: Tensor, owned: bool) -> Tensor:
        """Map ``B x H x W x C``; `owned` tells whether `x` may be written to."""
        hidden = self.narrow(x).relu_()
        check()
        hidden = self.conv(hidden).relu_()
        check()
        shape = (*hidden.shape[:3], len(self.widen.bias))
        hidden = hidden.flatten(0, 2)
        kept = (x if self.match is None else self.match.stepped(x)).flatten(0, 2)
        y = kept if owned and self.match is None else None
        step = at_once(PIECE, shape[3], x)
        for start in range(0, len(hidden), step):
            piece = slice(start, start + step)
            made = self.widen(hidden[piece])
            made += kept[piece] if self.match is None else self.match(kept[piece])
            if y is None:
                y = made.new_empty(len(hidden), shape[3])
            y[piece] = made.relu_()
        assert y is not None
        return y.view(shape)


class FastResNet(nn.Module):
    """A ResNet with folded normalisation that gives its maps one by one, as pixel rows."""

    def __init__(self, plain: ResNetMaps) -> None:
        super().__init__()
        self.front = plain.front
        self.stem = Convolution(plain.conv1, plain.bn1)
        self.pool = plain.maxpool
        self.stages = nn.ModuleList(
            nn.ModuleList(
                _Bottleneck(block) if isinstance(block, Bottleneck) else _Basic(block)
                for block in stage
            )
            for stage in (plain.layer1, plain.layer2, plain.layer3, plain.layer4)
        )

    def deepest(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of the last map; five halvings round up."""
        return -(-height // 32), -(-width // 32)

    def maps(self, x: Tensor) -> Iterator[Tensor]:
        """Yield maps ``B x H x W x C`` of images ``B x 3 x H x W``; nothing writes to them."""
        check()
        if self.front is not None:
            x = self.front(x)
        rows = self.stem(rows_of(x)).relu_()
        del x
        yield rows
        check()
        rows = rows_of(self.pool(channels_last(rows)))
        for stage in self.stages:
            assert isinstance(stage, nn.ModuleList)
            for number, block in enumerate(stage):
                check()
                rows = block(rows, number > 0)
            yield rows


class FastSwin(nn.Module):
    """Swin-B that gives its maps one by one, as pixel rows."""

    def __init__(self, plain: SwinBase) -> None:
        super().__init__()
        self.patch_embed, self.layers = plain.patch_embed, plain.layers

    def deepest(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of the last map."""
        return height // 32, width // 32

    def maps(self, x: Tensor) -> Iterator[Tensor]:
        """Yield maps ``B x H x W x C`` of images ``B x 3 x H x W``; nothing writes to them."""
        rows = self.patch_embed(x)
        for stage in self.layers:
            assert isinstance(stage, Stage)
            for block in stage.blocks:
                check()
                rows = block(rows)
            rows = rows if stage.downsample is None else stage.downsample(rows)
            yield rows
