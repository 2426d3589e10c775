"""Distorted copies of what a network sees of one image, and what it says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_cvsuite.images import Grid, Image
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.planes import Planes
from napari_cvsuite.models.subject import Likely, Seen, Subject, opened, see_plane
from napari_cvsuite.neurons.controls import CONTROLS, Control, distorted
from napari_cvsuite.neurons.copy_options import ALL, CopyOptions
from napari_cvsuite.neurons.seen_labels import seen_mask

__all__ = ["Copies", "Copy", "run"]


@dataclass(frozen=True)
class Copy:
    """One distorted copy.

    Parameters
    ----------
    distortion : str
        One of :data:`napari_cvsuite.neurons.controls.CONTROLS`.
    level : float or None
        None where there is nothing to choose.
    tag : str
        "paper", "secondary" (of the paper's released code) or "ours".
    pixels : ndarray of float32, shape (h, w, 3)
        In [0, 1]; some pixels smaller than what is seen where tiles do not divide that.
    grid : Grid
        Where they lie on the plane.
    likely : tuple of Likely
        The likeliest classes.
    """

    distortion: str
    level: float | None
    tag: str
    pixels: NDArray[np.float32]
    grid: Grid
    likely: tuple[Likely, ...]

    @property
    def title(self) -> str:
        """The distortion with its level."""
        return self.distortion if self.level is None else f"{self.distortion} {self.level:g}"


@dataclass(frozen=True)
class Copies:
    """Distorted copies of one plane.

    Parameters
    ----------
    copies : tuple of Copy
    likely : tuple of Likely
        The likeliest classes of the image as it is.
    provenance : dict
    """

    copies: tuple[Copy, ...]
    likely: tuple[Likely, ...]
    provenance: dict[str, Any]


def run(image: Image, options: CopyOptions, context: Context, mask: Image | None = None) -> Copies:
    """Distort what the network sees of a plane, and classify the copies.

    Parameters
    ----------
    image : Image
    options : CopyOptions
    context : Context
    mask : Image, optional
        Labels, not 0 where the object of the silhouette is.

    Raises
    ------
    ImageError, OptionError, ValueError
        Image, mask, distortion and level do not go together; the message says what to do.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    kinds = _kinds(options, mask is not None)
    with opened(options, context) as subject:
        planes = Planes(image, options, context.check)
        seen = see_plane(planes, options.plane, subject)
        objects = None
        if mask is not None and any(control.of_mask for control, _ in kinds):
            objects = torch.from_numpy(seen_mask(mask, planes, seen, subject))[None]
        found = []
        for number, (control, level) in enumerate(kinds):
            context.progress(number, len(kinds), control.name)
            x = distorted(seen.tensor(), control.name, level, objects)
            found.append(_copy(control, level, x, seen, subject))
        likely = subject.likely(subject.logits(seen))
        return Copies(tuple(found), likely, subject.provenance(seen))


def _kinds(options: CopyOptions, with_mask: bool) -> list[tuple[Control, float | None]]:
    """Return the distortions that are asked for, with each level."""
    if options.distortion == ALL:
        chosen = [one for one in CONTROLS.values() if with_mask or not one.of_mask]
    else:
        chosen = [CONTROLS[options.distortion]]
    if not with_mask and any(one.of_mask for one in chosen):
        raise OptionError("a silhouette needs a mask of the object: give a Labels layer or a file")
    if not options.level:
        return [(one, level) for one in chosen for level in one.levels or (None,)]
    if not chosen[0].levels:
        raise OptionError(f"{options.distortion} has no level; leave it at 0")
    return [(chosen[0], options.level)]


def _copy(control: Control, level: float | None, x: Tensor, seen: Seen, subject: Subject) -> Copy:
    with torch.inference_mode():
        logits = subject.network(x.to(subject.device))[0].float().cpu()
    pixels = np.ascontiguousarray(x[0].permute(1, 2, 0).numpy())
    # Where tiles do not divide what is seen, its middle is used.
    whole = seen.grid((subject.size, subject.size))
    top, left = ((subject.size - side) // 2 for side in pixels.shape[:2])
    origin = (whole.origin[0] + top * whole.step[0], whole.origin[1] + left * whole.step[1])
    grid = Grid(whole.step, origin)
    return Copy(control.name, level, control.tag, pixels, grid, subject.likely(logits))
