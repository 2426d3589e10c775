"""Shapes of vision transformers, and the names of their paths. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

__all__ = ["PLACEMENTS", "POOLS", "SCALES", "SMALL", "ConfigError", "ViTConfig", "path_names"]

POOLS = ("token", "avg_norm_after", "avg_norm_before")
"""What the head reads: the normalised class token, the normalised mean of the patch tokens, or the
mean of the normalised patch tokens."""
SCALES = ("none", "scalar", "channel")
PLACEMENTS = ("final", "stream")


class ConfigError(ValueError):
    """A configuration describes no transformer; the message names the field."""


@dataclass(frozen=True)
class ViTConfig:
    """Shape of a vision transformer; the names are torchvision's where it has one.

    Parameters
    ----------
    image_size, patch_size : int
        Side of the square image and of its patches, in pixels; the first a multiple of the second.
    hidden_dim, num_layers, num_heads, mlp_dim, num_classes : int
    eps : float
        Of the layer norms.
    pool : str
        One of :data:`POOLS`.
    class_token : bool
        Whether there is one; without, `pool` is an average.
    layer_scale, qk_norm : bool
    distilled : bool
        Whether a second token with a head of its own was trained on a teacher (DeiT).
    registers : int
        Further tokens that belong to no patch.
    embed_prefix : bool
        Whether position embeddings are added to the tokens that belong to no patch, too.
    pre_logits : int
        Width of a linear layer and tanh before the head; 0 for none.
    stem : tuple of (int, int)
        Channels and stride of the 3 x 3 convolutions in place of the patches' projection.
    ensemble_scale : {"none", "scalar", "channel"}
        Weights of the paths.
    placement : {"final", "stream"}
        Whether these weigh the sum that the head reads, or all that is written to the stream.
    """

    image_size: int
    patch_size: int
    hidden_dim: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    num_classes: int
    eps: float = 1e-6
    pool: str = "token"
    class_token: bool = True
    layer_scale: bool = False
    qk_norm: bool = False
    distilled: bool = False
    registers: int = 0
    embed_prefix: bool = True
    pre_logits: int = 0
    stem: tuple[tuple[int, int], ...] = ()
    ensemble_scale: str = "none"
    placement: str = "final"

    def __post_init__(self) -> None:
        stem = tuple((int(channels), int(stride)) for channels, stride in self.stem)
        object.__setattr__(self, "stem", stem)
        for name in _WHOLE:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < _WHOLE[name]:
                raise ConfigError(
                    f"{name} must be a whole number of at least {_WHOLE[name]}; got {value!r}"
                )
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name} must be one of {', '.join(known)}; got {getattr(self, name)!r}"
                )
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"image_size {self.image_size} must be a multiple of patch_size {self.patch_size}"
            )
        if self.hidden_dim % self.num_heads:
            raise ConfigError(
                f"hidden_dim {self.hidden_dim} must be a multiple of num_heads {self.num_heads}"
            )
        if stem and math.prod(stride for _, stride in stem) != self.patch_size:
            raise ConfigError(f"strides of the stem must multiply to patch_size {self.patch_size}")
        if not self.class_token and (self.pool == "token" or self.distilled):
            raise ConfigError("a network without class_token needs an average as pool")
        if self.distilled and (self.pool != "token" or self.pre_logits):
            raise ConfigError("a distilled network has pool 'token' and no pre_logits")

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> ViTConfig:
        """Read plain data; raises :class:`ConfigError`."""
        known = [field.name for field in fields(cls)]
        for name in config:
            if name not in known:
                raise ConfigError(f"unknown field {name!r}; use some of {', '.join(known)}")
        try:
            return cls(**config)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the configuration cannot be used: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "stem": [list(one) for one in self.stem]}

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size

    @property
    def prefix(self) -> int:
        """Tokens that belong to no patch; they come first."""
        return int(self.class_token) + int(self.distilled) + self.registers

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.prefix + self.grid**2

    @property
    def num_paths(self) -> int:
        """Module paths: the embedding and two a layer."""
        return 2 * self.num_layers + 1


_WHOLE = {
    "image_size": 1,
    "patch_size": 1,
    "hidden_dim": 1,
    "num_layers": 1,
    "num_heads": 1,
    "mlp_dim": 1,
    "num_classes": 1,
    "registers": 0,
    "pre_logits": 0,
}
_CHOICES = {"pool": POOLS, "ensemble_scale": SCALES, "placement": PLACEMENTS}
SMALL: dict[str, dict[str, Any]] = {
    "vit-tiny": {"hidden_dim": 96, "num_layers": 8, "num_heads": 3, "mlp_dim": 192},
    "vit-deep": {"hidden_dim": 48, "num_layers": 16, "num_heads": 3, "mlp_dim": 96},
}
"""Networks for small images: what they add to image size, patch size and number of classes."""


def path_names(num_layers: int) -> list[str]:
    """Return the names of the module paths, in the order of the sum: ``embed``, ``msa_0``, ..."""
    return ["embed", *(f"{kind}_{i}" for i in range(num_layers) for kind in ("msa", "ffn"))]
