"""What the Neurons dock computes on the worker thread; knows no Qt, and loads torch when called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images import Grid, Image, find_images
from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.options import Options
from napari_cvsuite.neurons.class_map_options import ClassMapOptions
from napari_cvsuite.neurons.options import (
    ActivationOptions,
    BiasOptions,
    DissectOptions,
    LayerOptions,
    NeuronOptions,
    ReportOptions,
    SaliencyOptions,
)
from napari_cvsuite.widgets.neurons_task import Task

if TYPE_CHECKING:
    from napari_cvsuite.models.subject import Likely
    from napari_cvsuite.neurons.browse import Activated
    from napari_cvsuite.neurons.class_map import ClassMap
    from napari_cvsuite.neurons.copies import Copies
    from napari_cvsuite.neurons.dissecting import Dissected
    from napari_cvsuite.neurons.explain import Explained
    from napari_cvsuite.neurons.favourites import Favourites
    from napari_cvsuite.neurons.report import PairReport

__all__ = [
    "Browsed",
    "Channel",
    "Controlled",
    "Glance",
    "Mask",
    "Reported",
    "ablate",
    "attack",
    "bias",
    "channels",
    "class_map",
    "classes",
    "one_channel",
    "controls",
    "copies",
    "dissect",
    "glance",
    "maximise",
    "patches",
    "report",
    "saliency",
    "simplicity",
    "unit_mask",
]


@dataclass(frozen=True)
class Glance:
    """What a classifier says of an image, and the layers it can be asked about."""

    model: str
    likely: tuple[Likely, ...]
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Browsed:
    """The channels of a layer: what they give, a montage of them, and a row of numbers for each."""

    found: Activated
    montage: NDArray[np.float32]
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Controlled:
    """Accuracy on distorted copies: a row for each kind."""

    rows: list[dict[str, Any]]
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Reported:
    """A report on a pair, and its files."""

    found: PairReport
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Channel:
    """What one channel gives."""

    found: Activated


@dataclass(frozen=True)
class Mask:
    """Where a channel is above its threshold."""

    labels: NDArray[np.uint8]
    grid: Grid
    name: str
    provenance: dict[str, Any]


def glance(
    image: Image, options: NeuronOptions, models: Sequence[str], context: Context
) -> list[Glance]:
    """Classify what networks see of a plane, and name their layers."""
    from napari_cvsuite.models.subject import opened, see

    found = []
    for model in models:
        with opened(options, context, model) as subject:
            likely = subject.likely(subject.logits(see(image, subject, context)))
            layers = tuple(name.removeprefix("model.") for name in subject.layers())
            found.append(Glance(model, likely, layers))
    return found


def _image(task: Task) -> Image:
    assert task.image is not None
    return task.image


def saliency(task: Task, context: Context) -> list[Explained]:
    """Map what a class depends on, the same class for both networks."""
    from napari_cvsuite.models.subject import classifier_card
    from napari_cvsuite.neurons.explain import run

    found: list[Explained] = []
    for options, inner in task.each(context):
        assert isinstance(options, SaliencyOptions)
        # Maps of different classes could not be compared.
        if found and not options.target:
            first = found[0].target
            known = first in classifier_card(options.model).classes
            options = replace(options, target=first) if known else options
        found.append(run(_image(task), options, inner, task.mask))
    return found


def class_map(image: Image, options: Options, context: Context) -> ClassMap:
    """Map the class that leads at each place."""
    from napari_cvsuite.neurons.class_map import run

    assert isinstance(options, ClassMapOptions)
    return run(image, options, context)


def classes(task: Task, context: Context) -> list[ClassMap]:
    """Map the class that leads at each place, for each network."""
    return [class_map(_image(task), options, inner) for options, inner in task.each(context)]


def channels(task: Task, context: Context) -> list[Browsed]:
    """Return the activation of all channels of a layer."""
    import torch

    from napari_cvsuite.neurons.browse import montage, run
    from napari_cvsuite.neurons.smoothness import total_variation, tv_over_l1

    results = []
    for options, inner in task.each(context):
        assert isinstance(options, ActivationOptions)
        found = run(_image(task), replace(options, channel=-1), inner)
        maps = torch.from_numpy(found.maps)
        measures = {
            "mean": maps.mean(dim=(1, 2)),
            "maximum": maps.amax(dim=(1, 2)),
            "total_variation": total_variation(maps),
            "tv_over_l1": tv_over_l1(maps),
        }
        columns = {name: values.tolist() for name, values in measures.items()}
        rows = [
            {"channel": channel, **{name: values[place] for name, values in columns.items()}}
            for place, channel in enumerate(found.channels)
        ]
        results.append(Browsed(found, montage(found.maps), rows))
    return results


def maximise(task: Task, context: Context) -> list[Any]:
    """Search the image that a channel likes most."""
    from napari_cvsuite.neurons.dream import run

    return [run(options, inner) for options, inner in task.each(context)]


def patches(task: Task, context: Context) -> list[Favourites]:
    """Find the parts of the slices, or of the images of a folder, that excite channels most."""
    from napari_cvsuite.neurons.favourites import run

    images: list[Image | Path] = [] if task.image is None else [task.image]
    if task.image is None:
        assert task.folder is not None
        images = [*find_images(task.folder)]
    return [run(images, options, inner) for options, inner in task.each(context)]


def dissect(task: Task, context: Context) -> list[Dissected]:
    """Compare the channels of a layer with what is labelled."""
    from napari_cvsuite.neurons.dissecting import Pair, run

    labels = tuple(_one_concept(one) if task.together else one for one in task.labels)
    groups = [one.name for one in labels]
    found = []
    for options, inner in task.each(context):
        assert isinstance(options, DissectOptions)
        one = run([Pair(_image(task), labels)], options, inner, groups=groups)
        if task.together:
            named = [replace(each, name=groups[each.group]) for each in one.units.concepts]
            one = replace(one, units=replace(one.units, concepts=tuple(named)))
        found.append(one)
    return found


def _one_concept(labels: Image) -> Image:
    """Return labels that only say where there is any; what is on a disk is read later."""
    data = labels.data
    if not isinstance(data, np.ndarray):
        import dask.array

        data = dask.array.asanyarray(data)
    return replace(labels, data=data > 0)


def one_channel(task: Task, model: str, channel: int, context: Context) -> list[Channel]:
    """Return the activation of one channel of the layer of a task."""
    from napari_cvsuite.neurons.browse import run

    options = task.options
    assert isinstance(options, LayerOptions)
    shared = {one.name: getattr(options, one.name) for one in fields(LayerOptions)}
    chosen = ActivationOptions(**shared | {"model": model, "channel": channel})
    return [Channel(run(_image(task), chosen, context))]


def unit_mask(
    task: Task, model: str, channel: int, threshold: float, concept: str, context: Context
) -> list[Mask]:
    """Return where one channel is above a threshold, enlarged as the dissection does it."""
    import torch

    from napari_cvsuite.models.subject import opened, see
    from napari_cvsuite.neurons.activations import activations
    from napari_cvsuite.neurons.overlap import upsample
    from napari_cvsuite.neurons.subject import layer_name

    options = task.options
    assert isinstance(options, LayerOptions)
    with opened(options, context, model) as subject:
        seen, size = see(_image(task), subject, context), (subject.size, subject.size)
        layer = layer_name(options.layer, subject)
        maps = activations(subject.network, seen.tensor(subject.device), [layer])[layer][0]
        enlarged = upsample(maps[channel : channel + 1].cpu(), size)[0]
        labels = (enlarged > threshold).to(torch.uint8).numpy()
        name = f"{layer.removeprefix('model.')} channel {channel} as {concept}, {model}"
        return [Mask(labels, seen.grid(size), name, subject.provenance(seen))]


def bias(task: Task, context: Context) -> list[Any]:
    """Count decisions for shape and for texture on a folder of cue-conflict images."""
    from napari_cvsuite.neurons.bias import conflict

    assert task.folder is not None
    return [conflict(task.folder, options, inner) for options, inner in task.each(context)]


def controls(task: Task, context: Context) -> list[Controlled]:
    """Measure accuracy on distorted copies of a folder of labelled images."""
    from napari_cvsuite.neurons.control_accuracy import control_rows, controls_of_folder

    assert task.folder is not None and isinstance(task.options, BiasOptions)
    found = controls_of_folder(task.folder, task.models, task.options, context)
    facts = {"model": ", ".join(task.models), "device": context.device}
    return [Controlled(control_rows(found, task.models), facts)]


def copies(task: Task, context: Context) -> list[Copies]:
    """Distort what each network sees of the image."""
    from napari_cvsuite.neurons.copies import run

    return [run(_image(task), options, inner, task.mask) for options, inner in task.each(context)]


def report(task: Task, context: Context) -> list[Reported]:
    """Measure a pair on folders of images, and write the report."""
    from napari_cvsuite.neurons.report import ReportInputs
    from napari_cvsuite.neurons.report_run import report_into

    data = task.data
    assert isinstance(task.options, ReportOptions) and data.out is not None
    inputs = ReportInputs(
        data.images, data.table, data.column, data.stimuli, data.masks, data.names
    )
    found, paths = report_into(data.out, inputs, task.options, context)
    return [Reported(found, tuple(paths))]


def simplicity(task: Task, context: Context) -> list[Any]:
    """Measure how smooth a network is, and what noise does, on the image."""
    from napari_cvsuite.neurons.simplicity import run

    return [run(_image(task), options, inner) for options, inner in task.each(context)]


def attack(task: Task, context: Context) -> list[Any]:
    """Search a small change that misleads each network."""
    from napari_cvsuite.neurons.mislead import run

    return [run(_image(task), options, inner) for options, inner in task.each(context)]


def ablate(task: Task, context: Context) -> list[Any]:
    """Silence channels of a layer."""
    from napari_cvsuite.neurons.silence import run

    return [run(_image(task), options, inner) for options, inner in task.each(context)]
