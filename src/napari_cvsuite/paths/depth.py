"""The prediction after each layer: the classifier applied to sums of paths up to there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from napari_cvsuite.images import Image
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.subject import Likely
from napari_cvsuite.paths.decompose import collect
from napari_cvsuite.paths.labelled_options import DepthOptions
from napari_cvsuite.paths.options import TargetOptions
from napari_cvsuite.paths.session import Session
from napari_cvsuite.paths.subject import (
    LabelledInputs,
    Target,
    batches,
    labelled_images,
    model_opened,
    provenance,
    quietly,
    target_of,
    transformer,
)
from napari_cvsuite.paths.views import logit_lens
from napari_cvsuite.training.accuracy import Rate, wilson

__all__ = ["Depths", "Lens", "accuracy", "of_session", "run"]


@dataclass(frozen=True)
class Lens:
    """What the classifier says of one plane after each layer.

    Parameters
    ----------
    logits : ndarray of float32, shape (L + 1, K)
        From the embedding alone, 0, to the whole network, L.
    target : Target
    classes : tuple of str
        Names of the K classes.
    likely : tuple of tuple of Likely
        The likeliest classes after each layer.
    provenance : dict
    """

    logits: NDArray[np.float32]
    target: Target
    classes: tuple[str, ...]
    likely: tuple[tuple[Likely, ...], ...]
    provenance: dict[str, Any]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Probabilities of the classes after each layer, shape (L + 1, K)."""
        powers = np.exp(self.logits.astype(np.float64) - self.logits.max(axis=1, keepdims=True))
        found: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each depth, for the target."""
        logits, shares = self.target.of(self.logits), self.probabilities
        return [
            {
                "layers": depth,
                "class": self.target.name,
                "logit": float(logits[depth]),
                "probability": float(shares[depth, self.target.one]),
                "prediction": likely[0].name,
            }
            for depth, likely in enumerate(self.likely)
        ]


@dataclass(frozen=True)
class Depths:
    """How good the prediction after each layer is.

    Parameters
    ----------
    accuracy : tuple of Rate
        After 0, 1, ..., L layers, with 95 % intervals.
    loss : tuple of float
        Mean cross-entropy.
    provenance : dict
    """

    accuracy: tuple[Rate, ...]
    loss: tuple[float, ...]
    provenance: dict[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each depth."""
        return [
            {
                "layers": depth,
                "accuracy": rate.value,
                "low": rate.low,
                "high": rate.high,
                "n": rate.n,
                "loss": loss,
            }
            for depth, (rate, loss) in enumerate(zip(self.accuracy, self.loss, strict=True))
        ]


def run(image: Image, options: TargetOptions, context: Context) -> Lens:
    """Read the prediction for a plane after each layer.

    Raises
    ------
    ImageError, OptionError
        The image cannot be used, or there is no such class.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    return of_session(Session.start(image, options, context), options)


def of_session(session: Session, options: TargetOptions) -> Lens:
    """Do the same for an image that a network has been run on; see :func:`run`."""
    subject = session.subject
    target = target_of(options.target, subject, session.logits)
    found = logit_lens(session.model, session.paths)[:, 0].float().cpu()
    return Lens(
        found.numpy(),
        target,
        subject.card.classes,
        tuple(subject.likely(logits) for logits in found),
        session.provenance(options, intervention="logit_lens", **{"class": target.name}),
    )


def accuracy(inputs: LabelledInputs, options: DepthOptions, context: Context) -> Depths:
    """Measure the prediction after each layer over labelled images.

    Parameters
    ----------
    inputs : LabelledInputs
    options : DepthOptions
    context : Context

    Raises
    ------
    ValueError, ImageError
        The images or labels cannot be used.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    with model_opened(options, context) as subject:
        data = labelled_images(inputs, options, subject, context.part(0, 2, "reading"))
        model = transformer(subject)
        depths = model.config.num_layers + 1
        right, loss = np.zeros(depths, np.int64), np.zeros(depths)
        for x, labels in batches(data, options.batch, subject, context.part(1, 2, "depth")):
            lens = logit_lens(model, collect(model, x, quietly(context)))
            with torch.no_grad():
                wrong = [F.cross_entropy(one, labels, reduction="sum") for one in lens]
            right += (lens.argmax(dim=-1) == labels).sum(dim=1).cpu().numpy()
            loss += torch.stack(wrong).double().cpu().numpy()
        return Depths(
            tuple(wilson(int(count), len(data)) for count in right),
            tuple((loss / len(data)).tolist()),
            provenance(subject, options, intervention="logit_lens", images=len(data)),
        )
