"""The form of TOPIQ used for prediction: same function, less time and a fraction of the memory.

Everything here is exact algebra on the plain network's weights (no approximation): batch
normalisation is folded; of a split convolution only the shown half is computed in full, since the
other half meets nothing but a narrow product; every map is gated, pooled and reduced as soon as
the backbone has made it, in pieces that stay in the cache, and then forgotten.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.models.backbones_fast import (
    PIECE,
    FastResNet,
    FastSwin,
    Product,
    at_once,
    channels_last,
    check,
    product,
    rows_of,
)
from napari_cvsuite.models.swin import SwinBase
from napari_cvsuite.models.topiq import (
    CFANet,
    DecoderLayer,
    EncoderLayer,
    Examination,
    GatedConv,
    _grade,
    pooled_size,
)

__all__ = ["FastCFANet", "Reference", "fuse"]

TILE = 1 << 22
"""Values of a map whose gate is computed at a time on a CPU."""
GROUP = 1 << 16
"""Pixels up to which images share a pass on a CPU; larger ones gain nothing from it."""
HALO = 2
"""Rows beyond a tile that its gate sees through two convolutions."""


class _Level(nn.Module):
    """Gate, pool and reduce the map of one scale.

    Parameters
    ----------
    gate : nn.Module
        Of the plain network: a `GatedConv`, or layers that see the difference to a reference.
    reduce : nn.Sequential
        Convolution 1x1 and activation.
    """

    def __init__(self, gate: Any, reduce: Any) -> None:
        super().__init__()
        split: Any = gate.splitconv if isinstance(gate, GatedConv) else None
        first, *rest = gate if split is None else gate.weight_blk
        self.shown = None
        if split is None:
            self.seen = product(first)
        else:
            # Of the seen half only its product with the gate's first weights is needed.
            weight, other = split.weight.detach().double().flatten(1).chunk(2)
            bias, other_bias = split.bias.detach().double().chunk(2)
            narrow = first.weight.detach().double().flatten(1)
            self.seen = Product(
                (narrow @ other).to(split.weight),
                (narrow @ other_bias + first.bias.detach().double()).to(split.weight),
            )
            self.shown = Product(weight.to(split.weight), bias.to(split.weight))
        self.gate = nn.Sequential(*rest)
        self.reduce, self.activation = product(reduce[0]), reduce[1]

    def forward(self, x: Tensor, y: Tensor | None, size: tuple[int, int]) -> Tensor:
        """Turn a map ``B x H x W x C`` (and that of the reference) into ``B x h x w x D``."""
        height, (count, _) = x.shape[1], size
        bands = [(i * height // count, -(-(i + 1) * height // count)) for i in range(count)]
        pooled = []
        step = at_once(TILE, len(x) * x.shape[2] * x.shape[3] * -(-height // count), x)
        for first in range(0, count, step):
            check()
            pooled.append(self._tile(x, y, bands[first : first + step], size[1]))
        together = torch.cat(pooled, dim=1)
        # Tokens are few and the score is made from them: never in reduced precision.
        with torch.autocast(x.device.type, enabled=False):
            reduced: Tensor = self.activation(self.reduce(together.to(self.reduce.weight)))
        return reduced

    def _tile(
        self, x: Tensor, y: Tensor | None, bands: list[tuple[int, int]], width: int
    ) -> Tensor:
        """Return gated and pooled rows ``B x bands x width x C`` (or 3C) of a map."""
        top, bottom = bands[0][0], bands[-1][1]
        above, below = max(top - HALO, 0), min(bottom + HALO, x.shape[1])
        near = slice(above, below)
        seen = x[:, near] if y is None else _difference(x[:, near], y[:, near])
        # The outermost rows of a tile lack their neighbours; the halo is there to be wrong.
        weights = rows_of(self.gate(channels_last(self.seen(seen))))[:, top - above :]
        step = at_once(PIECE, x.shape[0] * x.shape[2] * x.shape[3] * (bands[0][1] - top), x)
        pooled = []
        for first in range(0, len(bands), step):
            check()
            group = bands[first : first + step]
            rows = slice(group[0][0], group[-1][1])
            weight = weights[:, rows.start - top : rows.stop - top]
            if y is None:
                assert self.shown is not None
                parts = [F.gelu(self.shown(x[:, rows])).mul_(weight)]
            else:
                inner = slice(rows.start - above, rows.stop - above)
                parts = [part * weight for part in (x[:, rows], y[:, rows], seen[:, inner])]
            pooled.append(torch.cat([_pool(p, group, width) for p in parts], dim=-1))
        return torch.cat(pooled, dim=1)


def _difference(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square_().add_(1e-12).sqrt_()


def _pool(rows: Tensor, bands: list[tuple[int, int]], width: int) -> Tensor:
    """Average bands of rows and equal shares of their width, as adaptive pooling does."""
    start, end = bands[0][0], bands[-1][1]
    if end - start == len(bands) and width == rows.shape[2]:
        return rows
    if end - start == sum(e - s for s, e in bands):  # Bands that do not overlap are equal.
        return rows_of(F.adaptive_avg_pool2d(channels_last(rows), (len(bands), width)))
    pooled = [
        F.adaptive_avg_pool2d(channels_last(rows[:, s - start : e - start]), (1, width))
        for s, e in bands
    ]
    return rows_of(torch.cat(pooled, dim=2))


def _attend(attention: nn.MultiheadAttention, queries: Tensor, memory: Tensor) -> Tensor:
    """Attend from ``B x N x D`` to ``B x M x D`` without ever holding ``N x M`` weights."""
    width, heads = attention.embed_dim, attention.num_heads
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    q = F.linear(queries, weight[:width], bias[:width])
    k, v = F.linear(memory, weight[width:], bias[width:]).chunk(2, dim=-1)
    q, k, v = (torch.unflatten(part, -1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v)
    y: Tensor = attention.out_proj(mixed.transpose(1, 2).flatten(2))
    return y


def _encode(layer: EncoderLayer, x: Tensor) -> Tensor:
    seen = layer.norm1(x)
    return layer._perceive(x + _attend(layer.self_attn, seen, seen), layer.norm2)


def _decode(layer: DecoderLayer, queries: Tensor, memory: Tensor) -> Tensor:
    m = layer.norm2(memory)
    attended = _attend(layer.multihead_attn, layer.norm1(queries), m)
    return layer._perceive(queries + attended, layer.norm3)


@dataclass(frozen=True)
class Reference:
    """A reference whose maps are kept, to compare many images with it; see `FastCFANet.reference`.

    Parameters
    ----------
    shape : tuple of int
        Of the images as given, ``B x C x H x W``.
    images : Tensor
        After cutting crops and resizing.
    maps : tuple of Tensor, optional
        Of the backbone; None where they would take too much memory.
    """

    shape: tuple[int, ...]
    images: Tensor
    maps: tuple[Tensor, ...] | None


class FastCFANet(nn.Module):
    """Prediction form of a :class:`~napari_cvsuite.models.topiq.CFANet`; see :func:`fuse`.

    Between its steps it asks the current job's context whether to go on.
    """

    def __init__(self, model: CFANet) -> None:
        super().__init__()
        plain = copy.deepcopy(model).eval()
        self.config = plain.config
        network: Any = plain.semantic_model
        self.backbone = FastSwin(network) if isinstance(network, SwinBase) else FastResNet(network)
        self.levels = nn.ModuleList(
            _Level(gate, reduce)
            for gate, reduce in zip(plain.weight_pool, plain.dim_reduce, strict=True)
        )
        # What is left of the plain network works on few tokens and serves as it is.
        plain.semantic_model = nn.Identity()
        del plain.weight_pool, plain.dim_reduce
        for layer in plain.modules():
            if isinstance(layer, DecoderLayer):
                del layer.self_attn
        self.rest = plain
        self.to(memory_format=torch.channels_last)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> FastCFANet:
        """Stay in evaluation mode; raises ``RuntimeError`` when asked to train."""
        if mode:
            raise RuntimeError("FastCFANet only predicts; train the plain CFANet and fuse it again")
        super().train(False)
        return self

    @torch.no_grad()
    def forward(
        self,
        x: Tensor,
        y: Tensor | Reference | None = None,
        return_mos: bool = True,
        return_dist: bool = False,
    ) -> Tensor | list[Tensor]:
        """Score a batch as :meth:`CFANet.forward` does.

        Parameters
        ----------
        x : Tensor, shape (B, 3, H, W) or (B, 1, H, W), float
            In [0, 1].
        y : Tensor or Reference, optional
            The references, of the same shape, or one that :meth:`reference` prepared.
        return_mos, return_dist : bool
            Return the score ``B x 1``, the raw output ``B x num_class``, or a list of both.

        Raises
        ------
        ValueError
            A reference is missing or of another size, or an image has other than 1 or 3 channels.
        """
        raw = self._outputs(x, y)[0]
        mos = _grade(raw)
        if return_mos and return_dist:
            return [mos, raw]
        return raw if return_dist else mos

    @torch.no_grad()
    def examine(self, x: Tensor, y: Tensor | Reference | None = None) -> Examination:
        """Score a batch and name what spoils it; see :meth:`forward`."""
        raw, *kinds = self._outputs(x, y)
        score = _grade(raw)
        logits, strengths = kinds or (score[:, :0], score[:, :0])
        return Examination(score, logits, strengths)

    @torch.no_grad()
    def reference(self, y: Tensor, limit: int = 1 << 30) -> Reference:
        """Prepare a reference once, to compare many images with it.

        Parameters
        ----------
        y : Tensor, shape (B, 3, H, W) or (B, 1, H, W), float
            In [0, 1]. One image serves batches of any length.
        limit : int
            Bytes that its maps may take (about 184 for each pixel of ResNet-50); where they would
            take more, they are computed for each comparison.

        Raises
        ------
        ValueError
            The network takes no reference, or an image has other than 1 or 3 channels.
        """
        if not self.config.use_ref:
            raise ValueError("a no-reference network takes no reference image")
        images = self.rest._prepared(y, y)[0]
        maps: list[Tensor] = []
        for one in self._maps(images):
            maps.append(one)
            if sum(m.numel() * m.element_size() for m in maps) > limit:
                return Reference(tuple(y.shape), images, None)
        return Reference(tuple(y.shape), images, tuple(maps))

    def _prepared(
        self, x: Tensor, y: Tensor | Reference | None
    ) -> tuple[Tensor, Reference | None, int]:
        """Check, cut crops and resize; return the number of crops, too."""
        if not self.config.use_ref:
            x, _, crops = self.rest._prepared(x, None)
            return x, None, crops
        if not isinstance(y, Reference):
            x, other, crops = self.rest._prepared(x, y)
            return x, None if other is None else Reference(tuple(other.shape), other, None), crops
        batch = len(x) if y.shape[0] == 1 else y.shape[0]
        self.rest._check(x, torch.empty(batch, *y.shape[1:], device="meta"))
        x, _, crops = self.rest._prepared(x, x)
        return x, y, crops

    def _outputs(self, x: Tensor, y: Tensor | Reference | None) -> list[Tensor]:
        """Return raw outputs and what :meth:`_judged` adds, means over each image's crops."""
        x, reference, crops = self._prepared(x, y)
        step = at_once(GROUP, x.shape[2] * x.shape[3], x)
        others = len(x) if reference is None else len(reference.images)
        step = 1 if 1 < others < len(x) else step  # Crops of one reference, for several images.
        rows = []
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            if others == 1:
                theirs = slice(0, 1)
            else:
                theirs = slice(start % others, start % others + step)
            rows.append(self._group(x[part], reference, theirs))
        return [self.rest._mean_of_crops(torch.cat(row), crops) for row in zip(*rows, strict=True)]

    def _group(self, x: Tensor, reference: Reference | None, theirs: slice) -> list[Tensor]:
        size = self.backbone.deepest(x.shape[2], x.shape[3])
        others: Iterator[Tensor | None] = itertools.repeat(None)
        if reference is not None and reference.maps is not None:
            others = (one[theirs] for one in reference.maps)
        elif reference is not None:
            others = self._maps(reference.images[theirs])
        places: dict[tuple[int, int], Tensor] = {}
        maps, tokens = self._maps(x), []
        for level, encoder in zip(self.levels, self.rest.sa_attn_blks, strict=True):
            check()
            # No name is given to a map: it goes as soon as the next stage has read it.
            tokens.append(self._tokens(level, encoder, next(maps), next(others), size, places))
        with torch.autocast(x.device.type, enabled=False):
            return self._judged(tokens)

    def _tokens(
        self,
        level: nn.Module,
        encoder: Any,
        one: Tensor,
        other: Tensor | None,
        deepest: tuple[int, int],
        places: dict[tuple[int, int], Tensor],
    ) -> Tensor:
        """Return the tokens ``B x N x D`` of a map; `places` keeps positions by size."""
        size = pooled_size((one.shape[1], one.shape[2]), deepest)
        reduced = level(one, other, size)
        with torch.autocast(one.device.type, enabled=False):
            if size not in places:
                places[size] = rows_of(self.rest._position(size))
            tokens = (reduced + places[size]).flatten(1, 2)
            for layer in encoder.layers:
                tokens = _encode(layer, tokens)
        return tokens

    def _judged(self, tokens: list[Tensor]) -> list[Tensor]:
        """Return the raw output from all tokens, and of a head for them logits and strengths."""
        queries = tokens[-1]
        blocks: Any = self.rest.attn_blks
        for block, memory in zip(blocks, reversed(tokens[:-1]), strict=True):
            for layer in block.layers:
                check()
                queries = _decode(layer, queries, memory)
        pooled = _encode(self.rest.attn_pool, queries).mean(dim=1)
        raw = self.rest.score_linear(pooled)
        if not self.config.distortions:
            return [raw]
        return [raw, *self.rest.distortion_head(tokens, pooled)]

    def _maps(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the backbone's maps of images in [0, 1], as pixel rows."""
        mean, std = self.rest.mean.to(x.dtype), self.rest.std.to(x.dtype)
        return self.backbone.maps((x - mean).div_(std))


def fuse(model: CFANet) -> FastCFANet:
    """Return the prediction form of `model` (any configuration), which is left untouched."""
    return FastCFANet(model)
