"""Studies of deep transformers as files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from napari_cvsuite.paths.rows import Score
from napari_cvsuite.paths.study_measure import Gain, Measured
from napari_cvsuite.paths.study_result import KIND, Study, Trained
from napari_cvsuite.reports.intervals import Interval
from napari_cvsuite.training.accuracy import Rate

__all__ = ["StudyFileError", "packaged_studies", "read_study"]


class StudyFileError(ValueError):
    """A file holds no study that can be read; the message names it."""


def read_study(path: Path) -> Study:
    """Read what :func:`napari_cvsuite.paths.study.run` wrote.

    Raises
    ------
    StudyFileError
        The file cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.get("kind") != KIND:
            raise ValueError(f"it is no {KIND}")
        runs = tuple(_trained(one) for one in found.pop("runs"))
        # Sums over seeds are written for people; they are made anew from the runs.
        found.pop("summary", None)
        return Study(**{**found, "runs": runs})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyFileError(
            f"{path} cannot be used ({error}); give a study.json that "
            "“napari-cvsuite paths study” wrote"
        ) from error


def packaged_studies() -> tuple[Study, ...]:
    """Return the studies that come with the package.

    Raises
    ------
    StudyFileError
        One is damaged.
    """
    folder = Path(str(resources.files("napari_cvsuite.paths").joinpath("results")))
    return tuple(read_study(path) for path in sorted(folder.glob("*.json")))


def _trained(data: Mapping[str, Any]) -> Trained:
    measured = data["measured"]
    series = {name: tuple(measured[name]) for name in ("lens", "from_layer", "stream")}
    made = Measured(
        accuracy=Rate(**measured["accuracy"]),
        loss=float(measured["loss"]),
        **series,
        pruned=_gain(measured["pruned"]),
        scaled={name: _gain(one) for name, one in measured["scaled"].items()},
    )
    return Trained(**{**data, "measured": made})


def _gain(data: Mapping[str, Any]) -> Gain:
    first, second = (
        (Score(**data[part][0]), Score(**data[part][1])) for part in ("chosen_on", "test")
    )
    return Gain(tuple(data["off"]), first, second, Interval(**data["change"]))
