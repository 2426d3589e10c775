"""What a path writes in place of its own: the mean over other images, or that of one of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.vit import Block, VisionTransformer
from napari_cvsuite.paths.decompose import Paths, collect
from napari_cvsuite.paths.exact import exact
from napari_cvsuite.paths.reading import checked

__all__ = ["Replacement", "mean_replacement", "mixed_values", "writes_of"]


@dataclass(frozen=True, eq=False, repr=False)
class Replacement:
    """What paths write when they are replaced; nothing (zero) needs none.

    Parameters
    ----------
    name : str
        Such as ``"mean"`` or ``"image"``, for tables.
    writes : tuple of Tensor, each (1 or B, T, D)
        For every path, as the module gives it: before an EnsembleScale.
    mixed : tuple of Tensor, each (1 or B, H, T, D/H), or None
        For every layer, the values that its heads mixed; needed to replace single heads. Writes
        depend on them linearly, so that their mean gives the mean of the writes.
    images : int
        How many images it was made from.
    """

    name: str
    writes: tuple[Tensor, ...]
    mixed: tuple[Tensor, ...] | None
    images: int

    def check(self, model: VisionTransformer, batch: int) -> None:
        """Raise ValueError if it fits neither a network nor a batch of images."""
        config = model.config
        shape = (config.tokens, config.hidden_dim)
        fits = len(self.writes) == config.num_paths and all(
            len(one) in (1, batch) and tuple(one.shape[1:]) == shape for one in self.writes
        )
        if self.mixed is not None:
            heads = (config.num_heads, config.tokens, config.hidden_dim // config.num_heads)
            fits = fits and len(self.mixed) == config.num_layers
            fits = fits and all(
                len(one) in (1, batch) and tuple(one.shape[1:]) == heads for one in self.mixed
            )
        if not fits:
            raise ValueError(
                f"the replacement must hold {config.num_paths} writes of 1 or {batch} x "
                f"{shape[0]} x {shape[1]}; make it with the same network"
            )


@exact()
def writes_of(
    model: nn.Module, paths: Paths, name: str = "image", heads: bool = False
) -> Replacement:
    """Return what the paths wrote for other images, to be patched in.

    Parameters
    ----------
    model : nn.Module
    paths : Paths
        Of one image, or of as many as are changed.
    name : str
    heads : bool
        Whether single heads are to be replaced, too.
    """
    network, mixed = checked(model), None
    if heads:
        pairs = zip(network.blocks, paths.states[:-1], strict=True)
        mixed = tuple(mixed_values(block, z) for block, z in pairs)
    return Replacement(name, paths.raw, mixed, len(paths.logits))


@exact()
def mean_replacement(
    model: nn.Module,
    batches: Iterable[Tensor],
    heads: bool = False,
    context: Context | None = None,
) -> Replacement:
    """Return the mean of what every path writes, per token and channel, over a reference set.

    Parameters
    ----------
    model : nn.Module
    batches : iterable of Tensor, each (B, 3, S, S)
        Normalised images.
    heads : bool
        Whether single heads are to be replaced, too.
    context : Context, optional

    Raises
    ------
    NotDecomposableError, ValueError
        The network is no vision transformer; images do not fit, or there are none.
    Cancelled
    """
    sums: list[Tensor] = []
    images, layers = 0, 0
    for x in batches:
        one = writes_of(model, collect(model, x, context), heads=heads)
        made = [part.sum(dim=0, keepdim=True) for part in (*one.writes, *(one.mixed or ()))]
        sums = [before + new for before, new in zip(sums, made, strict=True)] if sums else made
        images, layers = images + one.images, len(one.mixed or ())
    if not images:
        raise ValueError("the reference set is empty; name at least one image")
    means = tuple(part / images for part in sums)
    count = len(means) - layers
    return Replacement("mean", means[:count], means[count:] if heads else None, images)


def mixed_values(block: Block, z: Tensor) -> Tensor:
    """Return the values that each head of a layer mixed, ``B x H x T x D/H``, of its stream."""
    attention = block.self_attention
    return F.scaled_dot_product_attention(*attention.project(block.ln_1(z)))
