"""The command that reports on a pair of classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_cvsuite.cli.classifiers import Labels
from napari_cvsuite.cli.common import compute, table_column, with_options
from napari_cvsuite.cli.neurons import tell
from napari_cvsuite.cli.tasks import AsJson, Device
from napari_cvsuite.neurons.options import ReportOptions

__all__ = ["report"]


@with_options(ReportOptions)
def report(
    options: ReportOptions,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder with a folder of images for each class; or of images."),
    ] = None,
    labels: Labels = "",
    stimuli: Annotated[
        Path | None, typer.Option(help="Folder of cue-conflict images named SHAPE1-TEXTURE1.png.")
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            help="Folder of label images in the folders and with the names of their images; or of "
            "such folders, one a group such as colour, texture or object."
        ),
    ] = None,
    names: Annotated[
        Path | None, typer.Option(help='JSON file of label names, such as {"1": "nucleus"}.')
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path(),
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Report what adversarial training changed in a pair: report.html and report.json."""
    from napari_cvsuite.neurons.report import ReportInputs
    from napari_cvsuite.neurons.report_run import report_into

    inputs = ReportInputs(images, *table_column(labels), stimuli, masks, names)
    found, paths = compute(
        lambda context: report_into(out, inputs, options, context),
        device,
        name="report",
        quiet=as_json,
    )
    lines = [f"{one.verdict}: {one.text} {one.because}" for one in found.claims]
    tell(found, as_json, [*lines, *map(str, paths)])
