"""Maps over the patches of one image, on the grid of the patches and not resampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_cvsuite.images import Grid, Image
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.paths.decompose import (
    NotDecomposableError,
    head_source_direct,
    source_direct,
    token_map,
)
from napari_cvsuite.paths.options import MapOptions
from napari_cvsuite.paths.session import Session
from napari_cvsuite.paths.subject import Target, number_of, target_of
from napari_cvsuite.paths.views import chefer, cls_attention, rollout, similarity, token_norm

__all__ = ["PathMap", "of_session", "run"]


@dataclass(frozen=True)
class PathMap:
    """One value for every patch of what a network sees.

    Parameters
    ----------
    values : ndarray of float32, shape (g, g)
    signed : bool
        Whether values are positive and negative; a share of the class is, where 0 is no influence.
    grid : Grid
        Where the values lie on the plane.
    kind : str
        One of :data:`napari_cvsuite.paths.options.MAPS`.
    name : str
        In words: kind, path or layer, head, and class.
    own : float or None
        Of a share, what is drawn from tokens that have no place in the image, such as the class
        token itself; None for other maps.
    total : float or None
        Of a share, the values and `own` together. With the shares of the output biases of
        attention, which come from no token, that is the direct share of the paths.
    target : str
        The class that is explained; empty for maps that know no class.
    provenance : dict
    """

    values: NDArray[np.float32]
    signed: bool
    grid: Grid
    kind: str
    name: str
    own: float | None
    total: float | None
    target: str
    provenance: dict[str, Any]


def run(image: Image, options: MapOptions, context: Context) -> PathMap:
    """Map what a path, or the class token, takes from the patches of a plane.

    Parameters
    ----------
    image : Image
    options : MapOptions
    context : Context

    Raises
    ------
    ImageError, OptionError, NotDecomposableError, ValueError
        The image cannot be used, or the network has no such path, head, layer, class or map.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    return of_session(Session.start(image, options, context), options, context)


def of_session(session: Session, options: MapOptions, context: Context) -> PathMap:
    """Make a map of an image that a network has been run on; see :func:`run`."""
    own = whole = None
    target = target_of(options.target, session.subject, session.logits)
    explained, name = target.name, options.kind.replace("_", " ")
    if options.kind == "share":
        values, own, whole, what = _share(session, options, target)
        name = f"share of {what} in {target.name}"
    elif options.kind == "relevance":
        if target.minus is not None:
            raise OptionError("relevance is that of one class; name one, or choose share")
        values = chefer(session.model, session.x, target.one, context)[0]
        name = f"relevance for {target.name}"
    else:
        explained = ""
        values, what = _without_class(session, options, context)
        name += what
    side = session.model.config.grid
    square = values.float().cpu().reshape(side, side).numpy()
    return PathMap(
        square,
        options.kind in ("share", "similarity"),
        session.seen.grid((side, side)),
        options.kind,
        name,
        own,
        whole,
        explained,
        session.provenance(
            options,
            intervention="direct" if options.kind == "share" else options.kind,
            **{"class": explained},
        ),
    )


def _share(
    session: Session, options: MapOptions, target: Target
) -> tuple[Tensor, float, float, str]:
    """Return the share of each patch, of what has no place, of all; and words for the path."""
    if session.paths.unit != "logits":
        raise NotDecomposableError(
            "this network's head has a tanh, so that no logit is a sum over patches; choose "
            "another map"
        )
    if session.model.config.pool != "token":
        return _share_of_read(session, options, target)
    prefix, head = session.model.config.prefix, options.head
    if not options.path:
        sources = target.chosen(_sources(session, target)).sum(dim=0)
        what = "all attention paths"
    elif not options.path.startswith("msa_"):
        raise OptionError(
            f"{options.path} acts on the class token alone and has no map; choose an msa path"
        )
    else:
        layer = (number_of(options.path, session.names) - 1) // 2
        what = options.path
        if head < 0:
            sources = target.chosen(_sources(session, target))[layer]
        else:
            found = head_source_direct(session.model, session.paths, layer, target.classes)
            if head >= len(found):
                raise OptionError(
                    f"{options.path} has {len(found)} heads, 0 to {len(found) - 1}; got {head}"
                )
            sources, what = target.chosen(found[:, :, 0])[head], f"{what} head {head}"
    return sources[prefix:], float(sources[:prefix].sum()), float(sources.sum()), what


def _sources(session: Session, target: Target) -> Tensor:
    """Return the shares ``L x T x C`` that the attention paths draw from every token."""
    return source_direct(session.model, session.paths, target.classes)[:, :, 0]


def _share_of_read(
    session: Session, options: MapOptions, target: Target
) -> tuple[Tensor, float, float, str]:
    """Do the same where the classifier averages the patches: where each path writes its share."""
    if options.head >= 0:
        raise OptionError(
            "this network's classifier averages the patches, and its map shows where a path "
            "writes, for all heads together; leave the head away"
        )
    maps = [token_map(session.model, session.paths, k)[:, 0] for k in target.classes]
    found = maps[0] if len(maps) == 1 else maps[0] - maps[1]
    if options.path:
        values, what = found[number_of(options.path, session.names)], options.path
    else:
        values, what = found.sum(dim=0), "all paths"
    return values, 0.0, float(values.sum()), what


def _without_class(session: Session, options: MapOptions, context: Context) -> tuple[Tensor, str]:
    """Return a map that knows no class, and words for layer and head."""
    model, paths, layers = session.model, session.paths, session.model.config.num_layers
    if options.kind == "rollout":
        return rollout(model, paths, context)[0], ""
    layer = options.layer if options.layer >= 0 else layers - 1
    if layer >= layers:
        raise OptionError(f"the network has {layers} layers, 0 to {layers - 1}; got {layer}")
    what = f" of layer {layer}"
    if options.kind == "similarity":
        return similarity(model, paths)[layer + 1, 0], what
    if options.kind == "token_norm":
        return token_norm(model, paths)[layer + 1, 0], what
    heads = cls_attention(model, paths)[layer, 0]
    if options.head < 0:
        return heads.mean(dim=0), f"{what}, mean of {len(heads)} heads"
    if options.head >= len(heads):
        raise OptionError(
            f"the layer has {len(heads)} heads, 0 to {len(heads) - 1}; got {options.head}"
        )
    return heads[options.head], f"{what}, head {options.head}"
