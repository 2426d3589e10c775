"""Make a trained QTSeg wider without forgetting what it learned.

Net2Net (Chen, Goodfellow and Shlens, arXiv 1511.05641): channels are copied, and whatever reads
them shares its weights among the copies, so that the wide network computes what the narrow one
did. The shares are uneven, so that copies part in training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from napari_cvsuite.models.qtseg import QTSeg, QTSegConfig

__all__ = ["widen"]

_SPREAD = 0.5
"""Shares are drawn in proportion to numbers of 1 - this to 1 + this."""
_BUFFERS = ("mask_tokens.weight", "positional_encoding_gaussian_matrix")
"""Two-dimensional, but nothing reads their first dimension or writes their second."""


def widen(state: Mapping[str, Tensor], n_channel: int, seed: int = 0) -> dict[str, Tensor]:
    """Return the weights of a network of width `n_channel` that starts from a narrower one.

    Twice or three times the width gives the same logits, up to rounding. In between, some channels
    have more copies than others: the layer normalisations of the decoder weigh these more, and
    the logits are close.

    Parameters
    ----------
    state : mapping of str to Tensor
        State dict of a QTSeg with eight heads, with the reference's key names.
    n_channel : int
        Width to reach, a multiple of 4.
    seed : int
        Of the shares.

    Returns
    -------
    dict of str to Tensor
        The same keys; float32 where `state` holds floating-point numbers.

    Raises
    ------
    ValueError
        `n_channel` is no multiple of 4, or less than the width of `state`.
    """
    config = QTSegConfig.from_state_dict(dict(state))
    if n_channel % 4 or n_channel < config.n_channel:
        raise ValueError(
            f"a network of width {config.n_channel} cannot be widened to {n_channel}; "
            f"choose a multiple of 4 from {config.n_channel} on"
        )
    with torch.device("meta"):
        goal = QTSeg(replace(config, n_channel=n_channel)).state_dict()
    copies = _Copies(config.n_channel, n_channel, seed)
    return {key: copies.spread(key, value, goal[key].shape) for key, value in state.items()}


class _Copies:
    """Every `old` neighbouring channels become `new`: themselves and, from the first on, copies.

    Both numbers are as small as the ratio of the widths allows, so that the pattern survives
    the joining and halving of maps and the division of channels among heads.
    """

    def __init__(self, narrow: int, wide: int, seed: int) -> None:
        common = math.gcd(narrow, wide)
        self.old, self.new = narrow // common, wide // common
        self.source = torch.arange(self.new) % self.old
        self.count = torch.bincount(self.source)[self.source].float()
        self.random = torch.Generator().manual_seed(seed)

    def spread(self, key: str, value: Tensor, shape: torch.Size) -> Tensor:
        """Return one tensor of the wide network, of the given shape."""
        if not value.is_floating_point():
            return value.clone()
        reads = _reading_dimension(key, value)
        wide = value.float()
        for dim, size in enumerate(shape):
            if wide.shape[dim] == size:
                continue
            wide = wide.index_select(dim, self._sources(wide.shape[dim]))
            if dim == reads:
                wide = wide * self._shares(wide, dim)
        scale = self._scale(key)
        if scale is not None:
            whole = scale.repeat(shape[0] // self.new)
            wide = wide * whole.view(-1, *[1] * (wide.ndim - 1))
        return wide.contiguous()

    def _sources(self, size: int) -> Tensor:
        """Return the old channel of each new one."""
        groups = torch.arange(0, size, self.old)[:, None]
        return (groups + self.source).flatten()

    def _shares(self, wide: Tensor, dim: int) -> Tensor:
        """Return what each copy keeps of a weight, for every output of its own; of sum 1."""
        other = 1 - dim
        drawn = torch.rand(wide.shape[other], wide.shape[dim], generator=self.random)
        drawn = (1 + _SPREAD * (2 * drawn - 1)).view(drawn.shape[0], -1, self.new)
        alike = (self.source[:, None] == self.source).float()
        shares = (drawn / (drawn @ alike)).flatten(1)
        shares = shares if dim == 1 else shares.T
        return shares.view(*shares.shape, *[1] * (wide.ndim - 2))

    def _scale(self, key: str) -> Tensor | None:
        """Return the factor of each of `new` outputs that meet their copies in a scalar product."""
        if ".q_proj." in key:
            # Attention divides by the root of a head's channels, of which there are more now.
            return math.sqrt(self.new / self.old) / self.count
        if ".MLP_s0." in key and ".layers.2." in key:
            return 1 / self.count
        return None


def _reading_dimension(key: str, value: Tensor) -> int | None:
    """Return the dimension of a weight that runs over its input, if there is one."""
    if value.ndim < 2 or key.endswith(_BUFFERS):
        return None
    transposed = ".conv_transpose." in key or (".SUB_s" in key and value.ndim == 4)
    return 0 if transposed else 1
