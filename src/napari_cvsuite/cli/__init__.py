"""The command line: one command a job.

``common`` holds what commands share, ``tasks`` those that compute, ``models`` those that look
after models, ``window`` those that open one.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

# Before torch is imported anywhere: a thread that waits must not burn a core.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import typer

from napari_cvsuite import __version__
from napari_cvsuite.cli import (
    classifiers,
    models,
    neurons_labelled,
    neurons_reports,
    paths_labelled,
    paths_reports,
    tasks,
    window,
)
from napari_cvsuite.cli.common import with_options
from napari_cvsuite.cli.neurons import neurons_app
from napari_cvsuite.cli.paths import paths_app
from napari_cvsuite.jobs import Cancelled

__all__ = ["app", "main", "with_options"]

app = typer.Typer(
    help="Segment and judge medical and microscopy images on your own machine.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
tasks.train_app.command("classifier")(classifiers.train_classifier)
tasks.evaluate_app.command("classifier")(classifiers.evaluate_classifier)
neurons_app.command("dissect")(neurons_labelled.dissect)
neurons_app.command("bias")(neurons_labelled.bias)
neurons_app.command("controls")(neurons_labelled.controls)
neurons_app.command("report")(neurons_reports.report)
paths_app.command("depth-accuracy")(paths_labelled.depth_accuracy)
paths_app.command("influence")(paths_labelled.influence)
paths_app.command("prune")(paths_labelled.prune)
paths_app.command("scale")(paths_labelled.scale)
paths_app.command("fold")(paths_labelled.fold)
paths_app.command("report")(paths_reports.report)
paths_app.command("study")(paths_reports.study)
app.add_typer(tasks.train_app, name="train")
app.add_typer(tasks.evaluate_app, name="evaluate")
app.add_typer(models.models_app, name="models")
app.add_typer(neurons_app, name="neurons")
app.add_typer(paths_app, name="paths")
app.command("segment")(tasks.segment)
app.command("quality")(tasks.quality)
app.command("open")(window.open_app)
app.command("demo")(window.demo)
app.command("doctor")(tasks.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"napari-cvsuite {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Segment and judge medical and microscopy images on your own machine.

    Without a command the desktop app opens.
    """
    if context.invoked_subcommand is None:
        window.open_app()


def main() -> None:
    """Run the command line; errors a user can mend are one line, exit code 1; Ctrl-C is 130."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Cancelled:
        typer.echo("napari-cvsuite: stopped", err=True)
        sys.exit(130)
    except (ValueError, LookupError, OSError, RuntimeError, FloatingPointError) as error:
        typer.echo(f"napari-cvsuite: {error}", err=True)
        sys.exit(1)
