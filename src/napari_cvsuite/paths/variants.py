"""Streams with a change in them, and how they run on to their logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.vit import Stream, VisionTransformer
from napari_cvsuite.paths.decompose import Paths
from napari_cvsuite.paths.replace import Replacement, mixed_values

__all__ = ["TOTALS", "Entry", "Write", "entries_of", "grown", "onward", "written"]

TOTALS = ("total_edge", "total_module", "total_layer", "total_head")
"""Kinds of total effects."""


@dataclass(frozen=True, eq=False, repr=False)
class Entry:
    """A changed stream.

    Parameters
    ----------
    stream : Stream
    within : bool
        Whether the feed-forward network of its layer is still to run.
    """

    stream: Stream
    within: bool


Write = Callable[[int], Tensor]
"""Gives what a path writes when it is replaced."""


def written(model: VisionTransformer, paths: Paths, replacement: Replacement | None) -> Write:
    """Return what gives the replacement of a path."""
    if replacement is None:
        zero = paths.logits.new_zeros(1, 1, model.config.hidden_dim)
        return lambda number: zero
    replacement.check(model, len(paths.logits))
    writes = replacement.writes
    return lambda number: writes[number]


def entries_of(
    model: VisionTransformer, kind: str, paths: Paths, replacement: Replacement | None
) -> Callable[[int], list[Entry]]:
    """Return what gives the variants of a layer, in the order of the result.

    Raises
    ------
    ValueError
        The kind is unknown, or the replacement does not fit.
    """
    write = written(model, paths, replacement)

    def edge(layer: int) -> list[Entry]:
        stream = model.add(paths.streams[layer], 2 * layer + 1, write(2 * layer + 1))
        return [Entry(model.add(stream, 2 * layer + 2, paths.raw[2 * layer + 2]), False)]

    def module(layer: int) -> list[Entry]:
        msa = model.add(paths.streams[layer], 2 * layer + 1, write(2 * layer + 1))
        ffn = model.add(paths.between[layer], 2 * layer + 2, write(2 * layer + 2))
        return [Entry(msa, True), Entry(ffn, False)]

    def both(layer: int) -> list[Entry]:
        stream = model.add(paths.streams[layer], 2 * layer + 1, write(2 * layer + 1))
        return [Entry(model.add(stream, 2 * layer + 2, write(2 * layer + 2)), False)]

    def heads(layer: int) -> list[Entry]:
        return _head_entries(model, paths, replacement, layer)

    kinds = dict(zip(TOTALS, (edge, module, both, heads), strict=True))
    if kind not in kinds:
        raise ValueError(f"there is no total effect {kind!r}; choose one of {', '.join(TOTALS)}")
    if kind == "total_head" and replacement is not None and replacement.mixed is None:
        raise ValueError("the replacement holds no heads; make it with heads=True")
    return kinds[kind]


def _head_entries(
    model: VisionTransformer, paths: Paths, replacement: Replacement | None, layer: int
) -> list[Entry]:
    block, found = model.blocks[layer], []
    mixed = mixed_values(block, paths.streams[layer].z)
    for head in range(model.config.num_heads):
        changed = mixed.clone()
        if replacement is None or replacement.mixed is None:
            changed[:, head] = 0
        else:
            changed[:, head] = replacement.mixed[layer][:, head]
        made = block.scaled_msa(block.self_attention.merge(changed))
        found.append(Entry(model.add(paths.streams[layer], 2 * layer + 1, made), True))
    return found


def onward(model: VisionTransformer, entry: Entry, layer: int, context: Context) -> Tensor:
    """Run the stream of a variant of a layer to its logits ``B x K``."""
    stream, blocks = entry.stream, model.blocks
    if entry.within:
        stream = model.add(stream, 2 * layer + 2, blocks[layer].ffn(stream.z))
    for number in range(layer + 1, len(blocks)):
        context.check()
        stream = model.add(stream, 2 * number + 1, blocks[number].msa(stream.z))
        context.check()
        stream = model.add(stream, 2 * number + 2, blocks[number].ffn(stream.z))
    return model.classify(stream.final)


def grown(
    model: VisionTransformer,
    entries: Callable[[int], list[Entry]],
    context: Context,
    kind: str,
) -> Tensor:
    """Advance all variants of a kind together; logits ``V x B x K`` in the order of the layers."""
    steps, variants = 2 * model.config.num_layers, 0
    streams: list[Stream] = []
    for layer, block in enumerate(model.blocks):
        context.progress(2 * layer, steps, kind)
        if streams:
            batch = _joined(streams)
            streams = [model.add(batch, 2 * layer + 1, block.msa(batch.z))]
        context.progress(2 * layer + 1, steps, kind)
        new = entries(layer)
        variants += len(new)
        # In a layer, variants from before its feed-forward network precede those from behind it.
        streams += [entry.stream for entry in new if entry.within]
        if streams:
            batch = _joined(streams)
            streams = [model.add(batch, 2 * layer + 2, block.ffn(batch.z))]
        streams += [entry.stream for entry in new if not entry.within]
    context.check()
    logits = model.classify(_joined(streams).final)
    return logits.view(variants, -1, logits.shape[-1])


def _joined(streams: Sequence[Stream]) -> Stream:
    totals = [stream.total for stream in streams if stream.total is not None]
    z = torch.cat([stream.z for stream in streams])
    return Stream(z, torch.cat(totals) if totals else None)
