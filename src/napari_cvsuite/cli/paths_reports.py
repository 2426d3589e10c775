"""Commands that report on the paths of a transformer, and that train many to study them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from napari_cvsuite.cli.classifiers import Images, Labels
from napari_cvsuite.cli.common import compute, table_column, with_options
from napari_cvsuite.cli.tasks import AsJson, Device
from napari_cvsuite.paths.report_options import ReportOptions
from napari_cvsuite.paths.study_options import StudyOptions

__all__ = ["report", "study"]


@with_options(ReportOptions)
def report(
    images: Images,
    options: ReportOptions,
    labels: Labels = "",
    study: Annotated[
        list[Path] | None,
        typer.Option(
            help="study.json of a study of deep transformers; may be given several times. Without "
            "any, the studies that come with the package are used."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path(),
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Report what the paths of a transformer do: report.html and report.json."""
    from napari_cvsuite.jobs.plain import plain
    from napari_cvsuite.paths.report import ReportInputs
    from napari_cvsuite.paths.report_run import report_into

    inputs = ReportInputs(images, *table_column(labels), tuple(study or ()))
    found, paths = compute(
        lambda context: report_into(out, inputs, options, context),
        device,
        name="report",
        quiet=as_json,
    )
    lines = [f"{one.verdict}: {one.text} {one.because}" for one in found.claims]
    lines += map(str, paths)
    typer.echo(json.dumps(plain(found)) if as_json else "\n".join(lines))


@with_options(StudyOptions)
def study(
    images: Annotated[
        Path, typer.Option(help="Folder with a folder of images for each class, to train on.")
    ],
    test: Annotated[
        Path, typer.Option(help="Folder of other images with the same classes, to measure on.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the study; an unfinished one goes on.")],
    options: StudyOptions,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train small deep transformers in several ways and measure them: study.json."""
    from napari_cvsuite.jobs.plain import plain
    from napari_cvsuite.paths.study import FILE, StudyInputs, run
    from napari_cvsuite.paths.study_result import kind_rows

    found = compute(
        lambda context: run(StudyInputs(images, test, out), options, context),
        device,
        "training",
        "study",
        as_json,
    )
    if as_json:
        typer.echo(json.dumps(plain(found)))
        return
    for row in kind_rows(found):
        values = " ".join(f"{value:.4f}" for value in row.accuracy.values)
        mean = f"{row.variant:>15}, {row.layers:3} layers: {row.accuracy.mean.value:.4f}"
        typer.echo(f"{mean} ({values})")
    typer.echo(str(out / FILE))
