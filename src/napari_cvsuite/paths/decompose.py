"""The prediction of a vision transformer as an exact sum over its paths.

Pre-norm layers add what they compute to one stream, so that the final sum is the embedding plus
what every attention module and every feed-forward network wrote (arXiv 2308.06548; the derivation
is ours). Frozen at the deviations of the final norm, the classifier is linear and gives every
write its *direct* share of the logits. Shares split further, exactly: over heads, over the tokens
that a head reads from, over the tokens that the classifier reads.

A direct share says what a path writes, not what the network would do without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.vit import Stream, VisionTransformer
from napari_cvsuite.paths.exact import exact
from napari_cvsuite.paths.reading import (
    Frozen,
    NotDecomposableError,
    checked,
    freeze,
    linear_output,
    rows_of,
    unit_of,
)

__all__ = [
    "NotDecomposableError",
    "Paths",
    "bias_direct",
    "collect",
    "direct",
    "head_direct",
    "head_source_direct",
    "residual",
    "rows",
    "source_direct",
    "token_map",
]


@dataclass(frozen=True, eq=False, repr=False)
class Paths:
    """Everything a network wrote for a batch of images, on the network's device.

    Paths are counted as in :func:`napari_cvsuite.models.vit.path_names`: P = 2L + 1.

    Parameters
    ----------
    raw : tuple of Tensor, each (B, T, D)
        What the embedding and every module wrote, before an EnsembleScale.
    writes : tuple of Tensor, each (B, T, D)
        Their contributions to the final sum, weighed by an EnsembleScale if there is one.
    streams : tuple of Stream
        Before the first layer and after each; L + 1.
    between : tuple of Stream
        Within each layer, after attention; L.
    logits : Tensor, shape (B, K)
        Equal to the network's own, bit for bit.
    observed : Tensor, shape (B, K) or (B, width of pre_logits)
        What the direct shares add up to.
    unit : {"logits", "pre_logits"}
        What that is: a network with a tanh in its head is split up to there only.
    """

    raw: tuple[Tensor, ...]
    writes: tuple[Tensor, ...]
    streams: tuple[Stream, ...]
    between: tuple[Stream, ...]
    logits: Tensor
    observed: Tensor
    unit: str

    @property
    def states(self) -> tuple[Tensor, ...]:
        """The stream z_0, ..., z_L that the layers read, each ``B x T x D``."""
        return tuple(stream.z for stream in self.streams)

    @property
    def middles(self) -> tuple[Tensor, ...]:
        """The stream between attention and feed-forward network, each ``B x T x D``."""
        return tuple(stream.z for stream in self.between)

    @property
    def final(self) -> Tensor:
        """The sum that the classifier reads, ``B x T x D``."""
        return self.streams[-1].final


@exact()
def collect(model: nn.Module, x: Tensor, context: Context | None = None) -> Paths:
    """Run a network once, module by module, and keep what each wrote.

    Parameters
    ----------
    model : nn.Module
        A :class:`~napari_cvsuite.models.vit.VisionTransformer` in eval mode.
    x : Tensor of float32 or float64, shape (B, 3, S, S)
        Normalised images on the network's device.
    context : Context, optional
        Asked for cancellation between modules.

    Raises
    ------
    NotDecomposableError
        The network is no vision transformer, is in training mode or in half precision.
    ValueError
        The images do not fit, or the logits are not finite.
    Cancelled
    """
    network, context = checked(model), context or Context()
    if not x.is_floating_point() or not len(x):
        raise ValueError(f"give at least one image of float32; got {len(x)} of {x.dtype}")
    raw = [network.embed(x.to(network.encoder.pos_embedding.dtype))]
    streams, between = [network.start(raw[0])], []
    for number, block in enumerate(network.blocks):
        context.check()
        raw.append(block.msa(streams[-1].z))
        between.append(network.add(streams[-1], 2 * number + 1, raw[-1]))
        context.check()
        raw.append(block.ffn(between[-1].z))
        streams.append(network.add(between[-1], 2 * number + 2, raw[-1]))
    logits = network.classify(streams[-1].final)
    if not logits.isfinite().all():
        raise ValueError("the network's logits are not finite; check its weights and the image")
    unit = unit_of(network)
    return Paths(
        tuple(raw),
        tuple(_weighed(network, number, write) for number, write in enumerate(raw)),
        tuple(streams),
        tuple(between),
        logits,
        logits if unit == "logits" else linear_output(network, streams[-1].final),
        unit,
    )


@exact()
def direct(model: nn.Module, paths: Paths, classes: Sequence[int] | None = None) -> Tensor:
    """Return the direct share of every path.

    Parameters
    ----------
    model : nn.Module
    paths : Paths
        From :func:`collect` with this network.
    classes : sequence of int, optional
        Outputs that are wanted; default all.

    Returns
    -------
    Tensor, shape (P + 1, B, K)
        The last row is the constant of the biases of norm and head; the sum over the rows is
        `paths.observed`.

    Raises
    ------
    NotDecomposableError
        The head is all zero.
    ValueError
        There is no such class.
    """
    frozen = freeze(checked(model), paths.final, classes)
    pooled = torch.stack([frozen.pooled(write) for write in paths.writes])
    shares = frozen.shares(pooled)
    return torch.cat([shares, frozen.constant.expand(1, *shares.shape[1:])])


def residual(model: nn.Module, paths: Paths) -> float:
    """Return the largest difference between the sum of the direct shares and what it should be."""
    return float((direct(model, paths).sum(dim=0) - paths.observed).abs().max())


@exact()
def head_direct(model: nn.Module, paths: Paths, classes: Sequence[int] | None = None) -> Tensor:
    """Return the direct share ``L x H x B x K`` of every attention head.

    The output bias, which belongs to no head, is left out: :func:`bias_direct`. Both add up to the
    share of the attention path. Raises as :func:`direct` does.
    """
    network = checked(model)
    frozen, found = freeze(network, paths.final, classes), []
    for layer, block in enumerate(network.blocks):
        attention = block.self_attention
        q, k, v = attention.project(block.ln_1(paths.streams[layer].z))
        mixed = F.scaled_dot_product_attention(q[:, :, frozen.read], k, v)
        pooled = torch.einsum("bqt,bhtd->hbqd", frozen.weights, mixed)
        written = torch.einsum("hbqd,ohd->hbqo", pooled, _output(network, layer))
        found.append(frozen.shares(written))
    return torch.stack(found)


@exact()
def bias_direct(model: nn.Module, paths: Paths, classes: Sequence[int] | None = None) -> Tensor:
    """Return the direct share ``L x B x K`` of the output bias of every attention module."""
    network = checked(model)
    frozen, found = freeze(network, paths.final, classes), []
    for layer, block in enumerate(network.blocks):
        bias = block.self_attention.out_proj.bias * _gain(network, layer)
        found.append(frozen.shares(frozen.weights.sum(dim=-1, keepdim=True) * bias))
    return torch.stack(found)


@exact()
def source_direct(
    model: nn.Module,
    paths: Paths,
    classes: Sequence[int] | None = None,
    context: Context | None = None,
) -> Tensor:
    """Return the direct share ``L x T x B x K`` that attention draws from every token.

    Summed over heads, without the output bias. Patches have a place in the image, so that this is
    an additive heat map; the tokens before them have none. Raises as :func:`direct` does; and
    Cancelled.
    """
    network, context = checked(model), context or Context()
    frozen, found = freeze(network, paths.final, classes), []
    for layer in range(network.config.num_layers):
        context.check()
        drawn, matrix = _drawn(network, paths, layer, frozen)
        found.append(drawn.permute(2, 0, 1, 3).flatten(2) @ matrix.flatten(0, 1))
    return torch.stack(found)


@exact()
def head_source_direct(
    model: nn.Module, paths: Paths, layer: int, classes: Sequence[int] | None = None
) -> Tensor:
    """Return the direct share ``H x T x B x K`` that every head of a layer draws from every token.

    Raises
    ------
    NotDecomposableError
        The head is all zero.
    ValueError
        There is no such layer or class.
    """
    network = checked(model)
    if not 0 <= layer < network.config.num_layers:
        last = network.config.num_layers - 1
        raise ValueError(f"there is no layer {layer}; choose from 0 to {last}")
    drawn, matrix = _drawn(network, paths, layer, freeze(network, paths.final, classes))
    return (drawn.permute(1, 2, 0, 3) @ matrix[:, None]).contiguous()


@exact()
def token_map(model: nn.Module, paths: Paths, k: int) -> Tensor:
    """Return where the direct shares of all paths in output `k` come from, ``P x B x N``.

    N patch tokens; summed over them this is the direct share. Only for classifiers that read an
    average of the patches.

    Raises
    ------
    NotDecomposableError
        The classifier reads the class token alone, or its head is all zero.
    ValueError
        There is no such class.
    """
    network = checked(model)
    if network.config.pool == "token":
        raise NotDecomposableError(
            "the classifier reads the class token alone, so that a path has no map over the "
            "patches; use the source tokens of an attention path instead"
        )
    frozen, found = freeze(network, paths.final, [k]), []
    for write in paths.writes:
        read = write[:, frozen.read]
        centred = read - read.mean(dim=-1, keepdim=True)
        found.append((centred @ frozen.matrix)[..., 0] * frozen.weights[:, 0])
    return torch.stack(found)


def rows(model: nn.Module, paths: Paths) -> Tensor:
    """Return what the heads read of every path, ``P x B x Q x R x D``.

    Q heads (2 in distilled networks), of which each normalises R rows and averages them: 1, or all
    patches where the norm comes before the average. This is all that is needed to combine paths
    anew.
    """
    config = checked(model).config
    return torch.stack([rows_of(config, write) for write in paths.writes])


def _weighed(model: VisionTransformer, path: int, write: Tensor) -> Tensor:
    weighed: Tensor = write
    if model.ensemble_scale is not None:
        weighed = model.ensemble_scale(path, write)
    return weighed


def _gain(model: VisionTransformer, layer: int) -> Tensor:
    """Return what multiplies the output of an attention module on its way to the sum."""
    block = model.blocks[layer]
    gain = block.scaled_msa(torch.ones_like(block.self_attention.out_proj.bias))
    return _weighed(model, 2 * layer + 1, gain)


def _output(model: VisionTransformer, layer: int) -> Tensor:
    """Return the output matrix of a layer's attention by head, ``D x H x D/H``, scales applied."""
    attention = model.blocks[layer].self_attention
    weight: Tensor = attention.out_proj.weight * _gain(model, layer)[:, None]
    return weight.view(-1, attention.num_heads, attention.head_dim)


def _drawn(
    model: VisionTransformer, paths: Paths, layer: int, frozen: Frozen
) -> tuple[Tensor, Tensor]:
    """Return values weighed by attention, and the matrix that makes shares of them.

    Shapes ``B x H x T x QE`` and ``H x QE x K``, with E = D/H. Moving the output matrix to the
    classifier's side needs no ``T x D`` write of any head.
    """
    block = model.blocks[layer]
    q, k, v = block.self_attention.project(block.ln_1(paths.streams[layer].z))
    weights = block.self_attention.weights(q[:, :, frozen.read], k)
    drawn = torch.einsum("bqt,bhts->bhsq", frozen.weights, weights)
    heads = frozen.matrix.reshape(frozen.weights.shape[1], model.config.hidden_dim, -1)
    matrix = torch.einsum("ohe,qok->hqek", _output(model, layer), heads)
    return (drawn[..., None] * v[..., None, :]).flatten(3), matrix.flatten(1, 2)
