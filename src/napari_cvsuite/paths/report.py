"""The report on the paths of a transformer: what each is worth, and do the claims hold?

The claims are those of Chang et al. 2023, arXiv 2308.06548.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.subject import Subject
from napari_cvsuite.paths import counting, influence, pruning, scaling
from napari_cvsuite.paths.counting import Lengths
from napari_cvsuite.paths.labelled_options import (
    InfluenceOptions,
    LengthOptions,
    PruneOptions,
    ScaleOptions,
)
from napari_cvsuite.paths.report_claims import judge
from napari_cvsuite.paths.report_measures import check, frequencies
from napari_cvsuite.paths.report_options import ReportOptions
from napari_cvsuite.paths.report_parts import (
    CheckPart,
    FrequencyPart,
    InfluencePart,
    PruningPart,
    ScalePart,
    Studies,
)
from napari_cvsuite.paths.report_study import studies_of
from napari_cvsuite.paths.subject import LabelledInputs, labelled_images, model_opened, transformer
from napari_cvsuite.reports.claims import Claim, Skipped
from napari_cvsuite.reports.commands import command_line, labels_text
from napari_cvsuite.training.labelled import Labelled
from napari_cvsuite.version import __version__

__all__ = ["ModelFacts", "PathReport", "ReportInputs", "run"]

STEPS = 8


@dataclass(frozen=True)
class ReportInputs:
    """What a report is made from.

    Parameters
    ----------
    images : Path
        Folder with a folder of images for each class; with a table, of images.
    table : Path or None
        CSV file of labels; see :func:`napari_cvsuite.training.labelled.find_labelled`.
    column : str
    studies : tuple of Path
        Files of studies; without any, those that come with the package.
    """

    images: Path
    table: Path | None = None
    column: str = "label"
    studies: tuple[Path, ...] = ()

    @property
    def labelled(self) -> LabelledInputs:
        """The images alone."""
        return LabelledInputs(self.images, self.table, self.column)


@dataclass(frozen=True)
class ModelFacts:
    """A transformer in words: name, weights, network, and what it was trained on."""

    name: str
    weights_sha256: str
    network: str
    data: str


@dataclass(frozen=True)
class PathReport:
    """All numbers of a report.

    Parameters
    ----------
    model : ModelFacts
    folder : str
        Name of the folder of images.
    images : int
    check, influence, pruning, scale, frequency, studies, lengths
        The sections.
    claims : tuple of Claim
    command : str
        What makes the report again, in the folder that holds the data.
    date, version : str
    seconds : float
        That it took.
    provenance : dict
        Options, device, precision and threads.
    """

    model: ModelFacts
    folder: str
    images: int
    check: CheckPart
    influence: InfluencePart
    pruning: PruningPart
    scale: ScalePart
    frequency: FrequencyPart | Skipped
    studies: Studies | Skipped
    lengths: Lengths
    claims: tuple[Claim, ...]
    command: str
    date: str
    version: str
    seconds: float
    provenance: dict[str, Any]


def run(inputs: ReportInputs, options: ReportOptions, context: Context) -> PathReport:
    """Measure the paths of a transformer on labelled images.

    Parameters
    ----------
    inputs : ReportInputs
    options : ReportOptions
    context : Context

    Raises
    ------
    ValueError, ImageError
        Images or labels cannot be used, or a class has too few images for several parts.
    StudyFileError
        A file is no study.
    NotDecomposableError
        The network has no such sum, or its head is all zero.
    RowsMemoryError
        So many images take too much memory; the message says how many do not.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    started = time.monotonic()
    studies = studies_of(inputs.studies)
    pruned = _pruning(inputs, options, context)
    scaled = _scale(inputs, options, context)
    with model_opened(options, context) as subject:
        data = labelled_images(inputs.labelled, options, subject, context.part(4, STEPS, "reading"))
        model, device = _facts(subject), subject.device
        checked = check(subject, _some(data, options), context.part(4, STEPS, "sums"))
        weights = {
            "pruned": _alpha(pruned, scaled.scalar.names),
            "weights, one a path": scaled.scalar.alpha,
            "weights, one a path and channel": scaled.channel.alpha,
        }
        inner = context.part(5, STEPS, "frequencies")
        curves = frequencies(subject, data, weights, options.seed, inner)
    worth = _influence(inputs, options, data, context)
    return PathReport(
        model=model,
        folder=inputs.images.resolve().name,
        images=len(data),
        check=checked,
        influence=worth,
        pruning=pruned,
        scale=scaled,
        frequency=curves,
        studies=studies,
        lengths=counting.run(LengthOptions(model=options.model), context),
        claims=judge(checked, worth, pruned, scaled, studies, curves),
        command=_command(inputs, options),
        date=datetime.now(UTC).date().isoformat(),
        version=__version__,
        seconds=time.monotonic() - started,
        provenance={
            "options": asdict(options),
            "device": device,
            "precision": "float32",
            "threads": torch.get_num_threads(),
        },
    )


def _shared(options: ReportOptions) -> dict[str, Any]:
    """Return the options that jobs over labelled images have in common."""
    return {name: getattr(options, name) for name in ("model", "limit", "batch", "seed")}


def _pruning(inputs: ReportInputs, options: ReportOptions, context: Context) -> PruningPart:
    greedy, from_layer = (
        pruning.run(
            inputs.labelled,
            PruneOptions(**_shared(options), held_out=options.held_out, method=method),
            context.part(number, STEPS, "pruning"),
        )
        for number, method in enumerate(("greedy", "from_layer"))
    )
    return PruningPart(greedy, from_layer)


def _scale(inputs: ReportInputs, options: ReportOptions, context: Context) -> ScalePart:
    scalar, channel = (
        scaling.run(
            inputs.labelled,
            ScaleOptions(**_shared(options), held_out=options.held_out, per=per),
            context.part(number, STEPS, "weights"),
        )
        for number, per in enumerate(("scalar", "channel"), 2)
    )
    return ScalePart(scalar, channel)


def _influence(
    inputs: ReportInputs, options: ReportOptions, data: Labelled, context: Context
) -> InfluencePart:
    kinds = {
        "zero": "removed_final,total_edge,total_module,total_layer",
        "mean": "total_module,total_layer",
    }
    zero, mean = (
        influence.run(
            inputs.labelled,
            InfluenceOptions(**_shared(options), interventions=some, replacement=how),
            context.part(number, STEPS, f"influence, {how}"),
        )
        for number, (how, some) in enumerate(kinds.items(), 6)
    )
    return InfluencePart(zero, mean, float(np.bincount(data.labels).max() / len(data)))


def _some(data: Labelled, options: ReportOptions) -> Labelled:
    """Return images from all over the set, whose order is that of the classes."""
    count = min(options.checked, len(data))
    return data.part(np.linspace(0, len(data) - 1, count).astype(np.int64))


def _alpha(part: PruningPart, names: tuple[str, ...]) -> NDArray[np.float32]:
    """Return the weights of the paths, 0 or 1, after greedy pruning."""
    return np.array([name not in part.greedy.removed for name in names], np.float32)


def _command(inputs: ReportInputs, options: ReportOptions) -> str:
    return command_line(
        ("napari-cvsuite", "paths", "report"),
        options,
        ("model",),
        images=inputs.images,
        labels=labels_text(inputs.table, inputs.column),
        study=inputs.studies,
    )


def _facts(subject: Subject) -> ModelFacts:
    config, card = transformer(subject).config, subject.card
    network = (
        f"{config.num_layers} layers of {config.num_heads} heads, width {config.hidden_dim}, "
        f"{config.grid} x {config.grid} patches of {config.patch_size} px"
    )
    sha = subject.provenance()["weights_sha256"]
    return ModelFacts(card.name, sha, network, card.data or "not stated")
