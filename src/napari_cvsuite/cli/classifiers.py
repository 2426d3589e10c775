"""Commands that train and measure classifiers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from napari_cvsuite.cli.common import compute, table_column, with_options
from napari_cvsuite.cli.tasks import AsJson, Device
from napari_cvsuite.training.accuracy_options import AccuracyOptions
from napari_cvsuite.training.classifier_options import ClassifierOptions

__all__ = ["evaluate_classifier", "train_classifier"]

Images = Annotated[
    Path, typer.Option(help="Folder with a folder of images for each class; or of images.")
]
Labels = Annotated[
    str,
    typer.Option(help="FILE.csv:column of the labels, for a folder of images without classes."),
]


@with_options(ClassifierOptions)
def train_classifier(
    images: Images,
    out: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one is resumed.")],
    options: ClassifierOptions,
    labels: Labels = "",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train a classifier, also on images that are changed to mislead it."""
    from napari_cvsuite.training.classifier import TrainInputs, run

    table, column = table_column(labels)
    result = compute(
        lambda context: run(TrainInputs(images, out, table, column), options, context),
        device,
        "training",
        "train",
        as_json,
    )
    if as_json:
        typer.echo(json.dumps(asdict(result), default=str))
        return
    measured = f"mean recall {result.best_score:.4f}" if result.validated_on else "trained"
    typer.echo(f"{measured}; use it with: napari-cvsuite models import {result.model}")


@with_options(AccuracyOptions)
def evaluate_classifier(
    images: Images,
    model: Annotated[list[str], typer.Option(help="Name of a model; may be given several times.")],
    options: AccuracyOptions,
    labels: Labels = "",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Report the accuracy of classifiers on labelled images, as they are and under attack."""
    from napari_cvsuite.training.accuracy import evaluate

    table, column = table_column(labels)
    found = compute(
        lambda context: evaluate(images, model, options, context, table, column),
        device,
        name="evaluate",
        quiet=as_json,
    )
    if as_json:
        typer.echo(json.dumps({name: asdict(one) for name, one in found.items()}))
        return
    for name, one in found.items():
        typer.echo(f"{name}: {one.in_words()}")
