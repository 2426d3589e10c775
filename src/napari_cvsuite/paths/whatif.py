"""What a prediction becomes without its paths: interventions on one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_cvsuite.images import Image, ImageError, read
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.planes import Planes
from napari_cvsuite.models.subject import Likely, see_plane
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths.decompose import Paths
from napari_cvsuite.paths.intervene import attribution_patching, removed_final, total
from napari_cvsuite.paths.options import WhatIfOptions
from napari_cvsuite.paths.replace import Replacement, mean_replacement, writes_of
from napari_cvsuite.paths.session import Session
from napari_cvsuite.paths.subject import (
    Target,
    names_of,
    normalised,
    quietly,
    slices,
    target_of,
)

__all__ = ["WhatIf", "each", "of_session", "part_names", "replacement_for", "run"]

MOST_IMAGES = 1000
"""Slices of which the mean is taken at most."""


@dataclass(frozen=True)
class WhatIf:
    """What a kind of intervention does to the prediction for one plane.

    Parameters
    ----------
    intervention, replacement : str
    names : tuple of str
        What was taken away in each of N interventions: a path, ``layer_3``, ``msa_3.head_1``, or
        several paths together, ``msa_0+ffn_3``; ``ffn_3*0.5`` has the weight 0.5.
    effects : ndarray of float32, shape (N, K)
        Logits minus logits after it, positive where it supports the class.
    estimates : ndarray of float32, shape (N,), or None
        First-order estimate of the effect on the target: what the path writes times the gradient,
        ``attribution_patching``. Of total_module with zero, each path in turn.
    logits : ndarray of float32, shape (K,)
    target : Target
    classes : tuple of str
        Names of the K classes.
    before, after : tuple of Likely
        The likeliest classes; `after` is empty where each part was taken away in turn.
    images : int
        Slices that the replacement was made from.
    provenance : dict
    """

    intervention: str
    replacement: str
    names: tuple[str, ...]
    effects: NDArray[np.float32]
    estimates: NDArray[np.float32] | None
    logits: NDArray[np.float32]
    target: Target
    classes: tuple[str, ...]
    before: tuple[Likely, ...]
    after: tuple[Likely, ...]
    images: int
    provenance: dict[str, Any]

    @property
    def predictions(self) -> tuple[str, ...]:
        """The likeliest class after each intervention."""
        best = (self.logits - self.effects).argmax(axis=1)
        return tuple(self.classes[k] for k in best)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each intervention, for the target."""
        effects, was = self.target.of(self.effects), self.classes[int(self.logits.argmax())]
        return [
            {
                "path": name,
                "intervention": self.intervention,
                "replacement": self.replacement,
                "class": self.target.name,
                "effect": float(effects[k]),
                "estimate": None if self.estimates is None else float(self.estimates[k]),
                "prediction": after,
                "changed": after != was,
            }
            for k, (name, after) in enumerate(zip(self.names, self.predictions, strict=True))
        ]


def run(
    image: Image,
    options: WhatIfOptions,
    context: Context,
    others: Sequence[Image | Path] = (),
) -> WhatIf:
    """Take paths of the prediction for a plane away, each in turn or some together.

    Parameters
    ----------
    image : Image
    options : WhatIfOptions
    context : Context
    others : sequence of Image or Path
        What the replacement is made from: the mean over all their slices, or the first slice of
        the first. Default the other slices of the image itself.

    Raises
    ------
    ImageError, OptionError
        An image cannot be used, there is none to make the replacement from, or there is no such
        class or path; the message says what to do.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    session = Session.start(image, options, context)
    replacement = replacement_for(session, image, options, quietly(context), others)
    return of_session(session, options, context, replacement)


def of_session(
    session: Session,
    options: WhatIfOptions,
    context: Context,
    replacement: Replacement | None = None,
) -> WhatIf:
    """Do the same for an image that a network has been run on; see :func:`run`.

    Raises
    ------
    OptionError, ValueError, Cancelled
    """
    target = target_of(options.target, session.subject, session.logits)
    after: tuple[Likely, ...] = ()
    if options.changes:
        answer = session.weighed(options.changes, options.intervention, replacement, context)
        logits = torch.from_numpy(answer.logits)[None]
        names: tuple[str, ...] = (answer.name,)
        after = answer.likely
    else:
        kind = options.intervention
        logits = each(session.model, session.paths, kind, replacement, context)[:, 0].cpu()
        names = part_names(options.intervention, session.model)
    effects = session.logits - logits
    estimates = None
    if _estimated(options):
        slopes = attribution_patching(session.model, session.x, target.classes, quietly(context))
        # The first is that of the embedding, which is no module.
        estimates = target.chosen(slopes[1:, 0]).float().cpu().numpy()
    return WhatIf(
        options.intervention,
        options.replacement,
        names,
        effects.float().numpy(),
        estimates,
        session.logits.float().numpy(),
        target,
        session.subject.card.classes,
        session.subject.likely(session.logits),
        after,
        0 if replacement is None else replacement.images,
        session.provenance(
            options,
            intervention=options.intervention,
            replacement=options.replacement,
            **{"class": target.name},
        ),
    )


def replacement_for(
    session: Session,
    image: Image,
    options: WhatIfOptions,
    context: Context,
    others: Sequence[Image | Path] = (),
) -> Replacement | None:
    """Return what is written in place of a path; None for zero.

    Raises
    ------
    ImageError
        There is no other image or slice.
    Cancelled
    """
    if options.replacement == "zero":
        return None
    heads = options.intervention == "total_head"
    if options.replacement == "other":
        another = _another(session, image, options, context, others)
        return writes_of(session.model, another.paths, "other", heads)
    return mean_replacement(
        session.model, _references(session, image, options, context, others), heads, context
    )


def part_names(intervention: str, model: VisionTransformer) -> tuple[str, ...]:
    """Return what an intervention takes away in turn."""
    layers, heads = range(model.config.num_layers), range(model.config.num_heads)
    if intervention == "total_layer":
        return tuple(f"layer_{layer}" for layer in layers)
    if intervention == "total_edge":
        return tuple(f"msa_{layer}" for layer in layers)
    if intervention == "total_head":
        return tuple(f"msa_{layer}.head_{head}" for layer in layers for head in heads)
    names = names_of(model)
    return names if intervention == "removed_final" else names[1:]


def _estimated(options: WhatIfOptions) -> bool:
    """Say whether the estimate is of what is asked: each module replaced by zero."""
    alone = options.intervention == "total_module" and options.replacement == "zero"
    return options.estimate and alone and not options.changes


def each(
    model: VisionTransformer,
    paths: Paths,
    intervention: str,
    replacement: Replacement | None,
    context: Context,
) -> Tensor:
    """Return the logits ``N x B x K`` after taking away each of :func:`part_names` in turn.

    Raises
    ------
    ValueError, Cancelled
    """
    if intervention == "removed_final":
        return removed_final(model, paths)
    return total(model, paths, intervention, replacement, context).flatten(0, -3)


def _another(
    session: Session,
    image: Image,
    options: WhatIfOptions,
    context: Context,
    others: Sequence[Image | Path],
) -> Session:
    """Return the first slice of another image, or the next slice of the same stack."""
    if others:
        first = others[0]
        other = read(first) if isinstance(first, Path) else first
        return session.another(other, 0, context)
    count = len(Planes(image, options, context.check).indices())
    if count < 2:
        raise ImageError(
            "there is no other slice to take what paths write from; give another image"
        )
    return session.another(image, (options.plane + 1) % count, context)


def _references(
    session: Session,
    image: Image,
    options: WhatIfOptions,
    context: Context,
    others: Sequence[Image | Path],
) -> list[Tensor]:
    """Return other images, or the other slices of the same stack, one at a time."""
    subject = session.subject
    if others:
        found = [seen for _, seen in slices(others, subject, MOST_IMAGES, context)]
    else:
        planes = Planes(image, options, context.check)
        numbers = [k for k in range(len(planes.indices())) if k != options.plane]
        found = [see_plane(planes, number, subject) for number in numbers[:MOST_IMAGES]]
    if not found:
        raise ImageError("there are no other slices to take the mean over; give more images")
    return [normalised(subject, seen.tensor()) for seen in found]
