"""Swin-B for 384 x 384 pixels (arXiv 2103.14030), with the key names of the published files.

Stages end with the merging of patches, as in the paper; newer libraries moved it to their start.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.models.swin_classifier import PatchMerging
from napari_cvsuite.models.windows import cut, joined, relative_index, shift_mask

__all__ = ["SwinBase"]

SIDE, PATCH, WINDOW, WIDTH = 384, 4, 12, 128
DEPTHS, HEADS = (2, 2, 18, 2), (4, 8, 16, 32)


def _mask(side: int, shift: int) -> Tensor:
    return shift_mask(WINDOW, (side, side), (shift, shift))


class WindowAttention(nn.Module):
    """Self-attention within windows, with a learned bias for each relative position."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_index(WINDOW))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        # Normal numbers for tensors without storage would load torch's compiler.
        if not self.relative_position_bias_table.is_meta:
            nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Map windows ``B*n x N x C`` to the same shape; `mask` is ``n x N x N``."""
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.view(1, n, n, self.heads).permute(0, 3, 1, 2)
        if mask is not None:
            bias = (bias + mask[:, None].to(bias.dtype)).repeat(b // len(mask), 1, 1, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        z: Tensor = self.proj(y.transpose(1, 2).reshape(b, n, c))
        return z


class Mlp(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``... x C`` to the same shape."""
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class SwinBlock(nn.Module):
    """Window attention, every other time on windows shifted by half their side, and a perceptron.

    Parameters
    ----------
    width, heads : int
    side : int
        Of the map in patches; one window is never shifted.
    shifted : bool
    """

    attn_mask: Tensor | None

    def __init__(self, width: int, heads: int, side: int, shifted: bool) -> None:
        super().__init__()
        self.side = side
        self.shift = WINDOW // 2 if shifted and side > WINDOW else 0
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = WindowAttention(width, heads), Mlp(width)
        self.register_buffer("attn_mask", _mask(side, self.shift) if self.shift else None)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x side x side x C`` to the same shape."""
        y = self.norm1(x)
        y = torch.roll(y, (-self.shift, -self.shift), (1, 2)) if self.shift else y
        y = joined(self.attn(cut(y, WINDOW), self.attn_mask), WINDOW, self.side, self.side)
        y = torch.roll(y, (self.shift, self.shift), (1, 2)) if self.shift else y
        x = x + y
        z: Tensor = x + self.mlp(self.norm2(x))
        return z


class Stage(nn.Module):
    """Blocks, then the merging of patches in all stages but the last."""

    def __init__(self, width: int, depth: int, heads: int, side: int, merge: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(width, heads, side, shifted=bool(i % 2)) for i in range(depth)
        )
        self.downsample = PatchMerging(width) if merge else None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x H x W x C`` to the stage's result."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class PatchEmbed(nn.Module):
    """Patches of 4 x 4 pixels as normalised tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x 3 x H x W`` to ``B x H/4 x W/4 x C``."""
        y: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return y


class SwinBase(nn.Module):
    """Swin-B that returns the results of its four stages.

    The classifier (``norm``, ``head``) is in published files and is not used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed()
        stages, side, width = [], SIDE // PATCH, WIDTH
        for number, (depth, heads) in enumerate(zip(DEPTHS, HEADS, strict=True)):
            merge = number < len(DEPTHS) - 1
            stages.append(Stage(width, depth, heads, side, merge))
            if merge:
                side, width = side // 2, 2 * width
        self.layers = nn.ModuleList(stages)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1000)

    def constants(self) -> dict[str, Tensor]:
        """Return the buffers by name, which follow from the sizes; files may leave them out."""
        made = {}
        for name, module in self.named_modules():
            if isinstance(module, SwinBlock):
                made[f"{name}.attn.relative_position_index"] = relative_index(WINDOW)
                if module.shift:
                    made[f"{name}.attn_mask"] = _mask(module.side, module.shift)
        return made

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map ``B x 3 x 384 x 384`` to maps of 48, 24, 12 and 12 patches a side.

        Raises
        ------
        ValueError
            The images have another size.
        """
        if tuple(x.shape[2:]) != (SIDE, SIDE):
            raise ValueError(f"images must be {SIDE} x {SIDE} pixels; got {tuple(x.shape[2:])}")
        y = self.patch_embed(x)
        maps = []
        for stage in self.layers:
            y = stage(y)
            maps.append(y.permute(0, 3, 1, 2))
        return maps
