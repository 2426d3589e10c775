"""Images whose labels somebody put right; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_cvsuite.images import Image

__all__ = ["Corrected", "CorrectionError"]


class CorrectionError(ValueError):
    """Corrections that cannot be learned from; the message says why."""


@dataclass(frozen=True, eq=False)
class Corrected:
    """An image, and the labels that somebody put right.

    Parameters
    ----------
    image : Image
    labels : array of int
        Of the image's shape without colour. For a model of two classes 0 is background and
        all else foreground, so that objects may be numbered; for others, the classes. Planes
        of a stack without any label are left out.
    """

    image: Image
    labels: Any
