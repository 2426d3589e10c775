"""The report on a pair of classifiers: what adversarial training changed, and do the claims hold?

The claims are those of Chen et al. 2020, arXiv 2006.09373.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.catalog import ModelCard
from napari_cvsuite.models.subject import Subject, classifier_card, opened
from napari_cvsuite.neurons.bias import conflict
from napari_cvsuite.neurons.dissecting import label_names
from napari_cvsuite.neurons.options import BiasOptions, NeuronOptions, ReportOptions
from napari_cvsuite.neurons.report_accuracy import accuracy, attack_radius
from napari_cvsuite.neurons.report_claims import judge
from napari_cvsuite.neurons.report_dissection import dissection, masked
from napari_cvsuite.neurons.report_measures import (
    ablation,
    activation_rows,
    diversity,
    kernels,
    noise,
    responses,
    saliency,
)
from napari_cvsuite.neurons.report_parts import (
    AblationPart,
    AccuracyPart,
    BiasPart,
    DissectionPart,
    DiversityPart,
    NoisePart,
    SmoothnessPart,
)
from napari_cvsuite.neurons.subject import layer_name
from napari_cvsuite.reports.claims import Claim, Skipped
from napari_cvsuite.reports.commands import command_line, labels_text
from napari_cvsuite.training.labelled import find_labelled, read_labelled, spread
from napari_cvsuite.version import __version__

__all__ = ["ModelFacts", "PairReport", "ReportInputs", "command", "run"]

NO_IMAGES = "No labelled images were given (--images)."
NO_STIMULI = "No cue-conflict images were given (--stimuli)."
NO_MASKS = "No masks of the images were given (--masks)."


@dataclass(frozen=True)
class ReportInputs:
    """What a report is made from; all may be left out.

    Parameters
    ----------
    images : Path or None
        Folder with a folder of images for each class; with a table, of images.
    table : Path or None
        CSV file of labels; see :func:`napari_cvsuite.training.labelled.find_labelled`.
    column : str
    stimuli : Path or None
        Folder of cue-conflict images.
    masks : Path or None
        Folder of label images named like the images; or of such folders, one a group.
    names : Path or None
        JSON file of the names of labels.
    """

    images: Path | None = None
    table: Path | None = None
    column: str = "label"
    stimuli: Path | None = None
    masks: Path | None = None
    names: Path | None = None


@dataclass(frozen=True)
class ModelFacts:
    """A model of the pair: its name, weights, network, and how it was trained, in words."""

    name: str
    weights_sha256: str
    network: str
    training: str


@dataclass(frozen=True)
class PairReport:
    """All numbers of a report; of two values the first is of the standard model.

    Parameters
    ----------
    models : tuple of two ModelFacts
    folders : dict of str to str
        Names of the folders of images, stimuli and masks that were given.
    n, both : int
        Number of images, and of those that both models name rightly.
    accuracy, bias, smoothness, noise, dissection, diversity, ablation
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

    models: tuple[ModelFacts, ModelFacts]
    folders: dict[str, str]
    n: int
    both: int
    accuracy: AccuracyPart | Skipped
    bias: BiasPart | Skipped
    smoothness: SmoothnessPart
    noise: NoisePart | Skipped
    dissection: DissectionPart | Skipped
    diversity: DiversityPart | Skipped
    ablation: AblationPart | Skipped
    claims: tuple[Claim, ...]
    command: str
    date: str
    version: str
    seconds: float
    provenance: dict[str, Any]


def run(inputs: ReportInputs, options: ReportOptions, context: Context) -> PairReport:
    """Measure a pair of classifiers in every way that the data permits.

    Parameters
    ----------
    inputs : ReportInputs
    options : ReportOptions
    context : Context

    Raises
    ------
    OptionError
        The two models are no pair, or have no such layer.
    ValueError, ImageError
        Images, labels, stimuli or masks cannot be used; the message says what to do.
    UnknownModelError, CardError, WeightsError, DeviceError, SpoolError, Cancelled
    """
    started = time.monotonic()
    names = (f"{options.pair}-s", f"{options.pair}-r")
    cards = [classifier_card(name) for name in names]
    _check_pair(cards[0], cards[1])
    chosen = _chosen(inputs, options)
    bias = _bias(inputs.stimuli, names, options, context.part(0, 8, "shape or texture"))
    dissected = _dissection(inputs, chosen, names, options, context.part(1, 8, "dissection"))
    first, second = (NeuronOptions(model=name) for name in names)
    with opened(first, context) as S, opened(second, context) as R:
        layer = layer_name(options.layer, S)
        models = _facts(S), _facts(R)
        measured = _with_networks(inputs, chosen, S, R, layer, options, context)
        provenance = {
            "options": asdict(options),
            "device": S.device,
            "precision": "float32",
            "threads": torch.get_num_threads(),
        }
    accuracy_part, smoothness, noise_part, diversity_part, ablation_part = measured
    return PairReport(
        models=models,
        folders={
            name: given.resolve().name
            for name, given in (
                ("images", inputs.images),
                ("stimuli", inputs.stimuli),
                ("masks", inputs.masks),
            )
            if given
        },
        n=len(chosen),
        both=accuracy_part.both if isinstance(accuracy_part, AccuracyPart) else 0,
        accuracy=accuracy_part,
        bias=bias,
        smoothness=smoothness,
        noise=noise_part,
        dissection=dissected,
        diversity=diversity_part,
        ablation=ablation_part,
        claims=judge(bias, smoothness, noise_part, dissected, diversity_part),
        command=command(inputs, options),
        date=datetime.now(UTC).date().isoformat(),
        version=__version__,
        seconds=time.monotonic() - started,
        provenance=provenance,
    )


def _chosen(inputs: ReportInputs, options: ReportOptions) -> list[tuple[Path, str]]:
    if inputs.images is None:
        return []
    found = find_labelled(inputs.images, inputs.table, inputs.column)
    return spread(found, options.limit, options.seed)


def _with_networks(
    inputs: ReportInputs,
    chosen: Sequence[tuple[Path, str]],
    S: Subject,
    R: Subject,
    layer: str,
    options: ReportOptions,
    context: Context,
) -> tuple[
    AccuracyPart | Skipped,
    SmoothnessPart,
    NoisePart | Skipped,
    DiversityPart | Skipped,
    AblationPart | Skipped,
]:
    """Measure what takes the networks themselves."""
    networks = S.network, R.network
    rows, mean = kernels(networks)
    if inputs.images is None:
        none = Skipped(NO_IMAGES)
        return none, SmoothnessPart(rows, mean), none, none, none
    data = read_labelled(chosen, S.size, context.part(2, 8, "reading"), S.card.classes)
    radius = attack_radius(R.card)
    first, kept = accuracy(networks, data, radius, options.batch, context.part(3, 8, "accuracy"))
    layers, inner = S.layers(), context.part(4, 8, "noise")
    found = (
        responses(networks[0], layers, kept, options, inner.part(0, 2, S.card.name)),
        responses(networks[1], layers, kept, options, inner.part(1, 2, R.card.name)),
    )
    measured, examples = saliency(networks, kept, options, context.part(5, 8, "saliency"))
    smoothness = SmoothnessPart(rows, mean, activation_rows(found), measured, examples)
    classes = diversity(networks, layers, kept, options, context.part(6, 8, "types of inputs"))
    silenced = ablation(networks, layer, kept, options, context.part(7, 8, "ablation"))
    return first, smoothness, noise(found, options), classes, silenced


def command(inputs: ReportInputs, options: ReportOptions) -> str:
    """Return the command that makes a report, with names of folders instead of their paths."""
    return command_line(
        ("napari-cvsuite", "neurons", "report"),
        options,
        ("pair",),
        images=inputs.images,
        labels=labels_text(inputs.table, inputs.column),
        stimuli=inputs.stimuli,
        masks=inputs.masks,
        names=inputs.names,
    )


def _check_pair(S: ModelCard, R: ModelCard) -> None:
    """Refuse models that cannot be compared channel by channel on the same images."""
    for what, one, other in (
        ("network", S.options.get("network"), R.options.get("network")),
        ("size", S.input.tile, R.input.tile),
        ("list of classes", S.classes, R.classes),
    ):
        if one != other:
            raise OptionError(
                f"{S.name} and {R.name} differ in their {what}; a pair has the same: choose another"
            )


def _facts(subject: Subject) -> ModelFacts:
    card = subject.card
    training = card.training
    how = "not stated"
    if training:
        norm = training.get("adversarial", "none")
        how = "standard" if norm == "none" else f"adversarial, {norm}, {training.get('eps')}"
    network = str(card.options.get("network", card.architecture))
    return ModelFacts(card.name, subject.provenance()["weights_sha256"], network, how)


def _bias(
    folder: Path | None, names: Sequence[str], options: ReportOptions, context: Context
) -> BiasPart | Skipped:
    if folder is None:
        return Skipped(NO_STIMULI)
    S, R = (
        conflict(
            folder, BiasOptions(model=name, batch=options.batch), context.part(number, 2, name)
        )
        for number, name in enumerate(names)
    )
    return BiasPart(S, R)


def _dissection(
    inputs: ReportInputs,
    chosen: Sequence[tuple[Path, str]],
    models: Sequence[str],
    options: ReportOptions,
    context: Context,
) -> DissectionPart | Skipped:
    if inputs.images is None or inputs.masks is None:
        return Skipped(NO_MASKS if inputs.images else NO_IMAGES)
    pairs, groups = masked([path for path, _ in chosen], inputs.images, inputs.masks)
    return dissection(pairs, groups, label_names(inputs.names), models, options, context)
