"""Outcome of a training run, whatever was trained. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["TrainResult"]


@dataclass(frozen=True)
class TrainResult:
    """Outcome of a run.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    best_score : float
        Validation score of the weights kept, as the task defines it; minus infinity without
        validation.
    trained_on, validated_on : int
        Numbers of images.
    model : Path, optional
        The weight file to use, with its card beside it.
    resumed : int
        Epochs that were on disk when the run started; 0 for a new one.
    """

    folder: Path
    best_score: float
    trained_on: int
    validated_on: int
    model: Path | None = None
    resumed: int = 0
