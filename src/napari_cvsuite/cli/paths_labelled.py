"""Commands on paths that measure over labelled images, or make new networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_cvsuite.cli.classifiers import Images, Labels
from napari_cvsuite.cli.common import compute, table_column, with_options
from napari_cvsuite.cli.paths import Out, finish, stem_of
from napari_cvsuite.cli.tasks import AsJson, Device, Table
from napari_cvsuite.paths.labelled_options import (
    DepthOptions,
    FoldOptions,
    InfluenceOptions,
    PruneOptions,
    ScaleOptions,
)

__all__ = ["depth_accuracy", "fold", "influence", "prune", "scale"]

Model = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the new model, its card, the recipe that made it, and a table; named "
        "after the folder, it can be imported."
    ),
]


@with_options(DepthOptions)
def depth_accuracy(
    images: Images,
    options: DepthOptions,
    labels: Labels = "",
    csv_file: Table = None,
    out: Out = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure the prediction after each layer over labelled images."""
    from napari_cvsuite.paths.depth import accuracy

    inputs = _labelled(images, labels)
    found = compute(
        lambda context: accuracy(inputs, options, context), device, name="depth", quiet=as_json
    )
    lines = [
        f"{row['layers']:>3} layers: {row['accuracy']:.4f} [{row['low']:.4f}, {row['high']:.4f}], "
        f"loss {row['loss']:.4f}"
        for row in found.rows()
    ]
    finish(found, as_json, lines, csv_file, stem_of(out, options.model), "depth")


@with_options(InfluenceOptions)
def influence(
    images: Images,
    options: InfluenceOptions,
    labels: Labels = "",
    csv_file: Table = None,
    out: Out = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure what accuracy and loss change without each path, over labelled images."""
    from napari_cvsuite.paths.influence import run

    inputs = _labelled(images, labels)
    found = compute(
        lambda context: run(inputs, options, context), device, name="influence", quiet=as_json
    )
    lines = [f"whole network: accuracy {found.accuracy.value:.4f}, n = {found.accuracy.n}"]
    lines += [
        f"{row['intervention']:>13} {row['replacement']:4} {row['path']:>14}: accuracy "
        f"{100 * row['accuracy_change']:+6.2f} points [{100 * row['accuracy_low']:+.2f}, "
        f"{100 * row['accuracy_high']:+.2f}], loss {row['loss_change']:+.4f}"
        for row in found.rows()
    ]
    finish(found, as_json, lines, csv_file, stem_of(out, options.model), "influence")


@with_options(PruneOptions)
def prune(
    images: Images,
    options: PruneOptions,
    labels: Labels = "",
    csv_file: Table = None,
    out: Model = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Leave paths out of the final sum, chosen on one part of the images, checked on another."""
    from napari_cvsuite.paths.pruning import SENTENCE, run

    inputs = _labelled(images, labels)
    found = compute(
        lambda context: run(inputs, options, context, out), device, name="prune", quiet=as_json
    )
    lines = [
        f"{'*' if row['kept'] else ' '} {row['paths'] or 'whole':>14}: selection "
        f"{row['selection_accuracy']:.4f}, loss {row['selection_loss']:.4f}; held out "
        f"{row['held_out_accuracy']:.4f}, loss {row['held_out_loss']:.4f}"
        for row in found.rows()
    ]
    lines.append(_held_out(found.held_out_change))
    lines.append(SENTENCE)
    finish(
        found, as_json, [*lines, *_import(found.model)], csv_file, stem_of(out, "paths"), "prune"
    )


@with_options(ScaleOptions)
def scale(
    images: Images,
    options: ScaleOptions,
    labels: Labels = "",
    csv_file: Table = None,
    out: Model = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Fit weights of the paths in the final sum (EnsembleScale), with a held-out check."""
    from napari_cvsuite.paths.scaling import run

    inputs = _labelled(images, labels)
    found = compute(
        lambda context: run(inputs, options, context, out), device, name="scale", quiet=as_json
    )
    lines = [f"{row['path']:>10}  {row['mean']:.3f}" for row in found.rows()]
    lines += [
        f"held out: accuracy {found.before.accuracy:.4f} to {found.after.accuracy:.4f}, loss "
        f"{found.before.loss:.4f} to {found.after.loss:.4f}, step {found.best_step}",
        _held_out(found.held_out_change),
    ]
    finish(
        found, as_json, [*lines, *_import(found.model)], csv_file, stem_of(out, "paths"), "scale"
    )


@with_options(FoldOptions)
def fold(
    out: Annotated[Path, typer.Option(help="Folder for the new model; see prune.")],
    options: FoldOptions,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Write weights that a network has in its stream into the layers themselves."""
    from napari_cvsuite.jobs.plain import plain
    from napari_cvsuite.paths.scaling import fold as run

    found = compute(lambda context: run(out, options, context), device, name="fold", quiet=as_json)
    lines = [f"largest change of a logit: {found.difference:.1e}", *_import(found.model)]
    typer.echo(json.dumps(plain(found)) if as_json else "\n".join(lines))


def _labelled(images: Path, labels: str) -> Any:
    from napari_cvsuite.paths.subject import LabelledInputs

    return LabelledInputs(images, *table_column(labels))


def _held_out(change: Any) -> str:
    return (
        f"change of held-out accuracy {100 * change.value:+.2f} points "
        f"[{100 * change.low:+.2f}, {100 * change.high:+.2f}]"
    )


def _import(model: Path | None) -> list[str]:
    return [] if model is None else [f"use it with: napari-cvsuite models import {model.parent}"]
