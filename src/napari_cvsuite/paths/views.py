"""Further views of a transformer: attention, relevance, predictions by depth, likeness, norms.

Attention is computed from the stream by calling the parts of a layer, so that no fused kernel
hides it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths.decompose import Paths
from napari_cvsuite.paths.exact import exact, with_gradients
from napari_cvsuite.paths.fourier import (
    Change,
    fourier,
    fourier_curve,
    fourier_sum,
    frequency_change,
)
from napari_cvsuite.paths.reading import checked, class_list, read_tokens, rows_of

__all__ = [
    "Change",
    "attention",
    "chefer",
    "cls_attention",
    "fourier",
    "fourier_curve",
    "fourier_sum",
    "frequency_change",
    "logit_lens",
    "path_norm",
    "rollout",
    "similarity",
    "token_norm",
]


@exact()
def attention(model: nn.Module, paths: Paths, layer: int) -> Tensor:
    """Return the attention matrices ``B x H x T x T`` of a layer; rows sum to 1.

    Raises
    ------
    ValueError
        There is no such layer.
    """
    network = checked(model)
    if not 0 <= layer < network.config.num_layers:
        last = network.config.num_layers - 1
        raise ValueError(f"there is no layer {layer}; choose from 0 to {last}")
    block = network.blocks[layer]
    q, k, _ = block.self_attention.project(block.ln_1(paths.streams[layer].z))
    return block.self_attention.weights(q, k)


@exact()
def cls_attention(model: nn.Module, paths: Paths) -> Tensor:
    """Return how much the class token attends to every patch, ``L x B x H x N``.

    Raises
    ------
    ValueError
        The network has no class token.
    """
    config = _with_class_token(model).config
    layers = (attention(model, paths, layer) for layer in range(config.num_layers))
    return torch.stack([weights[:, :, 0, config.prefix :] for weights in layers])


@exact()
def rollout(model: nn.Module, paths: Paths, context: Context | None = None) -> Tensor:
    """Return attention rollout over the patches, ``B x N`` (Abnar and Zuidema 2020, 2005.00928).

    ``R <- (0.5 A + 0.5 I) R`` in the order of the layers, A the mean over heads, and of R the row
    of the class token; in networks that read an average the mean row of the patches, in distilled
    ones that of both tokens (our definition). Raises Cancelled.
    """
    network, context = checked(model), context or Context()
    row = _read_row(network, len(paths.logits), paths.final)
    # Only one row is wanted: multiplying it from the last layer on saves the T x T products.
    for layer in reversed(range(network.config.num_layers)):
        context.check()
        row = 0.5 * (row @ attention(network, paths, layer).mean(dim=1)) + 0.5 * row
    return row[:, 0, network.config.prefix :]


def chefer(
    model: nn.Module,
    x: Tensor,
    classes: int | Sequence[int] | None = None,
    context: Context | None = None,
) -> Tensor:
    """Return the relevance of every patch for a class, ``B x N``; zero or more.

    ``R <- R + mean_h relu(dA * A) R`` from the identity on, dA the gradient of one logit, and of R
    the row that :func:`rollout` takes (Chefer, Gur and Wolf 2021, arXiv 2103.15679).

    Parameters
    ----------
    model : nn.Module
        Its weights need no gradients.
    x : Tensor, shape (B, 3, S, S)
        Normalised images.
    classes : int or sequence of int, optional
        One class, or one an image; default the predicted one of each.
    context : Context, optional
        Asked for cancellation between layers.

    Raises
    ------
    NotDecomposableError, ValueError
        The network is no vision transformer; the images do not fit; there is no such class.
    Cancelled
    """
    network, context = checked(model), context or Context()
    with with_gradients():
        matrices, logits = _attending(network, x, context)
        chosen = _chosen(network, logits, classes)
        score = logits.gather(1, chosen[:, None]).sum()
        slopes = torch.autograd.grad(score, matrices)
    with exact():
        row = _read_row(network, len(x), logits)
        for weights, slope in zip(reversed(matrices), reversed(slopes), strict=True):
            row = row + row @ (weights.detach() * slope).clamp_min(0).mean(dim=1)
    return row[:, 0, network.config.prefix :]


@exact()
def logit_lens(model: nn.Module, paths: Paths) -> Tensor:
    """Return what the classifier says of the sum after each layer, ``L + 1 x B x K``.

    From 0, the embedding alone, to L, the whole network.
    """
    network = checked(model)
    return torch.stack([network.classify(stream.final) for stream in paths.streams])


@exact()
def similarity(model: nn.Module, paths: Paths, patch: int | None = None) -> Tensor:
    """Return how alike every patch token and another are, ``L + 1 x B x N``, in [-1, 1].

    Parameters
    ----------
    model : nn.Module
    paths : Paths
    patch : int, optional
        Compare with this patch, counted by rows from 0; default with the class token.

    Raises
    ------
    ValueError
        There is no such patch, or no class token.
    """
    config = checked(model).config
    if patch is None:
        place = 0
        _with_class_token(model)
    elif 0 <= patch < config.grid**2:
        place = config.prefix + patch
    else:
        raise ValueError(f"there is no patch {patch}; choose from 0 to {config.grid**2 - 1}")
    found = [
        F.cosine_similarity(z[:, config.prefix :], z[:, place : place + 1], dim=-1)
        for z in paths.states
    ]
    return torch.stack(found)


@exact()
def token_norm(model: nn.Module, paths: Paths) -> Tensor:
    """Return the Euclidean length of every patch token after each layer, ``L + 1 x B x N``.

    A few very long ones hold what belongs to no place (arXiv 2309.16588).
    """
    prefix = checked(model).config.prefix
    return torch.stack([z[:, prefix:].norm(dim=-1) for z in paths.states])


@exact()
def path_norm(model: nn.Module, paths: Paths) -> Tensor:
    """Return the Euclidean length of what the classifier reads of every path, ``P x B``.

    The class token, or the mean of the patches (before the norm, our definition).
    """
    config = checked(model).config
    rows = [rows_of(config, write)[:, 0].mean(dim=1) for write in paths.writes]
    return torch.stack([row.norm(dim=-1) for row in rows])


def _with_class_token(model: nn.Module) -> VisionTransformer:
    network = checked(model)
    if not network.config.class_token:
        raise ValueError("this network has no class token; choose a patch or another view")
    return network


def _read_row(model: VisionTransformer, batch: int, like: Tensor) -> Tensor:
    """Return what the classifier reads as weights of the tokens, ``B x 1 x T``."""
    row = like.new_zeros(batch, 1, model.config.tokens)
    read = row[..., read_tokens(model.config)]
    read.fill_(1 / read.shape[-1])
    return row


def _attending(
    model: VisionTransformer, x: Tensor, context: Context
) -> tuple[list[Tensor], Tensor]:
    """Run a network with its attention matrices as tensors that take gradients."""
    matrices: list[Tensor] = []
    with torch.no_grad():
        # An image from torch's inference mode cannot take part otherwise.
        stream = model.start(model.embed(x.clone()))
    for number, block in enumerate(model.blocks):
        context.check()
        attending = block.self_attention
        q, k, v = attending.project(block.ln_1(stream.z))
        weights = attending.weights(q, k)
        matrices.append(weights if weights.requires_grad else weights.requires_grad_())
        write = block.scaled_msa(attending.merge(matrices[-1] @ v))
        stream = model.add(stream, 2 * number + 1, write)
        stream = model.add(stream, 2 * number + 2, block.ffn(stream.z))
    return matrices, model.classify(stream.final)


def _chosen(
    model: VisionTransformer, logits: Tensor, classes: int | Sequence[int] | None
) -> Tensor:
    if classes is None:
        return logits.argmax(dim=1)
    named = [classes] * len(logits) if isinstance(classes, int) else list(classes)
    if len(named) != len(logits):
        raise ValueError(f"give one class, or one for each of {len(logits)} images")
    return torch.tensor(class_list(named, model.config.num_classes), device=logits.device)
