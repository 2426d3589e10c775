"""Exact path sums of Swin transformers (arXiv 2103.14030), the package's and torchvision's.

A Swin is a sum of paths, too, but its stream changes its width between the stages: patches are
merged, normalised and projected. With the statistics of that layer norm kept as they are in the
whole network, merging is linear, so every path can be pushed through it to the end; what the norms
add themselves becomes a path of its own, ``merge_0`` and so on. The classifier normalises before
it averages, so that every path has a map over the last patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.swin_classifier import merged
from napari_cvsuite.paths.decompose import NotDecomposableError

__all__ = ["SwinShares", "looks_like_swin", "swin_direct"]

_PRE, _POST = "SwinTransformerBlock", "SwinTransformerBlockV2"
_MERGE_PRE, _MERGE_POST = "PatchMerging", "PatchMergingV2"


@dataclass(frozen=True)
class SwinShares:
    """The prediction of a Swin as a sum over its paths.

    Parameters
    ----------
    names : tuple of str
        ``embed``, then ``msa_0``, ``ffn_0``, ... numbered through all stages, with ``merge_0``
        after the first stage and so on; last ``const``.
    values : Tensor, shape (P + 1, B, K)
        Direct share of each path in the logits, all norms frozen; the last row is the constant.
    maps : Tensor, shape (P, B, h, w, K)
        The same over the patches of the last stage; they sum to `values`.
    removed_final : Tensor, shape (P, B, K)
        Logits with the path left out of the sum that the last norm reads, which is computed anew.
    logits : Tensor, shape (B, K)
        Of the whole network.
    """

    names: tuple[str, ...]
    values: Tensor
    maps: Tensor
    removed_final: Tensor
    logits: Tensor

    @property
    def residual(self) -> float:
        """Largest difference between the sum of the shares and the logits."""
        return float((self.values.sum(dim=0) - self.logits).abs().max())


def looks_like_swin(model: nn.Module) -> bool:
    """Return whether a network is built like torchvision's Swin transformers, as the package's."""
    return type(model).__name__ == "SwinTransformer" and isinstance(
        getattr(model, "features", None), nn.Sequential
    )


def swin_direct(model: nn.Module, x: Tensor, context: Context | None = None) -> SwinShares:
    """Split the logits of a Swin into the shares of its paths (specified by arXiv 2308.06548).

    Parameters
    ----------
    model : nn.Module
        A ``SwinTransformer`` of the package or of torchvision, version 1 or 2, in eval mode.
    x : Tensor, shape (B, 3, H, W)
        Normalised images.
    context : Context, optional

    Raises
    ------
    NotDecomposableError
        The network is no such Swin, or one whose blocks are unknown; the message says why.
    """
    if not looks_like_swin(model):
        raise NotDecomposableError(
            f"{type(model).__name__} is no Swin transformer of torchvision; its paths are unknown"
        )
    network: Any = model
    if network.training:
        raise NotDecomposableError("the network is in training mode; call eval() first")
    with torch.inference_mode():
        stem, *stages = network.features
        z = stem(x)
        names, parts = ["embed"], [z]
        layer = merges = 0
        for stage in stages:
            if isinstance(stage, nn.Sequential):
                for block in stage:
                    if context is not None:
                        context.check()
                    for kind, write in _writes(block, z):
                        z = z + write
                        names.append(f"{kind}_{layer}")
                        parts.append(write)
                    layer += 1
            else:
                z, parts = _merged(stage, z, parts)
                names.append(f"merge_{merges}")
                merges += 1
        return _finished(network, z, names, parts)


def _writes(block: nn.Module, z: Tensor) -> Any:
    """Yield what a block adds: the second write depends on the first having been added."""
    kind, parts = type(block).__name__, block
    named: Any = parts
    if kind == _PRE:
        write = named.attn(named.norm1(z))
        yield "msa", write
        yield "ffn", named.mlp(named.norm2(z + write))
    elif kind == _POST:
        write = named.norm1(named.attn(z))
        yield "msa", write
        yield "ffn", named.norm2(named.mlp(z + write))
    else:
        raise NotDecomposableError(
            f"blocks of class {kind} are unknown: what they add to the stream cannot be told"
        )


def _frozen(norm: nn.LayerNorm, parts: Tensor, whole: Tensor) -> Tensor:
    """Normalise parts ``P x B x ...`` with the deviation of the whole, without the shift."""
    deviation = (whole.var(dim=-1, correction=0, keepdim=True) + norm.eps).sqrt()
    return (parts - parts.mean(dim=-1, keepdim=True)) / deviation * norm.weight


def _merged(merge: nn.Module, z: Tensor, parts: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Push the stream and all its parts through a merging; its shift becomes the last part."""
    named: Any = merge
    kind = type(merge).__name__
    whole, pieces = merged(z), merged(torch.stack(parts))
    if kind == _MERGE_PRE:
        pieces = named.reduction(_frozen(named.norm, pieces, whole))
        shift = named.reduction(named.norm.bias)
    elif kind == _MERGE_POST:
        pieces = _frozen(named.norm, named.reduction(pieces), named.reduction(whole))
        shift = named.norm.bias
    else:
        raise NotDecomposableError(f"merging of class {kind} is unknown: it may not be linear")
    made = named(z)
    return made, [*pieces, shift.expand_as(made)]


def _finished(network: Any, z: Tensor, names: list[str], parts: list[Tensor]) -> SwinShares:
    """Push the parts through the last norm, the average and the head."""
    norm, head = network.norm, network.head
    stack = torch.stack(parts)
    patches = z.shape[1] * z.shape[2]
    maps = _frozen(norm, stack, z) @ head.weight.T / patches
    constant = (head.weight @ norm.bias + head.bias).expand(1, len(z), -1)
    without = norm(z[None] - stack).mean(dim=(2, 3))
    return SwinShares(
        names=(*names, "const"),
        values=torch.cat([maps.sum(dim=(2, 3)), constant]),
        maps=maps,
        removed_final=head(without),
        logits=head(norm(z).mean(dim=(1, 2))),
    )
