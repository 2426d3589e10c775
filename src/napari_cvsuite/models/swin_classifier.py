"""Swin transformers that classify, of version 1 (arXiv 2103.14030) and 2 (arXiv 2111.09883).

Keys and computation are those of torchvision, whose own module is not imported: it loads torch's
compiler, whose LLVM crashes beside the one of Mesa's software OpenGL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.models.windows import cut, joined, relative_index, shift_mask

__all__ = ["PatchMerging", "SwinConfig", "SwinTransformer"]

_HIDDEN = 512
"""Width of the network that gives version 2 its biases."""


@dataclass(frozen=True)
class SwinConfig:
    """What makes one Swin another than the next.

    Parameters
    ----------
    version : {1, 2}
    patch : int
        Side of the patches in pixels.
    width : int
        Channels of the first stage; each stage has twice those before.
    depths, heads : tuple of int
        Of each stage.
    window : int
        Side of the windows in patches.
    inner : int
        Width of the perceptrons of the first stage.
    classes : int
    """

    version: int
    patch: int
    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    inner: int
    classes: int


class SwinTransformer(nn.Module):
    """A Swin: patches, then stages of blocks with a merging of patches between, norm and head.

    Parameters
    ----------
    config : SwinConfig
    """

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        width, patch = config.width, config.patch
        block = SwinTransformerBlock if config.version == 1 else SwinTransformerBlockV2
        merging = PatchMerging if config.version == 1 else PatchMergingV2
        stem = nn.Sequential(nn.Conv2d(3, width, patch, patch), _ToLast(), nn.LayerNorm(width))
        layers: list[nn.Module] = [stem]
        for stage, (depth, heads) in enumerate(zip(config.depths, config.heads, strict=True)):
            if stage:
                layers.append(merging(width))
                width *= 2
            inner = config.inner * 2**stage
            shifts = [config.window // 2 * (number % 2) for number in range(depth)]
            blocks = (block(width, heads, config.window, shift, inner) for shift in shifts)
            layers.append(nn.Sequential(*blocks))
        self.features = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``B x 3 x H x W`` to logits ``B x K``."""
        logits: Tensor = self.head(self.norm(self.features(x)).mean(dim=(1, 2)))
        return logits


class _ToLast(nn.Module):
    """Moves the channels of ``B x C x H x W`` to the end."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class _Attention(nn.Module):
    """Attention within windows, every other time on windows shifted by half their side."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.register_buffer("relative_position_index", relative_index(window).flatten())
        self._make_biases()

    def _make_biases(self) -> None:
        table = torch.zeros((2 * self.window - 1) ** 2, self.heads)
        self.relative_position_bias_table = nn.Parameter(table)

    def biases(self) -> Tensor:
        """Return what two places of a window add to their weight, ``heads x w^2 x w^2``."""
        return self._placed(self.relative_position_bias_table)

    def _placed(self, table: Tensor) -> Tensor:
        side = self.window**2
        return table[self.relative_position_index].view(side, side, -1).permute(2, 0, 1)

    def mixed(self, x: Tensor, bias: Tensor) -> Tensor:
        """Return the values that each head mixes in windows ``N x w^2 x C``."""
        q, k, v = self._split(self.qkv(x))
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)

    def _split(self, qkv: Tensor) -> Tensor:
        n, places, _ = qkv.shape
        return qkv.view(n, places, 3, self.heads, -1).permute(2, 0, 3, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x H x W x C`` to the same shape; sides are padded to whole windows."""
        batch, height, width, _ = x.shape
        window = self.window
        x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        sides = x.shape[1], x.shape[2]
        # What is a single window along an axis has nothing to shift there.
        shifts = tuple(0 if side <= window else self.shift for side in sides)
        bias = self.biases()[None]
        if any(shifts):
            x = torch.roll(x, (-shifts[0], -shifts[1]), dims=(1, 2))
            mask = shift_mask(window, sides, (shifts[0], shifts[1])).to(x)
            bias = (bias + mask[:, None]).repeat(batch, 1, 1, 1)
        mixed = self.mixed(cut(x, window), bias)
        y = joined(self.proj(mixed.transpose(1, 2).flatten(2)), window, *sides)
        if any(shifts):
            y = torch.roll(y, shifts, dims=(1, 2))
        return y[:, :height, :width]


class _AttentionV2(_Attention):
    """The same by cosines, with biases that a small network gives to distances."""

    relative_coords_table: Tensor

    def _make_biases(self) -> None:
        self.register_buffer("relative_coords_table", _differences(self.window))
        self.logit_scale = nn.Parameter(torch.full((self.heads, 1, 1), math.log(10)))
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, self.heads, bias=False)
        )

    def biases(self) -> Tensor:
        """Return what two places of a window add to their weight, ``heads x w^2 x w^2``."""
        table = self.cpb_mlp(self.relative_coords_table).view(-1, self.heads)
        return 16 * self._placed(table).sigmoid()

    def mixed(self, x: Tensor, bias: Tensor) -> Tensor:
        """Return the values that each head mixes in windows ``N x w^2 x C``."""
        width = x.shape[-1]
        # Keys have no bias, whatever the file holds in its place.
        kept = torch.ones_like(self.qkv.bias)
        kept[width : 2 * width] = 0
        q, k, v = self._split(F.linear(x, self.qkv.weight, self.qkv.bias * kept))
        scale = self.logit_scale.clamp(max=math.log(100)).exp()
        q, k = F.normalize(q, dim=-1) * scale, F.normalize(k, dim=-1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)


def _differences(window: int) -> Tensor:
    """Return differences of two places along y and x, logarithmic, ``1 x 2w-1 x 2w-1 x 2``."""
    steps = torch.arange(1 - window, window, dtype=torch.float32, device="cpu")
    steps = steps / max(1, window - 1) * 8
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)
    return (grid.sign() * (grid.abs() + 1).log2() / 3)[None]


def _perceptron(width: int, inner: int) -> nn.Sequential:
    # Numbered as in the published files, where dropout stands between and behind.
    return nn.Sequential(
        nn.Linear(width, inner), nn.GELU(), nn.Identity(), nn.Linear(inner, width), nn.Identity()
    )


class SwinTransformerBlock(nn.Module):
    """Attention and a perceptron, each on the normalised stream."""

    attention: type[_Attention] = _Attention

    def __init__(self, width: int, heads: int, window: int, shift: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = self.attention(width, heads, window, shift)
        self.mlp = _perceptron(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x H x W x C`` to the same shape."""
        x = x + self.attn(self.norm1(x))
        z: Tensor = x + self.mlp(self.norm2(x))
        return z


class SwinTransformerBlockV2(SwinTransformerBlock):
    """Attention by cosines and a perceptron, each normalised before it is added."""

    attention = _AttentionV2

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x H x W x C`` to the same shape."""
        x = x + self.norm1(self.attn(x))
        z: Tensor = x + self.norm2(self.mlp(x))
        return z


class PatchMerging(nn.Module):
    """Join each 2 x 2 patches, normalise, and halve the channels they have together."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x H x W x C`` to ``B x H/2 x W/2 x 2C``; odd sides are padded."""
        y: Tensor = self.reduction(self.norm(merged(x)))
        return y


class PatchMergingV2(nn.Module):
    """Join each 2 x 2 patches, halve the channels they have together, and normalise."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(2 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x H x W x C`` to ``B x H/2 x W/2 x 2C``; odd sides are padded."""
        y: Tensor = self.norm(self.reduction(merged(x)))
        return y


def merged(x: Tensor) -> Tensor:
    """Join each 2 x 2 patches of ``... x H x W x C``, odd sides padded with zeros."""
    height, width = x.shape[-3:-1]
    if height % 2 or width % 2:
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
    even, odd = x[..., 0::2, :, :], x[..., 1::2, :, :]
    corners = [even[..., 0::2, :], odd[..., 0::2, :], even[..., 1::2, :], odd[..., 1::2, :]]
    return torch.cat(corners, dim=-1)
