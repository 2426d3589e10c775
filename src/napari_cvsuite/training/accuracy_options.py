"""Options of the measurement of a classifier. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from napari_cvsuite.jobs.options import BatchOption, Option, Options, SeedOption

__all__ = ["AccuracyOptions"]


@dataclass(frozen=True)
class AccuracyOptions(Options):
    """Options of the measurement of a classifier."""

    attack: str = Option(
        "none",
        label="Attack",
        help="Measure on images changed to mislead the network, too (projected gradient descent).",
        choices=("none", "l2", "linf"),
    )
    eps: float = Option(
        0.5,
        label="Radius",
        help="Largest distance of a changed image, intensities from 0 to 1.",
        minimum=0.0,
        maximum=100.0,
    )
    steps: int = Option(
        10,
        label="Steps",
        help="Steps of the attack, each of 2.5 radii divided by their number.",
        minimum=1,
        maximum=1000,
    )
    batch: int = BatchOption(128)
    held_out: float = Option(
        0.0,
        label="Held out",
        help="Measure on the part alone that a training with this share and seed held out; 0 takes "
        "all images.",
        minimum=0.0,
        maximum=0.9,
    )
    seed: int = SeedOption("Of that training.")
