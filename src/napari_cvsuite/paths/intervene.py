"""What a prediction becomes without a path: interventions with names that are never mixed.

The effect of an intervention is ``logits - logits after it``, positive where the path supports the
class. Its definitions are ours; a share that is frozen, a removal from the final sum alone and a
removal throughout answer different questions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.vit import VisionTransformer, path_names
from napari_cvsuite.paths.decompose import Paths
from napari_cvsuite.paths.exact import exact, with_gradients
from napari_cvsuite.paths.reading import checked, class_list, classify_rows, rows_of
from napari_cvsuite.paths.replace import Replacement
from napari_cvsuite.paths.variants import TOTALS, entries_of, grown, onward
from napari_cvsuite.paths.weigh import check_numbers, weighed_final, weighed_throughout

__all__ = [
    "TOTALS",
    "attribution_patching",
    "one_total",
    "removed_final",
    "removed_final_set",
    "switched_off",
    "total",
]


@exact()
def removed_final(model: nn.Module, paths: Paths) -> Tensor:
    """Return the logits ``P x B x K`` with each path left out of the final sum.

    The final norm is recomputed; later layers still see the path.
    """
    network = checked(model)
    final = rows_of(network.config, paths.final)
    without = [final - rows_of(network.config, write) for write in paths.writes]
    return torch.stack([classify_rows(network, one) for one in without])


def removed_final_set(model: nn.Module, paths: Paths, numbers: Collection[int]) -> Tensor:
    """Return the logits ``B x K`` with several paths left out of the final sum together.

    Parameters
    ----------
    model : nn.Module
    paths : Paths
    numbers : collection of int
        Paths, as numbered by :func:`napari_cvsuite.models.vit.path_names`.

    Raises
    ------
    ValueError
        There is no such path.
    """
    return weighed_final(model, paths, dict.fromkeys(numbers, 0.0))


@exact()
def total(
    model: nn.Module,
    paths: Paths,
    kind: str,
    replacement: Replacement | None = None,
    context: Context | None = None,
    grow: bool = False,
) -> Tensor:
    """Return the logits after each intervention of a kind, everything behind it recomputed.

    What comes before the change is taken from `paths`, so that the effects of all modules of L
    layers cost L (L - 1) attention modules and L more feed-forward networks.

    Parameters
    ----------
    model : nn.Module
    paths : Paths
        From :func:`~napari_cvsuite.paths.decompose.collect` with this network.
    kind : str
        One of :data:`TOTALS`.
    replacement : Replacement, optional
        What is written instead; default nothing (zero).
    context : Context, optional
        Asked for cancellation between modules; told of progress.
    grow : bool
        Let all variants advance together in one batch that grows layer by layer: faster on a GPU
        or with several threads, at the price of memory for as many images as there are variants.
        Rounding then differs in the last digits.

    Returns
    -------
    Tensor
        total_module (P - 1, B, K) for paths 1, 2, ...; total_edge and total_layer (L, B, K);
        total_head (L, H, B, K).

    Raises
    ------
    ValueError
        The kind is unknown, or the replacement does not fit.
    Cancelled
    """
    network, context = checked(model), context or Context()
    entries = entries_of(network, kind, paths, replacement)
    layers = network.config.num_layers
    each = {"total_module": 2, "total_head": network.config.num_heads}.get(kind, 1)
    if grow:
        logits = grown(network, entries, context, kind)
    else:
        found: list[Tensor] = []
        for layer in range(layers):
            for entry in entries(layer):
                context.progress(len(found), each * layers, kind)
                found.append(onward(network, entry, layer, context))
        logits = torch.stack(found)
    return logits.view(layers, each, *logits.shape[1:]) if kind == "total_head" else logits


@exact()
def one_total(
    model: nn.Module,
    paths: Paths,
    kind: str,
    number: int,
    head: int | None = None,
    replacement: Replacement | None = None,
    context: Context | None = None,
) -> Tensor:
    """Return the logits ``B x K`` after one intervention; it costs less than one run.

    Parameters
    ----------
    model : nn.Module
    paths : Paths
    kind : str
        One of :data:`TOTALS`.
    number : int
        The path. For total_layer either path of the layer; for total_edge and total_head its
        attention path. The embedding (0) has a total_module only.
    head : int, optional
        Of total_head.
    replacement, context
        As for :func:`total`.

    Raises
    ------
    ValueError
        There is no such kind, path or head, or the replacement does not fit.
    Cancelled
    """
    network = checked(model)
    check_numbers(network, [number])
    entries = entries_of(network, kind, paths, replacement)
    if kind == "total_module":
        return switched_off(network, paths, [number], replacement, context)
    name = path_names(network.config.num_layers)[number]
    if number == 0 or (kind != "total_layer" and number % 2 == 0):
        raise ValueError(f"{kind} needs an attention path such as msa_0; got {name}")
    layer, place = (number - 1) // 2, 0
    if kind == "total_head":
        if head is None or not 0 <= head < network.config.num_heads:
            last = network.config.num_heads - 1
            raise ValueError(f"there is no head {head}; choose from 0 to {last}")
        place = head
    return onward(network, entries(layer)[place], layer, context or Context())


def switched_off(
    model: nn.Module,
    paths: Paths,
    numbers: Collection[int],
    replacement: Replacement | None = None,
    context: Context | None = None,
) -> Tensor:
    """Return the logits ``B x K`` with several paths replaced together, throughout.

    Everything from the first of them on is recomputed.

    Parameters
    ----------
    model : nn.Module
    paths : Paths
    numbers : collection of int
        Paths, the embedding (0) among them if wanted.
    replacement, context
        As for :func:`total`.

    Raises
    ------
    ValueError
        There is no such path, or the replacement does not fit.
    Cancelled
    """
    off = dict.fromkeys(numbers, 0.0)
    return weighed_throughout(model, paths, off, replacement, context)


def attribution_patching(
    model: nn.Module,
    x: Tensor,
    classes: Sequence[int] | None = None,
    context: Context | None = None,
) -> Tensor:
    """Estimate total effects to first order: the sum over ``path * d logit / d path``.

    Parameters
    ----------
    model : nn.Module
        Its weights need no gradients.
    x : Tensor, shape (B, 3, S, S)
        Normalised images.
    classes : sequence of int, optional
        Classes that are wanted, each a backward pass; default all.
    context : Context, optional
        Asked for cancellation between classes; told of progress.

    Returns
    -------
    Tensor, shape (P, B, K)

    Raises
    ------
    NotDecomposableError, ValueError
        The network is no vision transformer; the images do not fit; there is no such class.
    Cancelled
    """
    network, context = checked(model), context or Context()
    chosen, found = class_list(classes, network.config.num_classes), []
    with with_gradients():
        writes, logits = _recorded(network, x)
        for done, k in enumerate(chosen):
            context.progress(done, len(chosen), "attribution_patching")
            score = logits[:, k].sum()
            slopes = torch.autograd.grad(score, writes, retain_graph=done + 1 < len(chosen))
            pairs = zip(writes, slopes, strict=True)
            found.append(torch.stack([(p.detach() * slope).sum((1, 2)) for p, slope in pairs]))
    return torch.stack(found, dim=-1)


def _recorded(model: VisionTransformer, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Run a network with gradients; what was written before an EnsembleScale, and the logits."""
    with torch.no_grad():
        # An image from torch's inference mode cannot take part otherwise.
        tokens = model.embed(x.clone())
    writes = [tokens.requires_grad_()]
    stream = model.start(tokens)
    for number, block in enumerate(model.blocks):
        writes.append(block.msa(stream.z))
        stream = model.add(stream, 2 * number + 1, writes[-1])
        writes.append(block.ffn(stream.z))
        stream = model.add(stream, 2 * number + 2, writes[-1])
    return writes, model.classify(stream.final)
