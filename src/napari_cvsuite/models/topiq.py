"""TOPIQ / CFANet: top-down image quality assessment (arXiv 2308.03060).

The plain form of the network: published key names, differentiable, hookable. A deep backbone gives
maps of several scales; each is gated, pooled and reduced to tokens; queries from the deepest map
attend to the shallower ones in turn, from semantics to distortions; their mean gives the score.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.models.backbones import BACKBONES, make_backbone

__all__ = ["CFANet", "Examination", "TopiqConfig", "build", "pooled_size"]

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EMBEDDING = 32
"""Side of the learned position embedding before it is resized to a map."""


@dataclass(frozen=True)
class TopiqConfig:
    """Everything needed to rebuild a network.

    Parameters
    ----------
    semantic_model_name : str
        Backbone, one of :data:`~napari_cvsuite.models.backbones.BACKBONES`.
    use_ref : bool
        Full-reference (compare with a reference image) or no-reference.
    num_class : int
        1 gives a score; more give a distribution over the grades 1 to ``num_class``.
    inter_dim, num_heads, num_attn_layers : int
        Width of the tokens, attention heads, layers of each attention block.
    dprate : float
        Dropout rate in training.
    activation : {"gelu", "relu"}
        Of everything but the no-reference gates.
    out_act : bool
        Softplus on the score.
    test_img_size : int, optional
        The image's shorter side is brought to it in evaluation.
    fix_norms : bool
        Batch normalisation of the backbone is neither trained nor updated.
    gate_channels : int
        Channels of the gates; the published networks have 64.
    distortions : int
        Kinds that a head of our own tells apart (:class:`DistortionHead`); 0 leaves it out.
    num_crop, crop_size : int
        Scores of so many crops are averaged in evaluation; 1 takes the whole image.
    """

    semantic_model_name: str = "resnet50"
    use_ref: bool = True
    num_class: int = 1
    inter_dim: int = 256
    num_heads: int = 4
    num_attn_layers: int = 1
    dprate: float = 0.1
    activation: str = "gelu"
    out_act: bool = False
    fix_norms: bool = True
    gate_channels: int = 64
    distortions: int = 0
    test_img_size: int | None = None
    num_crop: int = 1
    crop_size: int = 256

    def __post_init__(self) -> None:
        if self.semantic_model_name not in BACKBONES:
            raise ValueError(
                f"semantic_model_name must be one of {', '.join(BACKBONES)}; "
                f"got {self.semantic_model_name!r}"
            )
        if self.activation not in ("gelu", "relu"):
            raise ValueError(f"activation must be 'gelu' or 'relu'; got {self.activation!r}")
        if self.inter_dim % 2 or self.inter_dim % self.num_heads:
            raise ValueError(
                f"inter_dim must be even and a multiple of num_heads; got {self.inter_dim} and "
                f"{self.num_heads}"
            )
        counts = ("num_class", "num_attn_layers", "num_crop", "crop_size", "gate_channels")
        for name, least in (*((name, 1) for name in counts), ("distortions", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more; got {getattr(self, name)}")

    @classmethod
    def from_dict(cls, options: dict[str, Any]) -> TopiqConfig:
        """Rebuild from :meth:`to_dict`; raises ``ValueError`` for unknown options."""
        unknown = set(options) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown options of TOPIQ: {', '.join(sorted(unknown))}")
        return cls(**options)

    def to_dict(self) -> dict[str, Any]:
        """Return all options as plain values."""
        return asdict(self)


def pooled_size(shape: tuple[int, int], deepest: tuple[int, int]) -> tuple[int, int]:
    """Return the size of a map's tokens: that of the deepest map, if both sides exceed it."""
    return deepest if shape[0] > deepest[0] and shape[1] > deepest[1] else shape


def _activation(name: str) -> nn.Module:
    return nn.GELU() if name == "gelu" else nn.ReLU()


def _outlet(config: TopiqConfig) -> list[nn.Module]:
    """Return what follows the last linear layer: a distribution, a positive score, or nothing."""
    if config.num_class > 1:
        return [nn.Softmax(dim=-1)]
    return [nn.Softplus()] if config.out_act else []


class GatedConv(nn.Module):
    """No-reference gate: half of the channels, weighted by what the other half shows.

    Parameters
    ----------
    channels : int
        Channels in and out.
    inner : int
        Channels of the gate.
    """

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.splitconv = nn.Conv2d(channels, 2 * channels, 1)
        self.weight_blk = _gate(channels, inner, "gelu")

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x C x H x W`` to the same shape."""
        shown, seen = self.splitconv(x).chunk(2, dim=1)
        gated: Tensor = F.gelu(shown) * self.weight_blk(seen)
        return gated


def _gate(channels: int, inner: int, activation: str) -> nn.Sequential:
    """Return a map from `channels` to one weight a pixel, in [0, 1]."""
    return nn.Sequential(
        nn.Conv2d(channels, inner, 1),
        _activation(activation),
        nn.Conv2d(inner, inner, 3, padding=1),
        _activation(activation),
        nn.Conv2d(inner, 1, 3, padding=1),
        nn.Sigmoid(),
    )


class EncoderLayer(nn.Module):
    """Self-attention and a two-layer perceptron, each on normalised tokens and added to them."""

    def __init__(self, config: TopiqConfig) -> None:
        super().__init__()
        width, hidden = config.inter_dim, min(4 * config.inter_dim, 2048)
        self.self_attn = nn.MultiheadAttention(
            width, config.num_heads, config.dprate, batch_first=True
        )
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dprate)
        self.activation = _activation(config.activation)

    def _attend(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        return x + self.dropout(self.self_attn(y, y, y, need_weights=False)[0])

    def _perceive(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        hidden = self.dropout(self.activation(self.linear1(norm(x))))
        return x + self.dropout(self.linear2(hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x N x D`` to the same shape."""
        return self._perceive(self._attend(x), self.norm2)


class DecoderLayer(EncoderLayer):
    """Attention of queries to a memory, and a perceptron.

    The published files hold a self-attention here that is never used.
    """

    def __init__(self, config: TopiqConfig) -> None:
        super().__init__(config)
        self.multihead_attn = nn.MultiheadAttention(
            config.inter_dim, config.num_heads, config.dprate, batch_first=True
        )
        self.norm3 = nn.LayerNorm(config.inter_dim)

    def forward(self, queries: Tensor, memory: Tensor | None = None) -> Tensor:
        """Map queries ``B x N x D``, given ``B x M x D``, to the queries' shape."""
        assert memory is not None
        m = self.norm2(memory)
        attended = self.multihead_attn(self.norm1(queries), m, m, need_weights=False)[0]
        return self._perceive(queries + self.dropout(attended), self.norm3)

    def weights(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Return the mean attention to each part of the memory, ``B x M``."""
        m = self.norm2(memory)
        seen: Tensor = self.multihead_attn(self.norm1(queries), m, m)[1].mean(dim=1)
        return seen


class Encoder(nn.Module):
    """Several encoder layers."""

    def __init__(self, config: TopiqConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_attn_layers))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x N x D`` to the same shape."""
        for layer in self.layers:
            x = layer(x)
        return x


class Decoder(nn.Module):
    """Several decoder layers."""

    def __init__(self, config: TopiqConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_attn_layers))

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Map queries ``B x N x D``, given ``B x M x D``, to the queries' shape."""
        for layer in self.layers:
            queries = layer(queries, memory)
        return queries

    def weights(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Return the mean attention of the last layer to each part of the memory, ``B x M``."""
        *before, last = self.layers
        for layer in before:
            queries = layer(queries, memory)
        assert isinstance(last, DecoderLayer)
        return last.weights(queries, memory)


class DistortionHead(nn.Module):
    """Name what spoils an image, from the tokens of all scales; no part of the published network.

    Parameters
    ----------
    width, levels : int
        Channels of the tokens, and number of scales.
    kinds : int
        Number of kinds, the first of which is "none".
    """

    def __init__(self, width: int, levels: int, kinds: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            # Over the batch: the traces of a distortion are small beside what all images share.
            nn.BatchNorm1d((2 * levels + 1) * width),
            nn.Linear((2 * levels + 1) * width, width),
            nn.GELU(),
            nn.Linear(width, 2 * kinds),
        )

    def forward(self, tokens: list[Tensor], pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of the kinds and their strengths (1 is the worst level), ``B x kinds``."""
        seen = [pooled]
        for one in tokens:
            seen += [one.mean(dim=1), one.std(dim=1, correction=0)]
        logits, strengths = self.layers(torch.cat(seen, dim=1)).chunk(2, dim=1)
        return logits, strengths


@dataclass(frozen=True)
class Examination:
    """What a network says of a batch.

    Parameters
    ----------
    score : Tensor, shape (B, 1)
    logits, strengths : Tensor, shape (B, kinds)
        Of the kinds of distortion; without columns where the network has no head for them.
    """

    score: Tensor
    logits: Tensor
    strengths: Tensor


class CFANet(nn.Module):
    """The network of TOPIQ.

    Parameters
    ----------
    config : TopiqConfig
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: TopiqConfig) -> None:
        super().__init__()
        self.config = config
        width, backbone = config.inter_dim, BACKBONES[config.semantic_model_name]
        self.semantic_model = make_backbone(config.semantic_model_name)
        channels = backbone.channels
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        gates: list[nn.Module] = [
            _gate(c, config.gate_channels, config.activation)
            if config.use_ref
            else GatedConv(c, config.gate_channels)
            for c in channels
        ]
        self.weight_pool = nn.ModuleList(gates)
        per_map = 3 if config.use_ref else 1
        self.dim_reduce = nn.ModuleList(
            nn.Sequential(nn.Conv2d(per_map * c, width, 1), _activation(config.activation))
            for c in channels
        )
        self.sa_attn_blks = nn.ModuleList(Encoder(config) for _ in channels)
        self.attn_blks = nn.ModuleList(Decoder(config) for _ in channels[1:])
        self.attn_pool = EncoderLayer(config)
        self.score_linear = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            _activation(config.activation),
            nn.LayerNorm(width),
            nn.Linear(width, width),
            _activation(config.activation),
            nn.Linear(width, config.num_class),
            *_outlet(config),
        )
        if config.distortions:
            self.distortion_head = DistortionHead(width, len(channels), config.distortions)
        self.h_emb = nn.Parameter(torch.empty(1, width // 2, EMBEDDING, 1))
        self.w_emb = nn.Parameter(torch.empty(1, width // 2, 1, EMBEDDING))
        self._initialise()
        if config.fix_norms:
            for module in self._norms():
                module.requires_grad_(False)

    def _norms(self) -> list[nn.BatchNorm2d]:
        return [m for m in self.semantic_model.modules() if isinstance(m, nn.BatchNorm2d)]

    def _initialise(self) -> None:
        """Kaiming-normal linear layers without bias in all but the head (the published recipe)."""
        if self.h_emb.is_meta:
            return  # Normal numbers for tensors without storage would load torch's compiler.
        for part in (self.dim_reduce, self.sa_attn_blks, self.attn_blks, self.attn_pool):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    nn.init.kaiming_normal_(module.weight)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
        for embedding in (self.h_emb, self.w_emb):
            nn.init.trunc_normal_(embedding, std=0.02)

    def train(self, mode: bool = True) -> CFANet:
        """Switch to training, or to evaluation; norms that are fixed stay in evaluation."""
        super().train(mode)
        if self.config.fix_norms:
            for module in self._norms():
                module.eval()
        return self

    def forward(
        self,
        x: Tensor,
        y: Tensor | None = None,
        return_mos: bool = True,
        return_dist: bool = False,
    ) -> Tensor | list[Tensor]:
        """Score a batch.

        Parameters
        ----------
        x : Tensor, shape (B, 3, H, W) or (B, 1, H, W)
            In [0, 1].
        y : Tensor, optional
            The references, of the same shape; for full-reference networks alone.
        return_mos, return_dist : bool
            Return the score ``B x 1``, the raw output ``B x num_class``, or a list of both.

        Raises
        ------
        ValueError
            A reference is missing or of another size, or an image has other than 1 or 3 channels.
        """
        x, y, crops = self._prepared(x, y)
        raw = self._mean_of_crops(self.score_linear(self._pooled(self._tokens(x, y))), crops)
        mos = _grade(raw)
        if return_mos and return_dist:
            return [mos, raw]
        return raw if return_dist else mos

    def examine(self, x: Tensor, y: Tensor | None = None) -> Examination:
        """Score a batch and name what spoils it; see :meth:`forward`."""
        x, y, crops = self._prepared(x, y)
        tokens = self._tokens(x, y)
        pooled = self._pooled(tokens)
        score = _grade(self._mean_of_crops(self.score_linear(pooled), crops))
        if not self.config.distortions:
            none = score[:, :0]
            return Examination(score, none, none)
        logits, strengths = self.distortion_head(tokens, pooled)
        return Examination(
            score, self._mean_of_crops(logits, crops), self._mean_of_crops(strengths, crops)
        )

    def embedding(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return what the last linear layer of the score sees, ``B x D``; see :meth:`forward`."""
        x, y, crops = self._prepared(x, y)
        seen = self._pooled(self._tokens(x, y))
        for layer in self.score_linear[: self.last]:
            seen = layer(seen)
        return self._mean_of_crops(seen, crops)

    @property
    def last(self) -> int:
        """Index of the last linear layer in ``score_linear``."""
        return max(i for i, one in enumerate(self.score_linear) if isinstance(one, nn.Linear))

    def attention(self, x: Tensor, y: Tensor | None = None) -> list[Tensor]:
        """Return where the deep queries look at each scale, from shallow to deep.

        Parameters
        ----------
        x, y : Tensor
            See :meth:`forward`.

        Returns
        -------
        list of Tensor, shape (B, h, w)
            Mean attention of all queries and heads to each token; a map sums to 1. The last one
            is the attention of the final pooling among the deepest tokens themselves.

        Raises
        ------
        ValueError
            As :meth:`forward`, or the network averages over crops.
        """
        x, y, crops = self._prepared(x, y)
        if crops > 1:
            raise ValueError("a network that averages over crops has no attention map of the image")
        maps, others = self._maps(x, y)
        deepest = (maps[-1].shape[2], maps[-1].shape[3])
        sizes = [pooled_size((one.shape[2], one.shape[3]), deepest) for one in maps]
        tokens = self._from_maps(maps, others)
        queries, found = tokens[-1], []
        for block, memory in zip(self.attn_blks, reversed(tokens[:-1]), strict=True):
            assert isinstance(block, Decoder)
            found.append(block.weights(queries, memory))
            queries = block(queries, memory)
        y_last = self.attn_pool.norm1(queries)
        pooling = self.attn_pool.self_attn(y_last, y_last, y_last)[1].mean(dim=1)
        return [
            one.view(-1, *size)
            for one, size in zip([*reversed(found), pooling], sizes, strict=True)
        ]

    def _mean_of_crops(self, raw: Tensor, crops: int) -> Tensor:
        return raw.view(-1, crops, raw.shape[-1]).mean(dim=1)

    def _check(self, x: Tensor, y: Tensor | None) -> None:
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ValueError(
                f"images must be B x 3 x H x W (or B x 1 x H x W); got {tuple(x.shape)}"
            )
        if self.config.use_ref and y is None:
            raise ValueError("a full-reference network needs a reference image")
        if y is not None and self.config.use_ref and y.shape != x.shape:
            raise ValueError(
                f"image {tuple(x.shape)} and reference {tuple(y.shape)} must have the same shape; "
                "resize one of them first"
            )

    def _prepared(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None, int]:
        """Check, and in evaluation cut crops and resize; return the number of crops, too."""
        self._check(x, y)
        if self.training:
            return x, y, 1
        config, crops = self.config, self.config.num_crop
        if crops > 1:
            x = _uniform_crops(x, crops, config.crop_size)
            y = None if y is None else _uniform_crops(y, crops, config.crop_size)
        fixed = BACKBONES[config.semantic_model_name].side
        if fixed:
            size = [fixed, fixed]
        elif config.test_img_size:
            size = _shorter_side(x, config.test_img_size)
        else:
            return x, y, crops
        # The published evaluation resizes the image alone, which no published model shows.
        return _resized(x, size), None if y is None else _resized(y, size), crops

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the backbone's maps of images in [0, 1], from shallow to deep."""
        return list(self.semantic_model((x - self.mean.to(x.dtype)) / self.std.to(x.dtype)))

    def _maps(self, x: Tensor, y: Tensor | None) -> tuple[list[Tensor], list[Tensor] | None]:
        """Return the maps of the images, and those of the references where they count."""
        if not self.config.use_ref:
            return self.features(x), None
        assert y is not None
        return self.features(x), self.features(y)

    def _tokens(self, x: Tensor, y: Tensor | None) -> list[Tensor]:
        """Return the tokens of every scale, ``B x N x D``, from shallow to deep."""
        return self._from_maps(*self._maps(x, y))

    def _from_maps(self, maps: list[Tensor], others: list[Tensor] | None) -> list[Tensor]:
        deepest = (maps[-1].shape[2], maps[-1].shape[3])
        return [
            self._reduced(level, one, None if others is None else others[level], deepest)
            for level, one in enumerate(maps)
        ]

    def _pooled(self, tokens: list[Tensor]) -> Tensor:
        """Return what the score is made from, ``B x D``."""
        queries = tokens[-1]
        for block, memory in zip(self.attn_blks, reversed(tokens[:-1]), strict=True):
            queries = block(queries, memory)
        pooled: Tensor = self.attn_pool(queries).mean(dim=1)
        return pooled

    def _reduced(
        self, level: int, one: Tensor, other: Tensor | None, deepest: tuple[int, int]
    ) -> Tensor:
        """Turn a map (and that of the reference) into tokens ``B x N x D``."""
        if other is None:
            gated = self.weight_pool[level](one)
        else:
            difference = ((one - other) ** 2 + 1e-12).sqrt()
            joined = torch.cat([one, other, difference], dim=1)
            gated = joined * self.weight_pool[level](difference)
        size = pooled_size((gated.shape[2], gated.shape[3]), deepest)
        if size != (gated.shape[2], gated.shape[3]):
            gated = F.adaptive_avg_pool2d(gated, size)
        reduced = self.dim_reduce[level](gated)
        placed = reduced + self._position(size)
        y: Tensor = self.sa_attn_blks[level](placed.flatten(2).transpose(1, 2))
        return y

    def _position(self, size: tuple[int, int]) -> Tensor:
        full = torch.cat(
            [
                self.h_emb.expand(-1, -1, -1, EMBEDDING),
                self.w_emb.expand(-1, -1, EMBEDDING, -1),
            ],
            dim=1,
        )
        return F.interpolate(full, size=size, mode="bicubic", align_corners=False)


def _resized(x: Tensor, size: list[int]) -> Tensor:
    if list(x.shape[2:]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)


def _grade(raw: Tensor) -> Tensor:
    """Return the score ``B x 1``: the mean grade of a distribution, or the raw output."""
    grades = torch.arange(1, raw.shape[-1] + 1, device=raw.device, dtype=raw.dtype)
    return (raw * grades).sum(dim=-1, keepdim=True)


def _shorter_side(x: Tensor, side: int) -> list[int]:
    height, width = x.shape[2:]
    if height <= width:
        return [side, int(side * width / height)]
    return [int(side * height / width), side]


def _uniform_crops(x: Tensor, count: int, side: int) -> Tensor:
    """Cut `count` crops of each image on an even grid: ``B*count x C x side x side``."""
    smallest = min(x.shape[2:])
    if smallest <= side:
        x = F.interpolate(x, scale_factor=(side + 1) / smallest, mode="bilinear")
    height, width = x.shape[2:]
    steps = int(math.sqrt(count))
    a_side = math.ceil(math.sqrt(count))
    step_y, step_x = (height - side) // steps, (width - side) // steps
    corners = [(i * step_y, j * step_x) for i in range(a_side) for j in range(a_side)][:count]
    crops = [x[:, :, top : top + side, left : left + side] for top, left in corners]
    return torch.stack(crops, dim=1).flatten(0, 1)


def build(options: dict[str, Any]) -> CFANet:
    """Return a network in evaluation mode.

    Parameters
    ----------
    options : dict
        Of :class:`TopiqConfig`.

    Raises
    ------
    ValueError
        An option is unknown or out of range.
    """
    return CFANet(TopiqConfig.from_dict(options)).eval()
