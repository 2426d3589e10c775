"""Options that say which classifier looks at which part of an image; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from napari_cvsuite.jobs.options import Option
from napari_cvsuite.models.plane_options import PlaneOptions

__all__ = ["ViewOptions"]


@dataclass(frozen=True)
class ViewOptions(PlaneOptions):
    """What a user can choose of the classifier and of what it sees.

    A room that has a usual classifier declares ``model`` again with that default.
    """

    model: str = Option("", label="Model", help="Name of a classifier in the catalogue.")
    plane: int = Option(
        0,
        label="Slice",
        help="Number of the slice of a stack, counted from 0, the last axis running fastest.",
        minimum=0,
        maximum=10**9,
    )
    view: str = Option(
        "centre",
        label="View",
        help="What the network sees: the middle square, the whole image squeezed into a square, "
        "or the square around a region.",
        choices=("centre", "whole", "region"),
    )
    region: str = Option(
        "",
        label="Region",
        help="top,left,height,width in pixels, where the view is a region.",
        advanced=True,
    )
