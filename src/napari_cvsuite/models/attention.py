"""The dual-mix attention blocks of QTSeg's mask decoder (arXiv 2412.17241, section III)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention at half the channel width (``C -> C/2 -> C``)."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        inner = channels // 2
        self.num_heads = num_heads
        self.q_proj = nn.Linear(channels, inner)
        self.k_proj = nn.Linear(channels, inner)
        self.v_proj = nn.Linear(channels, inner)
        self.out_proj = nn.Linear(inner, channels)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from ``B x Q x C`` to ``B x N x C``; returns ``B x Q x C``."""
        heads = [
            projection(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        ]
        mixed = F.scaled_dot_product_attention(*heads)
        y: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return y


class SpatialAttention(nn.Module):
    """Gate every pixel by a 7x7 convolution of its channel mean and maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.cv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x C x H x W`` to the same shape: ``x * gate + x``."""
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.cv1(pooled)) + x


class ChannelAttention(nn.Module):
    """Mix each channel with those least similar to it (softmax of the negated Gram matrix)."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x C x H x W`` to the same shape.

        The Gram matrix is unscaled, so its entries reach thousands and the softmax amplifies
        rounding: it is computed in float32 (or float64) whatever the autocast precision.
        """
        with torch.autocast(x.device.type, enabled=False):
            flat = x.flatten(2)
            flat = flat if flat.dtype == torch.float64 else flat.float()
            similarity = flat @ flat.transpose(1, 2)
            weights = torch.softmax(similarity.amax(-1, keepdim=True) - similarity, dim=-1)
            mixed = (weights @ flat).view(x.shape)
        return self.gamma * mixed + x


class DualMixAttention(nn.Module):
    """Token-image attention over a spatially and a channel-wise re-weighted map."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.channel_attention = ChannelAttention()
        self.spatial_attention = SpatialAttention()
        self.spatial_token_mix_attention = Attention(channels, num_heads)
        self.channel_token_mix_attention = Attention(channels, num_heads)
        self.token_layernorm = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixed tokens U (``B x K x C``) and the feature tokens S + Cc."""
        spatial = _to_tokens(self.spatial_attention(y))
        channel = _to_tokens(self.channel_attention(y))
        t1 = self.spatial_token_mix_attention(tokens, spatial, spatial)
        t2 = self.channel_token_mix_attention(tokens, channel, channel)
        return self.token_layernorm(t1 + t2 + tokens), spatial + channel


class TokenMLP(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(channels, hidden)
        self.lin2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``... x C`` to the same shape."""
        y: Tensor = self.lin2(F.gelu(self.lin1(x)))
        return y


class DMABlock(nn.Module):
    """One dual-mix attention block (paper section III-C; the released order of operations)."""

    def __init__(self, channels: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.dm_attention = DualMixAttention(channels, num_heads)
        self.token_mlp = TokenMLP(channels, mlp_dim)
        self.token_layernorm = nn.LayerNorm(channels)
        self.feature_mix = Attention(channels, num_heads)

    def forward(self, tokens: Tensor, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Update class tokens ``B x K x C`` and feature map ``B x C x h x w``."""
        mixed, features = self.dm_attention(tokens, x + position)
        tokens_out = self.token_layernorm(self.token_mlp(mixed)) + tokens
        # Attention is to the tokens before the MLP: the paper's figure shows those after it.
        x_out = self.feature_mix(features + _to_tokens(position), mixed, mixed)
        return tokens_out, x_out.transpose(1, 2).reshape(x.shape) + x


class DMABStage(nn.Module):
    """Blocks at one resolution, closed by an attention from tokens to the image."""

    def __init__(self, channels: int, depth: int, num_heads: int, mlp_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DMABlock(channels, num_heads, mlp_dim) for _ in range(depth))
        self.final_attn_token_to_image = Attention(channels, num_heads)
        self.norm_final_attn = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Return updated tokens ``B x K x C`` and feature map ``B x C x h x w``."""
        tokens_in = tokens
        for block in self.layers:
            tokens, x = block(tokens, x, position)
        attended = self.final_attn_token_to_image(
            tokens + tokens_in, _to_tokens(x + position), _to_tokens(x)
        )
        return self.norm_final_attn(tokens + attended), x


def _to_tokens(x: Tensor) -> Tensor:
    """Flatten ``B x C x h x w`` to ``B x hw x C``, row by row."""
    return x.flatten(2).transpose(1, 2)
