"""Options that say how an image becomes the planes that a network sees; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from napari_cvsuite.images import channel_numbers
from napari_cvsuite.images.window import RULES
from napari_cvsuite.jobs.options import Option, OptionError, Options

__all__ = ["PlaneOptions"]


@dataclass(frozen=True)
class PlaneOptions(Options):
    """What a user can choose of the planes, whatever the network; see :class:`Planes`."""

    axis: str = Option(
        "auto",
        label="Cut along",
        help="Axis along which a stack is cut into slices; auto gives slices of y and x.",
        choices=("auto", "t", "z", "y", "x"),
        advanced=True,
    )
    channels: str = Option(
        "",
        label="Channels",
        help="Up to three channels to use, counted from 0, such as 0 or 2,1,0; empty chooses.",
        advanced=True,
    )
    intensity: str = Option(
        "auto",
        label="Intensity",
        help="What becomes black and white: auto takes the whole range of 8-bit data and the "
        "0.1th to 99.9th percentile of all other.",
        choices=RULES,
    )
    low: float = Option(
        0.0,
        label="Black",
        help="Intensity that becomes black where intensity is fixed.",
        minimum=-1e12,
        maximum=1e12,
        advanced=True,
    )
    high: float = Option(
        1.0,
        label="White",
        help="Intensity that becomes white where intensity is fixed.",
        minimum=-1e12,
        maximum=1e12,
        advanced=True,
    )
    per: str = Option(
        "stack",
        label="Percentiles of",
        help="Whether all slices share black and white, or each has its own.",
        choices=("stack", "slice"),
        advanced=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            channel_numbers(self.channels)
        except ValueError as error:
            raise OptionError(str(error)) from error
        if self.intensity == "fixed" and not self.high > self.low:
            raise OptionError(f"white must be above black; got {self.low:g} and {self.high:g}")

    @property
    def channel_numbers(self) -> tuple[int, ...] | None:
        """The channels as numbers; None leaves the choice to the program."""
        return channel_numbers(self.channels)
