"""Options of distorted copies of one image. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from napari_cvsuite.jobs.options import Option, OptionError
from napari_cvsuite.neurons.options import NeuronOptions

__all__ = ["ALL", "DISTORTIONS", "CopyOptions"]

ALL = "all"
DISTORTIONS = ("scrambled", "edges", "black and white", "silhouette", "noise", "blur", "grey")
"""Names of :data:`napari_cvsuite.neurons.controls.CONTROLS`, which loads torch."""


@dataclass(frozen=True)
class CopyOptions(NeuronOptions):
    """Options of distorted copies."""

    distortion: str = Option(
        ALL,
        label="Distortion",
        help="What is done to the image; a silhouette needs a mask, and all leave it out without.",
        choices=(ALL, *DISTORTIONS),
    )
    level: float = Option(
        0.0,
        label="Level",
        help="Of one distortion: tiles along a side, deviation of the noise where white is 1, or "
        "sigma of the blur in pixels that the network sees; 0 takes every level of the accuracy "
        "table.",
        minimum=0.0,
        maximum=1000.0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.level and self.distortion == ALL:
            raise OptionError("a level is that of one distortion; choose which, or leave it at 0")
