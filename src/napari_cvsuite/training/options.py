"""Options that every training run has; see :mod:`napari_cvsuite.training.loop`. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from napari_cvsuite.jobs.options import Option, Options
from napari_cvsuite.jobs.registry import JobSpec

__all__ = ["JOBS", "LoopChoices"]


@dataclass(frozen=True)
class LoopChoices(Options):
    """What a user can choose of the loop, whatever is trained."""

    lr: float = Option(
        1e-3, label="Learning rate", help="Step size at the start.", minimum=1e-7, maximum=1.0
    )
    schedule: str = Option(
        "cosine",
        label="Schedule",
        help="Course of the learning rate (step and poly are the paper's).",
        choices=("cosine", "step", "poly", "constant"),
    )
    ema: float = Option(
        0.99,
        label="Weight average",
        help="Decay of the running average of the weights; 0 turns it off.",
        minimum=0.0,
        maximum=0.9999,
    )
    patience: int = Option(
        0,
        label="Patience",
        help="Stop after this many validations without gain; 0 never stops.",
        minimum=0,
        maximum=1000,
    )
    seed: int = Option(
        0, label="Seed", help="Seed of all randomness.", minimum=0, maximum=2**31 - 1
    )
    precision: str = Option(
        "float32",
        label="Precision",
        help="Number format of the forward pass.",
        choices=("float32", "bfloat16"),
    )


JOBS = {
    "classifier": JobSpec(
        name="training.classifier",
        run="napari_cvsuite.training.classifier:run",
        options="napari_cvsuite.training.classifier_options:ClassifierOptions",
        title="Train a classifier",
        help="Train on labelled images, also on images that are changed to mislead the network.",
        job_class="training",
    ),
}
