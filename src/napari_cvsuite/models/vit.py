"""Vision transformers (Dosovitskiy et al., arXiv 2010.11929) that can be run part by part.

Keys and computation are those of torchvision, whose own module is not imported: it loads torch's
compiler, whose LLVM crashes beside the one of Mesa's software OpenGL. What torchvision's class
lacks has keys of its own: LayerScale (``layer_scale_1``, ``layer_scale_2``), normalised queries
and keys (``q_norm``, ``k_norm``), a second head (``distillation_token``, ``heads.head_dist``),
``register_tokens``, and EnsembleScale (``ensemble_scale.alpha``).
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.models.vit_config import (
    PLACEMENTS,
    POOLS,
    SMALL,
    ConfigError,
    ViTConfig,
    path_names,
)

__all__ = [
    "PLACEMENTS",
    "POOLS",
    "SMALL",
    "Block",
    "ConfigError",
    "EnsembleScale",
    "SelfAttention",
    "Stream",
    "VisionTransformer",
    "ViTConfig",
    "build",
    "path_names",
]


class SelfAttention(nn.Module):
    """Multi-head self-attention, of which weights and values can be had apart.

    Parameters
    ----------
    config : ViTConfig
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width = config.hidden_dim
        self.num_heads, self.head_dim = config.num_heads, width // config.num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.q_norm = self.k_norm = None
        if config.qk_norm:
            self.q_norm = nn.LayerNorm(self.head_dim, config.eps)
            self.k_norm = nn.LayerNorm(self.head_dim, config.eps)
        if not self.in_proj_weight.is_meta:
            nn.init.xavier_uniform_(self.in_proj_weight)
            nn.init.zeros_(self.out_proj.bias)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of ``B x T x D``, each ``B x H x T x D/H``."""
        packed = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        shape = (*x.shape[:2], 3, self.num_heads, self.head_dim)
        q, k, v = packed.view(shape).permute(2, 0, 3, 1, 4)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        return q, k, v

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        """Return the attention of every token to every other, ``B x H x T x T``; rows sum to 1."""
        return (q @ k.transpose(-2, -1) / math.sqrt(self.head_dim)).softmax(dim=-1)

    def merge(self, mixed: Tensor) -> Tensor:
        """Project mixed values ``B x H x T x D/H`` back to ``B x T x D``."""
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Map ``B x T x D`` to ``B x T x D``."""
        q, k, v = self.project(x)
        # There the backward pass of torch's fused attention takes longer than all else together.
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            return self.merge(self.weights(q, k) @ v)
        return self.merge(F.scaled_dot_product_attention(q, k, v))


class Block(nn.Module):
    """One pre-norm layer.

    Parameters
    ----------
    config : ViTConfig
    """

    layer_scale_1: nn.Parameter | None
    layer_scale_2: nn.Parameter | None

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        width, inner = config.hidden_dim, config.mlp_dim
        self.ln_1 = nn.LayerNorm(width, config.eps)
        self.self_attention = SelfAttention(config)
        self.ln_2 = nn.LayerNorm(width, config.eps)
        # The gaps of two keep torchvision's numbers, where dropout stands between.
        self.mlp = nn.Sequential(
            nn.Linear(width, inner),
            nn.GELU(),
            nn.Identity(),
            nn.Linear(inner, width),
        )
        self.register_parameter("layer_scale_1", _ones(width) if config.layer_scale else None)
        self.register_parameter("layer_scale_2", _ones(width) if config.layer_scale else None)
        for layer in (self.mlp[0], self.mlp[3]):
            if isinstance(layer, nn.Linear) and not layer.weight.is_meta:
                nn.init.xavier_uniform_(layer.weight)
                nn.init.normal_(layer.bias, std=1e-6)

    def msa(self, z: Tensor) -> Tensor:
        """Return what attention writes for a stream ``B x T x D``."""
        return self.scaled_msa(self.self_attention(self.ln_1(z)))

    def scaled_msa(self, write: Tensor) -> Tensor:
        """Apply LayerScale, if there is one, to what attention gives."""
        return write if self.layer_scale_1 is None else write * self.layer_scale_1

    def ffn(self, u: Tensor) -> Tensor:
        """Return what the feed-forward network writes for a stream ``B x T x D``."""
        write: Tensor = self.mlp(self.ln_2(u))
        return write if self.layer_scale_2 is None else write * self.layer_scale_2


class EnsembleScale(nn.Module):
    """Weights of the paths, 1 where nothing was learned (arXiv 2308.06548; our definition).

    Parameters
    ----------
    num_paths, width : int
    per_channel : bool
        One weight a path and channel instead of one a path.
    """

    def __init__(self, num_paths: int, width: int, per_channel: bool) -> None:
        super().__init__()
        shape = (num_paths, width) if per_channel else (num_paths,)
        self.alpha = nn.Parameter(torch.ones(shape))

    def forward(self, path: int, write: Tensor) -> Tensor:
        """Weigh the write ``... x D`` of a path."""
        return write * self.alpha[path]


class Stream(NamedTuple):
    """The residual stream, and the sum that the head reads where that is another.

    Parameters
    ----------
    z : Tensor, shape (B, T, D)
    total : Tensor of the same shape, or None
        The weighted sum of the paths, of networks with an EnsembleScale in the final sum.
    """

    z: Tensor
    total: Tensor | None

    @property
    def final(self) -> Tensor:
        """What the head reads."""
        return self.z if self.total is None else self.total


class VisionTransformer(nn.Module):
    """A vision transformer; :func:`build` makes one.

    It can be run part by part, with the same result: :meth:`embed`, then for every layer
    ``msa`` and ``ffn`` of its block, each added by :meth:`add`, then :meth:`classify`.

    Parameters
    ----------
    config : ViTConfig
    """

    class_token: nn.Parameter | None
    distillation_token: nn.Parameter | None
    register_tokens: nn.Parameter | None

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_dim
        self.register_parameter("class_token", _token(width) if config.class_token else None)
        self.register_parameter("distillation_token", _token(width) if config.distilled else None)
        registers = nn.Parameter(torch.zeros(1, config.registers, width))
        self.register_parameter("register_tokens", registers if config.registers else None)
        self.conv_proj = _stem(config)
        rows = config.tokens if config.embed_prefix else config.grid**2
        self.encoder = _Encoder(config, rows)
        self.heads = _heads(config)
        self.ensemble_scale = None
        if config.ensemble_scale != "none":
            per_channel = config.ensemble_scale == "channel"
            self.ensemble_scale = EnsembleScale(config.num_paths, width, per_channel)

    @property
    def blocks(self) -> list[Block]:
        """The layers, first to last."""
        return list(self.encoder.layers.children())  # type: ignore[arg-type]

    def embed(self, x: Tensor) -> Tensor:
        """Return the tokens ``B x T x D`` of normalised images ``B x 3 x S x S``.

        Raises
        ------
        ValueError
            The images have another size.
        """
        side = self.config.image_size
        if tuple(x.shape[1:]) != (3, side, side):
            raise ValueError(
                f"this transformer sees images of 3 x {side} x {side}; got "
                f"{' x '.join(map(str, x.shape[1:]))}: resize them"
            )
        patches = self.conv_proj(x).flatten(2).transpose(1, 2)
        given = (self.class_token, self.distillation_token, self.register_tokens)
        prefix = [one.expand(len(x), -1, -1) for one in given if one is not None]
        positions = self.encoder.pos_embedding
        if self.config.embed_prefix:
            return torch.cat([*prefix, patches], dim=1) + positions
        return torch.cat([*prefix, patches + positions], dim=1)

    def start(self, tokens: Tensor) -> Stream:
        """Return the stream that begins with some tokens."""
        scale = self.ensemble_scale
        if scale is None:
            return Stream(tokens, None)
        scaled = scale(0, tokens)
        return Stream(scaled, None) if self.in_stream else Stream(tokens, scaled)

    def add(self, stream: Stream, path: int, write: Tensor) -> Stream:
        """Return the stream after the write of a path, counted as in :func:`path_names`."""
        scale = self.ensemble_scale
        if scale is None:
            return Stream(stream.z + write, None)
        scaled = scale(path, write)
        if stream.total is None:
            return Stream(stream.z + scaled, None)
        return Stream(stream.z + write, stream.total + scaled)

    @property
    def in_stream(self) -> bool:
        """Whether an EnsembleScale weighs what is written to the stream."""
        return self.ensemble_scale is not None and self.config.placement == "stream"

    def read(self, final: Tensor) -> Tensor:
        """Return what the head reads of a final sum ``B x T x D``: normalised rows ``B x D``.

        A second head reads the normalised second token instead.
        """
        norm, pool = self.encoder.ln, self.config.pool
        if pool == "token":
            rows: Tensor = norm(final[:, 0])
        elif pool == "avg_norm_after":
            rows = norm(final[:, self.config.prefix :].mean(dim=1))
        else:
            rows = norm(final[:, self.config.prefix :]).mean(dim=1)
        return rows

    def classify(self, final: Tensor) -> Tensor:
        """Return the logits ``B x K`` of a final sum ``B x T x D``."""
        logits: Tensor = self.heads(self.read(final))
        if not self.config.distilled:
            return logits
        second: nn.Module = self.heads.get_submodule("head_dist")
        return (logits + second(self.encoder.ln(final[:, 1]))) / 2

    def streams(self, x: Tensor) -> Iterator[Stream]:
        """Yield the stream of normalised images ``B x 3 x S x S`` after 0, 1, ..., L layers."""
        stream = self.start(self.embed(x))
        yield stream
        for number, block in enumerate(self.blocks):
            stream = self.add(stream, 2 * number + 1, block.msa(stream.z))
            stream = self.add(stream, 2 * number + 2, block.ffn(stream.z))
            yield stream

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``B x 3 x S x S`` to logits ``B x K``."""
        last = deque(self.streams(x), maxlen=1).pop()
        return self.classify(last.final)


class _Encoder(nn.Module):
    """Holds what torchvision keeps under ``encoder``."""

    def __init__(self, config: ViTConfig, rows: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.empty(1, rows, config.hidden_dim))
        if not self.pos_embedding.is_meta:
            nn.init.normal_(self.pos_embedding, std=0.02)
        blocks = [(f"encoder_layer_{i}", Block(config)) for i in range(config.num_layers)]
        self.layers = nn.Sequential(OrderedDict(blocks))
        self.ln = nn.LayerNorm(config.hidden_dim, config.eps)


class _Heads(nn.Sequential):
    """A head after an optional layer; the head of the distillation token lies beside them."""

    def forward(self, x: Tensor) -> Tensor:
        for name, layer in self.named_children():
            x = x if name == "head_dist" else layer(x)
        return x


def _heads(config: ViTConfig) -> _Heads:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width = config.hidden_dim
    if config.pre_logits:
        layers["pre_logits"], layers["act"] = nn.Linear(width, config.pre_logits), nn.Tanh()
        width = config.pre_logits
    layers["head"] = nn.Linear(width, config.num_classes)
    if config.distilled:
        layers["head_dist"] = nn.Linear(width, config.num_classes)
    for layer in layers.values():
        if isinstance(layer, nn.Linear) and not layer.weight.is_meta:
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    return _Heads(layers)


def _stem(config: ViTConfig) -> nn.Module:
    """Project patches at once, or by a few convolutions."""
    width, patch = config.hidden_dim, config.patch_size
    if not config.stem:
        made = nn.Conv2d(3, width, patch, stride=patch)
        if not made.weight.is_meta:
            nn.init.trunc_normal_(made.weight, std=math.sqrt(1 / (3 * patch * patch)))
            nn.init.zeros_(made.bias)  # type: ignore[arg-type]
        return made
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    before = 3
    for number, (channels, stride) in enumerate(config.stem):
        conv = nn.Conv2d(before, channels, 3, stride=stride, padding=1, bias=False)
        if not conv.weight.is_meta:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        layers[f"conv_bn_relu_{number}"] = nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())
        before = channels
    layers["conv_last"] = nn.Conv2d(before, width, 1)
    return nn.Sequential(layers)


def _ones(width: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(width))


def _token(width: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(1, 1, width))


def build(config: Mapping[str, Any]) -> VisionTransformer:
    """Return a vision transformer with torchvision's key names, in eval mode, weights at random.

    Parameters
    ----------
    config : mapping
        Fields of :class:`ViTConfig`.

    Raises
    ------
    ConfigError
        The configuration describes no transformer.
    """
    return VisionTransformer(ViTConfig.from_dict(config)).eval()
