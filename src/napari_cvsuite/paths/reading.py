"""What the classifier reads of the final sum, and the share of a part of the sum in its output.

Every head normalises one or more *rows* of the final sum and averages them: the class token, the
mean of the patch tokens, or all patch tokens; a distilled network has two heads, which are
averaged. With the deviations of the norm kept as they are in the whole network, all of this is
linear, so that the share of a part is a weighted sum of its tokens times one matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from napari_cvsuite.models.vit import VisionTransformer, ViTConfig

__all__ = [
    "Frozen",
    "NotDecomposableError",
    "checked",
    "class_list",
    "classify_rows",
    "freeze",
    "linear_output",
    "read_tokens",
    "rows_of",
    "unit_of",
]


class NotDecomposableError(ValueError):
    """A network, or a part of it, has no exact sum; the message says which and why."""


def checked(model: nn.Module) -> VisionTransformer:
    """Return a network that can be split into paths.

    Raises
    ------
    NotDecomposableError
        It is none; the message names what was given.
    """
    name = type(model).__name__
    if not isinstance(model, VisionTransformer):
        raise NotDecomposableError(
            f"{name} cannot be split into paths: only a vision transformer whose layers add to one "
            "stream is such a sum; choose a ViT or DeiT model"
        )
    if model.training:
        raise NotDecomposableError("the network is in training mode; call eval() first")
    dtype = model.encoder.pos_embedding.dtype
    if dtype not in (torch.float32, torch.float64):
        raise NotDecomposableError(
            f"the weights are {dtype}, in which the sum of the paths misses the logits; "
            "load them as float32"
        )
    return model


def unit_of(model: VisionTransformer) -> str:
    """Return what shares add up to: ``logits``, or ``pre_logits`` where a tanh stands behind."""
    return "pre_logits" if model.config.pre_logits else "logits"


def read_tokens(config: ViTConfig) -> slice:
    """Return which tokens the classifier reads."""
    if config.pool == "token":
        return slice(0, 1 + int(config.distilled))
    return slice(config.prefix, None)


def rows_of(config: ViTConfig, tokens: Tensor) -> Tensor:
    """Return what the heads read of a sum or of a part of it.

    Parameters
    ----------
    config : ViTConfig
    tokens : Tensor, shape (..., T, D)

    Returns
    -------
    Tensor, shape (..., Q, R, D)
        For each of Q heads the R rows that it normalises and then averages.
    """
    read = tokens[..., read_tokens(config), :]
    if config.pool == "token":
        return read.unsqueeze(-2)
    if config.pool == "avg_norm_after":
        read = read.mean(dim=-2, keepdim=True)
    return read.unsqueeze(-3)


def classify_rows(model: VisionTransformer, rows: Tensor) -> Tensor:
    """Return the logits ``... x K`` of rows ``... x Q x R x D``; the norm is computed anew."""
    read = model.encoder.ln(rows).mean(dim=-2)
    logits: Tensor = model.heads(read[..., 0, :])
    if model.config.distilled:
        logits = (logits + model.heads.get_submodule("head_dist")(read[..., 1, :])) / 2
    return logits


def linear_output(model: VisionTransformer, final: Tensor) -> Tensor:
    """Return what the shares of a final sum ``B x T x D`` add up to; see :func:`unit_of`."""
    if not model.config.pre_logits:
        return model.classify(final)
    read = model.encoder.ln(rows_of(model.config, final)).mean(dim=-2)
    out: Tensor = model.heads.get_submodule("pre_logits")(read[..., 0, :])
    return out


def class_list(classes: Sequence[int] | None, count: int) -> list[int]:
    """Return chosen outputs, all if none are named.

    Raises
    ------
    ValueError
        There is no such output.
    """
    chosen = list(range(count)) if classes is None else [int(one) for one in classes]
    for one in chosen:
        if not 0 <= one < count:
            raise ValueError(f"there is no class {one}; choose from 0 to {count - 1}")
    return chosen


@dataclass(frozen=True, eq=False, repr=False)
class Frozen:
    """The classifier as a linear map, for the statistics of one batch of final sums.

    Spec: ``C_p = What p / sigma`` with ``What = W diag(gamma) (I - 11^T / D)``, derived from the
    definition of layer norm.

    Parameters
    ----------
    weights : Tensor, shape (B, Q, T')
        How much each token that is read counts for each head, 1 / sigma within.
    read : slice
        Which tokens these are.
    matrix : Tensor, shape (Q * D, K)
        What of all heads, transposed and divided by their number.
    constant : Tensor, shape (K,)
        Share of the biases of norm and head.
    """

    weights: Tensor
    read: slice
    matrix: Tensor
    constant: Tensor

    def pooled(self, part: Tensor) -> Tensor:
        """Return the weighted sum ``B x Q x D`` of the tokens of a part ``B x T x D``."""
        return self.weights @ part[:, self.read]

    def shares(self, pooled: Tensor) -> Tensor:
        """Return the shares ``... x K`` of what :meth:`pooled` gave, ``... x Q x D``."""
        # Subtracting the mean here, too, keeps rounding small where it is large.
        centred = pooled - pooled.mean(dim=-1, keepdim=True)
        return centred.flatten(-2) @ self.matrix


def freeze(model: VisionTransformer, final: Tensor, classes: Sequence[int] | None = None) -> Frozen:
    """Return the classifier with the deviations that its norm has for given final sums.

    Parameters
    ----------
    model : VisionTransformer
    final : Tensor, shape (B, T, D)
    classes : sequence of int, optional
        Outputs that are wanted; default all.

    Raises
    ------
    NotDecomposableError
        The head's weights are all zero.
    ValueError
        There is no such class.
    """
    norm, config = model.encoder.ln, model.config
    names = ["pre_logits"] if config.pre_logits else ["head"]
    heads = [getattr(model.heads, name) for name in [*names, *["head_dist"] * config.distilled]]
    if not any(bool(head.weight.any()) for head in heads):
        raise NotDecomposableError(
            "the weights of the head are all zero, so that every share is 0: the network was "
            "never trained; load trained weights"
        )
    chosen = class_list(classes, len(heads[0].weight))
    matrices = [head.weight[chosen] * norm.weight for head in heads]
    matrix = torch.cat([one - one.mean(dim=1, keepdim=True) for one in matrices], dim=1).T
    constants = [head.weight[chosen] @ norm.bias + head.bias[chosen] for head in heads]
    rows = rows_of(config, final)
    scale = (rows.var(dim=-1, correction=0) + norm.eps).rsqrt()
    if config.pool == "token":
        weights = torch.diag_embed(scale[..., 0])
    else:
        weights = (scale / config.grid**2).expand(-1, -1, config.grid**2)
    return Frozen(
        weights,
        read_tokens(config),
        matrix / len(heads),
        torch.stack(constants).mean(dim=0),
    )
