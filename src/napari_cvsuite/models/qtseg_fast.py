"""The form of QTSeg used for prediction: same function, about half the time.

Everything here is exact algebra on the plain network's weights (no approximation): batch
normalisation is folded, the few class tokens carry the attention projections instead of the many
pixels, the re-weighted maps are never stored, and up-sampling is a product over pixels whose
result is dotted with the class tokens before its pixels are rearranged.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_cvsuite.models import qtseg
from napari_cvsuite.models.attention import Attention, DMABlock, DMABStage
from napari_cvsuite.models.layers import SPPF, C2f, Conv, ConvTranspose
from napari_cvsuite.models.qtseg import STAGES, QTSeg, crop_to, pad_to_valid

__all__ = ["FastQTSeg", "fuse"]

Check = Callable[[], None]
_cut = torch.unflatten
CHUNK = 128
"""Pixels at stride 8 up-sampled at a time: what they become (0.5 MB) stays in the cache."""


def _channels_last(rows: Tensor) -> Tensor:
    return rows.permute(0, 3, 1, 2)


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _pointwise(plain: Conv) -> tuple[Tensor, Tensor]:
    """Return weight ``out x in`` and bias of a 1x1 convolution with folded normalisation."""
    fused = fuse_conv_bn_eval(plain.conv, plain.bn)
    assert fused.bias is not None
    return fused.weight.flatten(1), fused.bias


class _Product(nn.Module):
    """A 1x1 convolution of joined maps as a sum of products, so that they need not be joined.

    Parameters
    ----------
    weight : Tensor, shape (out, in)
    bias : Tensor, shape (out,)
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())

    def forward(self, *parts: Tensor) -> Tensor:
        """Map parts ``B x H x W x C``, the first of which may have half the side, to one."""
        y: Tensor | None = None
        weights = torch.split(self.weight, [part.shape[-1] for part in parts], dim=1)
        # From the last, which has the full side, to the first.
        for part, weight in reversed(list(zip(parts, weights, strict=True))):
            if y is None:
                y = F.linear(part, weight, self.bias)
            elif part.shape[1] != y.shape[1]:
                b, h, w, _ = part.shape
                low = F.linear(part, weight).view(b, h, 1, w, 1, -1)
                y.view(b, h, 2, w, 2, -1).add_(low)
            elif torch.is_autocast_enabled(y.device.type):
                y += F.linear(part, weight)
            else:
                y.flatten(0, 2).addmm_(part.reshape(-1, part.shape[-1]), weight.mT)
        assert y is not None
        return F.silu(y, inplace=True)


class _FusedConv(nn.Module):
    """Convolution with folded batch normalisation, then SiLU; 1x1 as a product over pixels."""

    def __init__(self, plain: Conv) -> None:
        super().__init__()
        pointwise = plain.conv.kernel_size == (1, 1) and plain.conv.stride == (1, 1)
        self.product = _Product(*_pointwise(plain)) if pointwise else None
        self.conv = None if pointwise else fuse_conv_bn_eval(plain.conv, plain.bn)

    def forward(self, x: Tensor) -> Tensor:
        if self.product is not None:
            return _channels_last(self.product(_rows(x)))
        assert self.conv is not None
        return F.silu(self.conv(x), inplace=True)


class _FusedC2f(nn.Module):
    """Cross-stage block whose maps are neither joined nor cut."""

    def __init__(self, plain: C2f) -> None:
        super().__init__()
        weight, bias = _pointwise(plain.cv1)
        halves = zip(weight.chunk(2), bias.chunk(2), strict=True)
        self.first = nn.ModuleList(_Product(*half) for half in halves)
        self.last = _Product(*_pointwise(plain.cv2))
        self.m = plain.m

    def forward(self, *maps: Tensor) -> Tensor:
        """Map ``B x C x H x W``, the first of several at half the side, to one."""
        given = [_rows(x) for x in maps]
        parts = [half(*given) for half in self.first]
        for block in self.m:
            parts.append(_rows(block(_channels_last(parts[-1]))))
        return _channels_last(self.last(*parts))


class _FusedSPPF(nn.Module):
    """Pyramid pooling whose maps are not joined."""

    def __init__(self, plain: SPPF) -> None:
        super().__init__()
        self.cv1, self.pool = _FusedConv(plain.cv1), plain.pool
        self.last = _Product(*_pointwise(plain.cv2))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x C x H x W`` to the same shape."""
        parts = [self.cv1(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return _channels_last(self.last(*(_rows(part) for part in parts)))


class _Enlarge(nn.Module):
    """Transposed convolution with kernel = stride as one product over pixels (B, ..., C)."""

    def __init__(self, conv: nn.ConvTranspose2d) -> None:
        super().__init__()
        assert conv.bias is not None
        self.side, self.width = int(conv.stride[0]), conv.out_channels
        rows = conv.weight.detach().permute(2, 3, 1, 0).reshape(-1, conv.in_channels)
        self.weight = nn.Parameter(rows.clone())
        self.bias = nn.Parameter(conv.bias.detach().repeat(self.side**2))

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight, self.bias)
        return _cut(y, -1, (self.side**2, self.width))


class _FusedConvTranspose(nn.Module):
    """Enlargement with folded batch normalisation, then SiLU."""

    def __init__(self, plain: ConvTranspose) -> None:
        super().__init__()
        fused = fuse_conv_bn_eval(plain.conv_transpose, plain.bn, transpose=True)
        self.enlarge = _Enlarge(fused)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.enlarge(_rows(x)), inplace=True)
        return _channels_last(_unshuffle(y, self.enlarge.side))


def _unshuffle(y: Tensor, side: int) -> Tensor:
    """Map ``B x h x w x side^2 x C`` to ``B x (side*h) x (side*w) x C``."""
    b, h, w, _, c = y.shape
    return y.view(b, h, w, side, side, c).transpose(2, 3).reshape(b, h * side, w * side, c)


class _GridCache:
    """Positional encodings as pixel rows, by grid, precision and device; bounded; thread-safe."""

    def __init__(self, limit: int = 12) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()

    def __reduce__(self) -> tuple[type[_GridCache], tuple[int]]:
        # Locks cannot be copied or pickled; a copy starts empty.
        return (_GridCache, (self.limit,))

    def get(
        self, s: int, encode: qtseg.PositionEncoding, grid: tuple[int, int], like: Tensor
    ) -> Tensor:
        """Return ``1 x hw x C`` for stage `s`, in the precision and on the device of `like`."""
        key = (s, *grid, like.dtype, like.device)
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
                return found
        rows = encode(*grid).flatten(2).transpose(1, 2).contiguous().to(like)
        with self._lock:
            self._held[key] = rows
            while len(self._held) > self.limit:
                self._held.popitem(last=False)
        return rows


def _heads(linear: nn.Linear, x: Tensor, heads: int) -> Tensor:
    return _cut(F.linear(x, linear.weight, linear.bias), -1, (heads, -1)).transpose(1, 2)


def _queries(attention: Attention, tokens: Tensor) -> Tensor:
    """Fold the key projection into the queries: ``B x heads*K x C``.

    The key bias adds the same amount to every score of a query: the softmax cancels it.
    """
    q = _heads(attention.q_proj, tokens, attention.num_heads)
    weight = _cut(attention.k_proj.weight, 0, (attention.num_heads, -1))
    return (q @ weight).flatten(1, 2) * q.shape[-1] ** -0.5


def _finish(attention: Attention, mixed: Tensor) -> Tensor:
    """Project pixels averaged per head and token (``B x heads*K x C``) to ``B x K x C``."""
    h, v = attention.num_heads, attention.v_proj
    per_head = _cut(mixed, 1, (h, -1)) @ _cut(v.weight, 0, (h, -1)).transpose(1, 2)
    y: Tensor = attention.out_proj(per_head.transpose(1, 2).flatten(2) + v.bias)
    return y


def _channel_mix(gamma: Tensor, y: Tensor) -> Tensor:
    """Return the ``B x C x C`` matrix M with ``channel_attention(y) = y @ M``, less identity.

    The Gram matrix is unscaled and the softmax amplifies its rounding: float32 at least.
    """
    with torch.autocast(y.device.type, enabled=False):
        wide = y if y.dtype == torch.float64 else y.float()
        weights = torch.softmax(-(wide.transpose(1, 2) @ wide), dim=-1)
        return (gamma.to(wide.dtype) * weights.transpose(1, 2)).to(y.dtype)


def _block(
    block: DMABlock, tokens: Tensor, x: Tensor, position: Tensor, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """One dual-mix attention block on pixel rows ``B x hw x C``.

    The spatial map is y * g and the channel map y + y M. Both meet only a few vectors a (the
    queries of the heads), so ``(y * g) a = g * (y a)`` and ``(y M) a = y (M a)`` spare both maps.
    """
    mix = block.dm_attention
    y = x + position
    pooled = _cut(torch.stack([y.mean(-1), y.amax(-1)], dim=1), 2, grid)
    gate = 1 + torch.sigmoid(mix.spatial_attention.cv1(pooled)).flatten(2)
    m = _channel_mix(mix.channel_attention.gamma, y)
    rows = y.transpose(1, 2)

    q1 = _queries(mix.spatial_token_mix_attention, tokens)
    t1 = (torch.softmax((q1 @ rows) * gate, dim=-1) * gate) @ y
    q2 = _queries(mix.channel_token_mix_attention, tokens)
    t2 = torch.softmax((q2 + q2 @ m.transpose(1, 2)) @ rows, dim=-1) @ y
    t1 = _finish(mix.spatial_token_mix_attention, t1)
    t2 = _finish(mix.channel_token_mix_attention, t2 + t2 @ m)
    mixed = mix.token_layernorm(t1 + t2 + tokens)
    tokens_out = block.token_layernorm(block.token_mlp(mixed)) + tokens

    attention, h = block.feature_mix, block.feature_mix.num_heads
    k = _heads(attention.k_proj, mixed, h)
    scale = k.shape[-1] ** -0.5
    a = ((k @ _cut(attention.q_proj.weight, 0, (h, -1))) * scale).flatten(1, 2)
    # Unlike the key bias, the query bias differs from token to token and has to stay.
    bias = (k @ attention.q_proj.bias.view(h, -1, 1) * scale).flatten(1)[:, :, None]
    scores = (a @ rows) * gate + (a + a @ m.transpose(1, 2)) @ rows + a @ position.mT + bias
    weights = torch.softmax(_cut(scores, 1, (h, -1)), dim=2).flatten(1, 2)
    v = _heads(attention.v_proj, mixed, h)
    out = _cut(attention.out_proj.weight, 1, (h, -1)).permute(1, 2, 0)
    # The weights of a head add up to one, so each head may carry its share of the bias.
    values = (v @ out).flatten(1, 2) + attention.out_proj.bias / h
    return tokens_out, torch.baddbmm(x, weights.transpose(1, 2), values)


def _stage(
    stage: DMABStage,
    tokens: Tensor,
    x: Tensor,
    position: Tensor,
    grid: tuple[int, int],
    check: Check,
) -> tuple[Tensor, Tensor]:
    start = tokens
    for block in stage.layers:
        assert isinstance(block, DMABlock)
        check()
        tokens, x = _block(block, tokens, x, position, grid)
    attention = stage.final_attn_token_to_image
    scores = _queries(attention, tokens + start) @ (x + position).transpose(1, 2)
    attended = _finish(attention, torch.softmax(scores, dim=-1) @ x)
    return stage.norm_final_attn(tokens + attended), x


class _UpSampler(nn.Module):
    """Enlargement, layer normalisation and GELU, once or twice, without rearranging pixels."""

    def __init__(self, plain: nn.Sequential) -> None:
        super().__init__()
        convs = [m for m in plain if isinstance(m, nn.ConvTranspose2d)]
        self.enlarge = nn.ModuleList(_Enlarge(m) for m in convs)
        self.norm = nn.ModuleList(plain[i] for i in range(1, len(plain), 3))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``... x C`` to ``... x 4 x C'`` or ``... x 4 x 4 x C'``."""
        for enlarge, norm in zip(self.enlarge, self.norm, strict=True):
            x = enlarge(x)
            x = F.gelu(F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps))  # type: ignore[arg-type]
        return x


class FastQTSeg(nn.Module):
    """Prediction form of a :class:`~napari_cvsuite.models.qtseg.QTSeg`; see :func:`fuse`.

    Attributes
    ----------
    check : callable or None
        Called between blocks, for example to raise when a job is cancelled. A `check` given to
        a call takes its place, which is the way to go where threads share the network.
    """

    def __init__(self, model: QTSeg) -> None:
        super().__init__()
        plain = copy.deepcopy(model).eval()
        self.config = plain.config
        self.check: Check | None = None
        self.encoder: qtseg.FPNEncoder = plain.image_encoder
        self.bridge = plain.bridge
        decoder = plain.mask_decoder
        self.tokens = decoder.mask_tokens.weight
        parts = [decoder.stage(s) for s in range(3)]
        self.blocks = nn.ModuleList(p[0] for p in parts)
        self.mlps = nn.ModuleList(p[1] for p in parts)
        self.up = nn.ModuleList(_UpSampler(p[3]) for p in parts)
        # Kept out of the module tree: reduced precision must not round the frequencies.
        self._encodings = tuple(p[2].cpu() for p in parts)
        self._grids = _GridCache()
        _fold(self)
        self.to(memory_format=torch.channels_last)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> FastQTSeg:
        """Stay in evaluation mode; raises ``RuntimeError`` when asked to train."""
        if mode:
            raise RuntimeError("FastQTSeg only predicts; train the plain QTSeg and fuse it again")
        super().train(False)
        return self

    @torch.no_grad()
    def forward(
        self, x: Tensor, check: Check | None = None, embedding: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Segment a batch as :meth:`QTSeg.forward` does.

        Parameters
        ----------
        x : Tensor, shape (B, C, H, W), float
        check : callable, optional
            Called between blocks; an exception it raises ends the call.
        embedding : bool
            Whether to return the embedding (else None), which costs time and memory.
        """
        check = check or self.check or (lambda: None)
        padded = pad_to_valid(x)
        features = self._encode(padded.contiguous(memory_format=torch.channels_last), check)
        masks, kept = self._decode(self.bridge(features), check, embedding)
        logits = F.interpolate(masks, size=padded.shape[2:], mode="bilinear", align_corners=False)
        return crop_to(logits, x), kept

    def _encode(self, x: Tensor, check: Check) -> tuple[Tensor, Tensor, Tensor]:
        def run(name: str, *parts: Tensor) -> Tensor:
            check()
            y: Tensor = getattr(self.encoder, name)(*parts)
            return y

        for name in ("conv_0", "conv_1", "c2f_2", "conv_3", "c2f_4"):
            x = run(name, x)
        f6 = run("c2f_6", run("conv_5", x))
        s9 = run("sppf_9", run("c2f_8", run("conv_7", f6)))
        f12 = run("c2f_12", s9, f6)
        out0 = run("c2f_15", f12, x)
        out1 = run("c2f_18", run("conv_16", out0), f12)
        return out0, out1, run("c2f_21", run("conv_19", out1), s9)

    def _decode(
        self, features: tuple[Tensor, Tensor, Tensor], check: Check, embedding: bool
    ) -> tuple[Tensor, Tensor | None]:
        batch = features[2].shape[0]
        tokens = self.tokens.expand(batch, -1, -1)
        carry: Tensor | None = None
        for s in STAGES:
            grid = (features[s].shape[2], features[s].shape[3])
            x = _rows(features[s]).flatten(1, 2)
            x = x if carry is None else x + carry
            position = self._grids.get(s, self._encodings[s], grid, like=x)
            tokens, x = _stage(self.blocks[s], tokens, x, position, grid, check)  # type: ignore[arg-type]
            mlps: Any = self.mlps[s]
            tokens = torch.stack([mlp(tokens[:, i]) for i, mlp in enumerate(mlps)], dim=1)
            if s:
                carry = _unshuffle(_cut(self.up[s](x), 1, grid), 2).flatten(1, 2)
        return self._masks(x, tokens, grid, check, embedding)

    def _masks(
        self, x: Tensor, tokens: Tensor, grid: tuple[int, int], check: Check, embedding: bool
    ) -> tuple[Tensor, Tensor | None]:
        planes, kept = [], []
        for rows in torch.split(x, max(1, CHUNK // x.shape[0]), dim=1):
            check()
            fine = self.up[0](rows)
            pixels = fine.flatten(1, 3).mT
            planes.append(tokens @ pixels)
            if embedding:
                kept.append(pixels)
        masks = _interleave(torch.cat(planes, 2), grid)
        return masks, _interleave(torch.cat(kept, 2), grid) if embedding else None


def _interleave(y: Tensor, grid: tuple[int, int]) -> Tensor:
    """Map ``B x K x hw*4*4`` (two enlargements by 2) to ``B x K x 4h x 4w``."""
    (b, k, _), (h, w) = y.shape, grid
    y = y.reshape(b * k, h, w, 2, 2, 2, 2).permute(0, 1, 3, 5, 2, 4, 6)
    return y.reshape(b, k, 4 * h, 4 * w)


def _fold(module: nn.Module) -> None:
    """Replace every convolution with batch normalisation below `module`, in place."""
    for name, child in module.named_children():
        if isinstance(child, C2f):
            setattr(module, name, _FusedC2f(child))
            _fold(getattr(module, name))
        elif isinstance(child, SPPF):
            setattr(module, name, _FusedSPPF(child))
        elif isinstance(child, Conv):
            setattr(module, name, _FusedConv(child))
        elif isinstance(child, ConvTranspose):
            setattr(module, name, _FusedConvTranspose(child))
        else:
            _fold(child)


def fuse(model: QTSeg) -> FastQTSeg:
    """Return the prediction form of `model` (any configuration), which is left untouched."""
    return FastQTSeg(model)
