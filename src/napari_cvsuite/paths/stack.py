"""What the predictions for all slices of a stack become without some paths, slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.subject import see_plane
from napari_cvsuite.paths.options import WhatIfOptions
from napari_cvsuite.paths.replace import Replacement, mean_replacement, writes_of
from napari_cvsuite.paths.session import Session
from napari_cvsuite.paths.subject import Target, normalised, provenance, quietly, target_of
from napari_cvsuite.paths.whatif import MOST_IMAGES, replacement_for

__all__ = ["StackEffects", "run"]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class StackEffects:
    """What an intervention does to the predictions for all N slices of a stack.

    Parameters
    ----------
    intervention, replacement : str
    name : str
        What was changed, such as ``msa_0+ffn_3``.
    indices : tuple of dict
        Position of each slice along the axes of the stack.
    before, after : ndarray of float32, shape (N, K)
        Logits of each slice, without and with the intervention; NaN for slices without any finite
        pixel.
    target : Target
        The class asked for, or the one that is predicted for the slice ``options.plane``.
    classes : tuple of str
        Names of the K classes.
    provenance : dict
    """

    intervention: str
    replacement: str
    name: str
    indices: tuple[dict[str, int], ...]
    before: Floats
    after: Floats
    target: Target
    classes: tuple[str, ...]
    provenance: dict[str, Any]

    @property
    def effects(self) -> Floats:
        """Logit of the target that each slice loses, N values; positive: the paths support it."""
        effects: Floats = self.target.of(self.before - self.after)
        return effects

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Whether another class is the likeliest after it, N values."""
        changed: NDArray[np.bool_] = self.before.argmax(axis=1) != self.after.argmax(axis=1)
        return changed

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each slice: likeliest class before and after, and the target's logit."""
        logits = [self.target.of(one) for one in (self.before, self.after)]
        tops = [self._tops(one) for one in (self.before, self.after)]
        changed, effects = self.changed, self.effects
        return [
            {
                "slice": number,
                **index,
                "before": tops[0][number][0],
                "probability_before": tops[0][number][1],
                "after": tops[1][number][0],
                "probability_after": tops[1][number][1],
                "changed": bool(changed[number]),
                "class": self.target.name,
                "logit_before": float(logits[0][number]),
                "logit_after": float(logits[1][number]),
                "effect": float(effects[number]),
                "paths": self.name,
                "intervention": self.intervention,
                "replacement": self.replacement,
            }
            for number, index in enumerate(self.indices)
        ]

    def _tops(self, logits: Floats) -> list[tuple[str, float]]:
        """Return the likeliest class of each slice, with its probability."""
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        shares = 1 / np.exp(shifted).sum(axis=1)
        return [
            ("" if np.isnan(share) else self.classes[k], float(share))
            for k, share in zip(logits.argmax(axis=1), shares, strict=True)
        ]


def run(
    image: Image,
    options: WhatIfOptions,
    context: Context,
    others: Sequence[Image | Path] = (),
) -> StackEffects:
    """Take paths away together, or weigh them, in every slice of a stack.

    One slice is read and run at a time, so that no more of the stack is in memory. Each gets the
    numbers that :func:`napari_cvsuite.paths.whatif.run` gives for it, but for rounding.

    Parameters
    ----------
    image : Image
        A single plane is a stack of one slice.
    options : WhatIfOptions
        With paths that are switched off or weighed. The class predicted for the slice `plane` is
        the target of all slices where none is named.
    context : Context
    others : sequence of Image or Path
        What the replacement is made from; default the other slices of the stack (for a mean the
        first 1000 of them, which are run once more), or the next slice.

    Raises
    ------
    ImageError, OptionError
        As :func:`napari_cvsuite.paths.whatif.run`, or no paths are named.
    UnknownModelError, CardError, WeightsError, DeviceError, ValueError, Cancelled
    """
    if not options.changes:
        raise OptionError("name the paths to take away in every slice, such as off=msa_0,ffn_3")
    first = Session.start(image, options, context)
    subject = first.subject
    # Paths that do not exist are told of before anything long begins.
    name = first.weighed(options.changes).name
    target = target_of(options.target, subject, first.logits)
    planes = first.planes
    indices = planes.indices()
    instead = _instead(first, image, options, context, others)
    shape = len(indices), len(first.logits)
    before, after = (np.full(shape, np.nan, np.float32) for _ in range(2))
    quiet = quietly(context)
    for number in range(len(indices)):
        context.progress(number, len(indices), f"slice {number + 1} of {len(indices)}")
        with _blank_passed_over():
            session = first.on(planes, number, quiet)
            made = instead(session, number)
            answer = session.weighed(options.changes, options.intervention, made, quiet)
            before[number], after[number] = session.logits, answer.logits
    facts = provenance(
        subject,
        options,
        None,
        image=image.name,
        intervention=options.intervention,
        replacement=options.replacement,
        paths=name,
        slices=len(indices),
        **{"class": target.name},
    )
    return StackEffects(
        options.intervention,
        options.replacement,
        name,
        tuple(indices),
        before,
        after,
        target,
        subject.card.classes,
        facts,
    )


@contextmanager
def _blank_passed_over() -> Iterator[None]:
    """Let a slice without any finite pixel stay unknown, and the job go on."""
    try:
        yield
    except ImageError as error:
        if not error.blank:
            raise


Instead = Callable[[Session, int], Replacement | None]
"""Gives what is written in the place of paths in a slice, by its session and number."""


def _instead(
    first: Session,
    image: Image,
    options: WhatIfOptions,
    context: Context,
    others: Sequence[Image | Path],
) -> Instead:
    """Return what gives the replacement; what all slices share is made once."""
    count = len(first.planes.indices())
    if options.replacement == "zero" or others:
        shared = replacement_for(first, image, options, context, others)
        return lambda session, number: shared
    if count < 2:
        raise ImageError("there are no other slices to take what paths write from; give an image")
    if options.replacement == "other":

        def following(session: Session, number: int) -> Replacement:
            after = session.on(first.planes, (number + 1) % count, quietly(context))
            return writes_of(after.model, after.paths, "other")

        return following
    whole, used = _mean(first, min(count, MOST_IMAGES), context)
    return lambda session, number: _less(whole, session) if number in used else whole


def _mean(session: Session, count: int, context: Context) -> tuple[Replacement, set[int]]:
    """Return the mean of what paths write for the first slices, and the numbers of these."""
    used: set[int] = set()

    def batches() -> Iterator[Tensor]:
        for number in range(count):
            context.progress(number, count, "mean over the slices")
            with _blank_passed_over():
                seen = see_plane(session.planes, number, session.subject)
                used.add(number)
                yield normalised(session.subject, seen.tensor())

    return mean_replacement(session.model, batches(), context=quietly(context)), used


def _less(whole: Replacement, own: Session) -> Replacement:
    """Return a mean without one of its slices.

    Raises
    ------
    ImageError
        There was no other.
    """
    rest = whole.images - 1
    if not rest:
        raise ImageError("no other slice has a finite pixel to take a mean over; give images")
    writes = (
        mean + (mean - write) / rest
        for mean, write in zip(whole.writes, own.paths.raw, strict=True)
    )
    return Replacement(whole.name, tuple(writes), None, rest)
