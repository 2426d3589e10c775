"""Attack on one image: does a change that nobody sees break the model?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_cvsuite.images import Grid, Image
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.attack import pgd, suggested_eps
from napari_cvsuite.models.subject import Likely, class_number, opened, see
from napari_cvsuite.neurons.options import AttackOptions

__all__ = ["Misled", "run"]

LINF = 8 / 255
"""Suggested largest change of a pixel."""
STRIDE = 2.5
"""All steps together, in radii."""


@dataclass(frozen=True)
class Misled:
    """Outcome of an attack.

    Parameters
    ----------
    before, after : ndarray of float32, shape (S, S, 3)
        What the network sees, and what it was changed into, in [0, 1].
    change : ndarray of float32, shape (S, S, 3)
        Their difference.
    grid : Grid
        Where the pixels lie on the plane.
    label : str
        The class that was led away from.
    likely_before, likely_after : tuple of Likely
    loss : tuple of float
        Cross-entropy at each step, the image itself first.
    classes : tuple of str
        Prediction at each step.
    eps, step : float
        Radius and step.
    size : float
        Of the change, in the norm of the attack.
    provenance : dict
    """

    before: NDArray[np.float32]
    after: NDArray[np.float32]
    change: NDArray[np.float32]
    grid: Grid
    label: str
    likely_before: tuple[Likely, ...]
    likely_after: tuple[Likely, ...]
    loss: tuple[float, ...]
    classes: tuple[str, ...]
    eps: float
    step: float
    size: float
    provenance: dict[str, Any]

    @property
    def broken(self) -> bool:
        """Whether the prediction changed."""
        return self.likely_before[0].name != self.likely_after[0].name


def run(image: Image, options: AttackOptions, context: Context) -> Misled:
    """Search a small change of the image that raises the loss of its class most.

    Parameters
    ----------
    image : Image
    options : AttackOptions
    context : Context
        Told of every step.

    Raises
    ------
    ImageError, OptionError
        The image cannot be used, or there is no such class.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    with opened(options, context) as subject:
        seen = see(image, subject, context)
        logits = subject.logits(seen)
        number = int(logits.argmax())
        if options.label:
            number = class_number(options.label, subject.card)
        size = subject.size
        usual = suggested_eps(size, size) if options.norm == "l2" else LINF
        eps = options.eps or usual
        step = STRIDE * eps / options.steps
        x = seen.tensor(subject.device)
        labels = torch.tensor([number], device=x.device)
        found = pgd(subject.network, x, labels, options.norm, eps, step, options.steps, context)
        after = found.images[0].permute(1, 2, 0).cpu().numpy()
        change = after - seen.pixels
        with torch.inference_mode():
            changed = subject.network(found.images)[0].float().cpu()
        length = np.linalg.norm(change) if options.norm == "l2" else np.abs(change).max()
        return Misled(
            seen.pixels,
            after,
            change,
            seen.grid((size, size)),
            subject.card.classes[number],
            subject.likely(logits),
            subject.likely(changed),
            tuple(found.loss[:, 0].tolist()),
            tuple(subject.card.classes[k] for k in found.predictions[:, 0].tolist()),
            eps,
            step,
            float(length),
            subject.provenance(seen),
        )
