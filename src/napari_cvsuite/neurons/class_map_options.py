"""Options of the class that leads at each place of an image. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from napari_cvsuite.jobs.options import Option
from napari_cvsuite.neurons.options import NeuronOptions

__all__ = ["ClassMapOptions"]


@dataclass(frozen=True)
class ClassMapOptions(NeuronOptions):
    """Options of the map of classes."""

    cells: int = Option(
        8,
        label="Windows",
        help="Windows along a side, of networks that do not end in a mean over all positions; the "
        "others have a class at each position of their last layer.",
        minimum=1,
        maximum=64,
    )
