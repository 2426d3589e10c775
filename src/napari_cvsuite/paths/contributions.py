"""The prediction for one image as a sum over paths: the direct share of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cvsuite.images import Grid, Image
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.planes import Planes
from napari_cvsuite.models.subject import Likely, Seen, Subject, opened, see_plane
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths.decompose import (
    NotDecomposableError,
    Paths,
    bias_direct,
    collect,
    direct,
    head_direct,
)
from napari_cvsuite.paths.intervene import removed_final
from napari_cvsuite.paths.options import ContributionOptions, TargetOptions
from napari_cvsuite.paths.session import Session
from napari_cvsuite.paths.subject import (
    Target,
    floats,
    inner,
    names_of,
    normalised,
    provenance,
    target_of,
    transformer,
)
from napari_cvsuite.paths.swin import looks_like_swin, swin_direct
from napari_cvsuite.paths.views import path_norm

__all__ = ["SENTENCE", "Contributions", "of_session", "run"]

SENTENCE = (
    "A path's direct share says what it writes, not what the network would do without it. Not "
    "evidence for a diagnosis."
)
"""What every door says beside shares."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Contributions:
    """The logits of one plane, split over P paths; or how those of two planes differ.

    Parameters
    ----------
    names : tuple of str
        Of the paths, in the order of the sum.
    shares : ndarray of float32, shape (P + 1, K)
        Direct share of each path in the logit of each class, at the deviations that the final
        norm has; the last row is the constant of its bias and the head's.
    removed_final : ndarray of float32, shape (P, K)
        Effect of leaving the path out of the final sum, the norm computed anew: logits minus
        logits without it, positive where it supports the class.
    heads : ndarray of float32, shape (L, H, K)
        Direct shares of the attention heads; with `biases` they add up to those of the attention
        paths. No layers where they are unknown (Swin).
    biases : ndarray of float32, shape (L, K)
        Direct shares of the output biases of attention.
    norms : ndarray of float32, shape (P,)
        Length of what each path writes to what the classifier reads; NaN where unknown (Swin).
    logits : ndarray of float32, shape (K,)
    residual : float
        Largest difference between the sum of the shares and the logits.
    target : Target
    classes : tuple of str
        Names of the K classes.
    likely : tuple of Likely
        The likeliest classes.
    pixels : ndarray of float32, shape (S, S, 3)
        What the network sees, in [0, 1].
    grid : Grid
        Where these pixels lie on the plane.
    against : str
        Name of the other image, whose values are subtracted from all those above; empty for none.
    provenance : dict
    """

    names: tuple[str, ...]
    shares: Floats
    removed_final: Floats
    heads: Floats
    biases: Floats
    norms: Floats
    logits: Floats
    residual: float
    target: Target
    classes: tuple[str, ...]
    likely: tuple[Likely, ...]
    pixels: Floats
    grid: Grid
    against: str
    provenance: dict[str, Any]

    @property
    def centred(self) -> Floats:
        """The shares less their mean over the classes, which the probabilities do not feel."""
        return self.shares - self.shares.mean(axis=1, keepdims=True)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each path, and one for the constant, for the target."""
        shares, centred = self.target.of(self.shares), self.target.of(self.centred)
        removed = [*self.target.of(self.removed_final), None]
        norms = [*self.norms, None]
        return [
            {
                "path": name,
                "norm": None if norms[k] is None else float(norms[k]),
                "direct": float(shares[k]),
                "direct_centred": float(centred[k]),
                "removed_final": None if removed[k] is None else float(removed[k]),
            }
            for k, name in enumerate((*self.names, "constant"))
        ]


@dataclass(frozen=True)
class _Parts:
    """What is computed of one image, each of the shape in :class:`Contributions`."""

    names: tuple[str, ...]
    shares: Floats
    removed_final: Floats
    heads: Floats
    biases: Floats
    norms: Floats
    logits: Floats
    residual: float

    def minus(self, other: _Parts) -> _Parts:
        """Return the differences to another image."""
        return _Parts(
            self.names,
            self.shares - other.shares,
            self.removed_final - other.removed_final,
            self.heads - other.heads,
            self.biases - other.biases,
            self.norms - other.norms,
            self.logits - other.logits,
            max(self.residual, other.residual),
        )


def run(
    image: Image,
    options: ContributionOptions,
    context: Context,
    other: Image | None = None,
) -> Contributions:
    """Split the prediction for a plane into the shares of the paths.

    Parameters
    ----------
    image : Image
        Of any type and size; one plane is looked at.
    options : ContributionOptions
    context : Context
    other : Image, optional
        Another image, whose shares are subtracted; its plane is ``options.other_plane``.

    Raises
    ------
    ImageError, OptionError
        An image cannot be used, or there is no such class; the message says what to do.
    NotDecomposableError
        The logits of this network are no sum over its paths.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    with opened(options, context) as subject:
        network = inner(subject)
        if not looks_like_swin(network):
            network = transformer(subject)
        seen, parts = _split(subject, network, image, options.plane, context)
        against = ""
        likely = subject.likely(_tensor(parts.logits))
        target = target_of(options.target, subject, _tensor(parts.logits))
        if other is not None:
            context.progress(1, 2, "other image")
            _, others = _split(subject, network, other, options.other_plane, context)
            parts, against = parts.minus(others), other.name
        return _finished(subject, seen, image.name, parts, options, target, likely, against)


def of_session(session: Session, options: TargetOptions) -> Contributions:
    """Split the prediction for an image that a network has been run on; see :func:`run`.

    Raises
    ------
    OptionError, NotDecomposableError
    """
    subject = session.subject
    parts = _of_transformer(session.model, session.paths)
    target = target_of(options.target, subject, session.logits)
    likely = subject.likely(session.logits)
    return _finished(subject, session.seen, session.name, parts, options, target, likely, "")


def _split(
    subject: Subject, network: nn.Module, image: Image, plane: int, context: Context
) -> tuple[Seen, _Parts]:
    seen = see_plane(Planes(image, subject.options, context.check), plane, subject)
    x = normalised(subject, seen.tensor())
    if isinstance(network, VisionTransformer):
        return seen, _of_transformer(network, collect(network, x, context))
    return seen, _of_swin(network, x, context)


def _of_transformer(model: VisionTransformer, paths: Paths) -> _Parts:
    if paths.unit != "logits":
        raise NotDecomposableError(
            "this network's head has a tanh, so that no logit is a sum over paths; see what "
            "removed_final and the total effects say, which need no such sum"
        )
    shares = direct(model, paths)
    return _Parts(
        names_of(model),
        floats(shares[:, 0]),
        floats((paths.logits - removed_final(model, paths))[:, 0]),
        floats(head_direct(model, paths)[:, :, 0]),
        floats(bias_direct(model, paths)[:, 0]),
        floats(path_norm(model, paths)[:, 0]),
        floats(paths.logits[0]),
        float((shares.sum(dim=0) - paths.observed).abs().max()),
    )


def _of_swin(model: nn.Module, x: Tensor, context: Context) -> _Parts:
    found = swin_direct(model, x, context)
    classes, count = found.logits.shape[1], len(found.names) - 1
    return _Parts(
        found.names[:-1],
        floats(found.values[:, 0]),
        floats((found.logits - found.removed_final)[:, 0]),
        np.zeros((0, 0, classes), np.float32),
        np.zeros((0, classes), np.float32),
        np.full(count, np.nan, np.float32),
        floats(found.logits[0]),
        found.residual,
    )


def _finished(
    subject: Subject,
    seen: Seen,
    name: str,
    parts: _Parts,
    options: TargetOptions,
    target: Target,
    likely: tuple[Likely, ...],
    against: str,
) -> Contributions:
    made = provenance(
        subject,
        options,
        seen,
        image=name,
        interventions=["direct", "removed_final"],
        **{"class": target.name},
        against=against,
    )
    return Contributions(
        **vars(parts),
        target=target,
        classes=subject.card.classes,
        likely=likely,
        pixels=seen.pixels,
        grid=seen.grid((subject.size, subject.size)),
        against=against,
        provenance=made,
    )


def _tensor(values: Floats) -> Tensor:
    return torch.from_numpy(values)
