"""Commands that compute: segment, train, evaluate, doctor."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_cvsuite.cli.common import compute, names_in, table_column, with_options
from napari_cvsuite.quality.options import MapOptions, RatingsOptions
from napari_cvsuite.quality.options import TrainOptions as QualityTrainOptions
from napari_cvsuite.segmentation.options import PredictOptions, RetrainOptions, TrainOptions

__all__ = ["doctor", "evaluate_app", "evaluate_segment", "quality", "segment", "train_app"]

train_app = typer.Typer(help="Train a network on your own images.", no_args_is_help=True)
evaluate_app = typer.Typer(help="Measure a model on images with known answers.")

Device = Annotated[str, typer.Option(help="auto, cpu, cuda:0, mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Input = Annotated[Path, typer.Argument(help="Image: PNG, JPEG, TIFF, .npy, zarr.")]
Table = Annotated[Path | None, typer.Option("--csv", help="Table to write.")]


@train_app.callback()
def _train() -> None:
    """Train a network on your own images."""


@evaluate_app.callback()
def _evaluate() -> None:
    """Measure a model on images with known answers."""


@train_app.command("segment")
@with_options(TrainOptions)
def train_segment(
    images: Annotated[Path, typer.Option(help="Folder of images.")],
    masks: Annotated[Path, typer.Option(help="Folder of masks with the same file names.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one is resumed.")],
    options: TrainOptions,
    validation: Annotated[
        str,
        typer.Option(
            help="Names for validation: a text file, or FILE.json:key.key; empty takes every "
            "fifth image, 'none' no image."
        ),
    ] = "",
    groups: Annotated[
        str, typer.Option(help="FILE.csv:column whose rare values are shown more often.")
    ] = "",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train QTSeg on a folder of images and a folder of masks."""
    from napari_cvsuite.segmentation.train import TrainInputs, run

    table, column = table_column(groups)
    chosen = ("none",) if validation == "none" else names_in(validation)
    inputs = TrainInputs(images, masks, out, chosen, table, column)
    result = compute(
        lambda context: run(inputs, options, context), device, "training", "train", as_json
    )
    if int(os.environ.get("LOCAL_RANK", "0")):
        return  # Started by the first process for a further GPU; one of them reports.
    facts = {
        "folder": str(result.folder),
        "model": None if result.model is None else str(result.model),
        "validation_dice": result.best_score if result.validated_on else None,
        "trained_on": result.trained_on,
        "validated_on": result.validated_on,
        "resumed": result.resumed,
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    measured = f"validation Dice {result.best_score:.4f}" if result.validated_on else "trained"
    typer.echo(f"{measured}; use it with: napari-cvsuite models import {result.model}")


@train_app.command("quality")
@with_options(QualityTrainOptions)
def train_quality(
    images: Annotated[Path, typer.Option(help="Folder of good images.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one is resumed.")],
    options: QualityTrainOptions,
    validation: Annotated[
        str,
        typer.Option(
            help="Names for validation: a text file, or FILE.json:key.key; empty takes every "
            "fifth image, 'none' no image."
        ),
    ] = "",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train TOPIQ on good images that are spoilt in known ways."""
    from dataclasses import asdict

    from napari_cvsuite.quality.train import TrainInputs, run

    chosen = ("none",) if validation == "none" else names_in(validation)
    result = compute(
        lambda context: run(TrainInputs(images, out, chosen), options, context),
        device,
        "training",
        "train",
        as_json,
    )
    if as_json:
        typer.echo(json.dumps(asdict(result), default=str))
        return
    measured = f"rank correlation {result.best_score:.4f}" if result.validated_on else "trained"
    typer.echo(f"{measured}; use it with: napari-cvsuite models import {result.model}")


def _kept(kept: str, name: str) -> str:
    """Return what became of a new model, in words."""
    return f"kept as {kept}" if kept else "not kept" + ("" if name else "; give --name to keep it")


@train_app.command("corrections")
@with_options(RetrainOptions)
def train_corrections(
    images: Annotated[Path, typer.Option(help="Folder of images.")],
    labels: Annotated[
        Path, typer.Option(help="Folder of corrected labels with the same file names.")
    ],
    options: RetrainOptions,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Teach a segmentation model what you corrected by painting."""
    from napari_cvsuite.segmentation.retrain import read_corrected, run

    result = compute(
        lambda context: run(read_corrected(images, labels), options, context),
        device,
        "training",
        "learn from corrections",
        as_json,
    )
    if as_json:
        typer.echo(json.dumps(result.facts()))
        return
    typer.echo(result.in_words())
    typer.echo(_kept(result.kept, options.name))


@train_app.command("ratings")
@with_options(RatingsOptions)
def train_ratings(
    table: Annotated[Path, typer.Argument(help="CSV file with the columns path and rating.")],
    options: RatingsOptions,
    column: Annotated[
        str, typer.Option(help="Column of the ratings; higher is better.")
    ] = "rating",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Fit the last layer of a quality model to your own ratings of 20 images or more."""
    from dataclasses import asdict

    from napari_cvsuite.images import read
    from napari_cvsuite.quality.ratings import Rated, read_ratings, run

    paths, ratings, others = read_ratings(table, column)
    rated = [
        Rated(read(path), rating, reference=read(others[number]) if others else None)
        for number, (path, rating) in enumerate(zip(paths, ratings, strict=True))
    ]
    result = compute(
        lambda context: run(rated, options, context), device, name="fit to ratings", quiet=as_json
    )
    facts = {key: value for key, value in asdict(result).items() if key != "fit"}
    facts |= {"srcc_before": result.fit.srcc_before, "srcc_held_out": result.fit.srcc_held_out}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(
        f"rank correlation with the ratings: {result.fit.srcc_before:.3f} before, "
        f"{result.fit.srcc_held_out:.3f} held out"
    )
    typer.echo(_kept(result.kept, options.name))


@with_options(PredictOptions)
def segment(
    inputs: Annotated[list[Path], typer.Argument(help="Images: PNG, JPEG, TIFF, .npy, zarr.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    options: PredictOptions,
    device: Device = "auto",
    probabilities: Annotated[
        bool, typer.Option(help="Write STEM.prob.tif with the class probabilities, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Segment images: writes STEM.labels.tif, STEM.objects.csv and summary.json."""
    from napari_cvsuite.segmentation.files import segment_files

    summary = compute(
        lambda context: segment_files(inputs, out, options, context, probabilities),
        device,
        name="segment",
        quiet=as_json,
    )
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        for row in summary["inputs"]:
            typer.echo(f"{row['input']}: {row.get('error') or str(row['objects']) + ' objects'}")
    if summary["failed"]:
        raise typer.Exit(1)


@with_options(MapOptions)
def quality(
    inputs: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    options: MapOptions,
    reference: Annotated[
        Path | None, typer.Option(help="Image to compare with, for models that do.")
    ] = None,
    map_folder: Annotated[
        Path | None, typer.Option("--map", help="Folder for maps of local quality.")
    ] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Table to write.")] = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Score the quality of images: one row for every slice, higher is better."""
    from napari_cvsuite.quality.files import score_files, write_table

    result = compute(
        lambda context: score_files(inputs, options, context, reference, map_folder),
        device,
        name="quality",
        quiet=as_json,
    )
    if csv_file is not None:
        write_table(csv_file, result["rows"])
    if as_json:
        typer.echo(json.dumps(result))
    else:
        for row in result["rows"]:
            typer.echo(_in_words(row))
        for failure in result["failures"]:
            typer.echo(f"{failure['path']}: {failure['error']}")
    if result["failures"]:
        raise typer.Exit(1)


def _in_words(row: dict[str, Any]) -> str:
    if row["score"] is None:
        return f"{row['path']} {row['index']}: {row['note']}"
    likely = f" {row['likely_distortion']}" if row["likely_distortion"] else ""
    sure = f" ({row['confidence']:.0%})" if likely else ""
    return f"{row['path']} {row['index']}: {row['score']:.3f}{likely}{sure}"


@evaluate_app.command("segment")
def evaluate_segment(
    images: Annotated[Path, typer.Option(help="Folder of images.")],
    masks: Annotated[Path, typer.Option(help="Folder of masks with the same file names.")],
    model: Annotated[str, typer.Option(help="Name of the model.")],
    names: Annotated[
        str, typer.Option(help="Names to use: a text file, or FILE.json:key.key.")
    ] = "",
    groups: Annotated[str, typer.Option(help="FILE.csv:column to report for each value.")] = "",
    ignore: Annotated[int, typer.Option(help="Mask value that does not count.")] = -1,
    apart: Annotated[
        list[str] | None, typer.Option(help="Class to leave out of the mean over classes.")
    ] = None,
    tta: Annotated[bool, typer.Option("--tta", help="Average over flips and turns.")] = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Report plain Dice at original resolution, per image and per class, with intervals."""
    from dataclasses import asdict

    from napari_cvsuite.segmentation.evaluate import EvaluateInputs, evaluate

    table, column = table_column(groups)
    chosen = names_in(names)
    inputs = EvaluateInputs(images, masks, chosen, table, column, ignore, tuple(apart or ()))
    result = compute(
        lambda context: evaluate(inputs, model, context, tta),
        device,
        name="evaluate",
        quiet=as_json,
    )
    if as_json:
        typer.echo(json.dumps(asdict(result)))
        return
    for name, score in [*result.groups.items(), *result.classes.items()]:
        interval = f"[{score.low:.4f}, {score.high:.4f}]"
        typer.echo(f"{name:24} Dice {score.dice:.4f} {interval} n = {score.n}")


@evaluate_app.command("quality")
def evaluate_quality(
    images: Annotated[Path, typer.Option(help="Folder of good images.")],
    model: Annotated[list[str], typer.Option(help="Name of a model; may be given several times.")],
    names: Annotated[
        str, typer.Option(help="Names to use: a text file, or FILE.json:key.key.")
    ] = "",
    groups: Annotated[str, typer.Option(help="FILE.csv:column to report for each value.")] = "",
    side: Annotated[
        int, typer.Option(help="Pixels of the middle of each image to use.", min=192, max=4096)
    ] = 384,
    rows: Annotated[Path | None, typer.Option(help="CSV file for every single score.")] = None,
    grain: Annotated[
        float,
        typer.Option(
            help="Noise of a sensor over what spoils the light, as standard deviation in steps "
            "of 8 bits.",
            min=0,
            max=20,
        ),
    ] = 0.0,
    baselines: Annotated[bool, typer.Option(help="Measure plain measures, too.")] = True,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Spoil good images in known ways, and report how well scores follow."""
    from napari_cvsuite.quality.evaluate import EvaluateInputs, as_json_text, as_text, evaluate

    table, column = table_column(groups)
    inputs = EvaluateInputs(images, names_in(names), table, column, side, rows, grain)
    found = compute(
        lambda context: evaluate(inputs, model, context, baselines),
        device,
        name="evaluate",
        quiet=as_json,
    )
    typer.echo(as_json_text(found) if as_json else as_text(found))


def doctor(
    out: Annotated[
        Path, typer.Option(help="Folder for results, whose free space is checked.")
    ] = Path(),
    offline: Annotated[bool, typer.Option(help="Do not try the network.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check the installation and say what to do about problems; exit code 1 if it is unusable."""
    from dataclasses import asdict

    from napari_cvsuite.doctor import examine

    findings = examine(out, offline)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            typer.echo(f"{'ok ' if finding.ok else '!! '} {finding.name:16} {finding.found}")
            if finding.advice:
                typer.echo(f"    {'':16} {finding.advice}")
    if any(not finding.ok and finding.needed for finding in findings):
        raise typer.Exit(1)
