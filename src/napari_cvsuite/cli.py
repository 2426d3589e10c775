"""The command line: one command a job."""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

# Before torch is imported anywhere: a thread that waits must not burn a core.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import typer

from napari_cvsuite import __version__
from napari_cvsuite.jobs import Context, Progress, option_specs
from napari_cvsuite.segmentation.options import PredictOptions, TrainOptions

__all__ = ["app", "main"]

app = typer.Typer(
    help="Segment medical and microscopy images with networks on your own machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(help="Train a network on your own images.", no_args_is_help=True)
models_app = typer.Typer(help="List, check, fetch and exchange models.", no_args_is_help=True)
app.add_typer(train_app, name="train")
app.add_typer(models_app, name="models")


def with_options(options: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one parameter for every declared option of `options`.

    The command receives the finished options object as ``options``.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for name, p in signature.parameters.items() if name != "options"]
        specs = option_specs(options)

        def wrapper(**values: Any) -> None:
            chosen = {name: values.pop(name) for name in specs}
            try:
                made = options(**chosen)
            except ValueError as error:
                raise typer.BadParameter(str(error)) from error
            command(options=made, **values)

        extra = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[
                    type(default),
                    typer.Option(
                        help=spec.help
                        + (f" One of: {', '.join(spec.choices)}." if spec.choices else ""),
                        min=spec.minimum,
                        max=spec.maximum,
                    ),
                ],
            )
            for name, (spec, default) in specs.items()
        ]
        keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        wrapper.__signature__ = signature.replace(parameters=keyword + extra)  # type: ignore[attr-defined]
        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        wrapper.__annotations__ = {p.name: p.annotation for p in keyword + extra}
        return wrapper

    return decorate


def _context(quiet: bool, device: str = "cpu", job_class: str = "batch") -> Context:
    """Return a context that shows one line of progress on a terminal."""

    def show(progress: Progress) -> None:
        if not quiet and sys.stderr.isatty():
            share = f"{progress.done / progress.total:4.0%} " if progress.total else ""
            sys.stderr.write(f"\r\x1b[K{share}{progress.message}")
            sys.stderr.flush()

    return Context(device=device, job_class=job_class, on_progress=show)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"napari-cvsuite {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Segment medical and microscopy images with networks on your own machine."""


def main() -> None:
    """Run the command line; errors a user can mend are one line, exit code 1."""
    try:
        app()
    except (ValueError, LookupError, OSError, RuntimeError) as error:
        typer.echo(f"napari-cvsuite: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("napari-cvsuite: stopped", err=True)
        sys.exit(130)


def _table_column(source: str) -> tuple[Path | None, str]:
    """Split ``FILE.csv:column``; without a column it is "kind", without a file None."""
    table, _, column = source.partition(":")
    return Path(table) if table else None, column or "kind"


def _names(source: str) -> tuple[str, ...]:
    """Return names from a text file (one a line) or from ``FILE.json:key.key``."""
    path, _, keys = source.partition(":")
    text = Path(path).read_text()
    if not path.endswith(".json"):
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    found = json.loads(text)
    for key in filter(None, keys.split(".")):
        if not isinstance(found, dict) or key not in found:
            raise ValueError(f"{path} has no entry {keys!r}")
        found = found[key]
    return tuple(str(name) for name in found)


@train_app.command("segment")
@with_options(TrainOptions)
def train_segment(
    images: Annotated[Path, typer.Option(help="Folder of images.")],
    masks: Annotated[Path, typer.Option(help="Folder of masks with the same file names.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one is resumed.")],
    options: TrainOptions,
    validation: Annotated[
        str, typer.Option(help="Names for validation: a text file, or FILE.json:key.key.")
    ] = "",
    groups: Annotated[
        str, typer.Option(help="FILE.csv:column whose rare values are shown more often.")
    ] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda:0, mps.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train QTSeg on a folder of images and a folder of masks."""
    from napari_cvsuite.models.device import limit_threads
    from napari_cvsuite.segmentation.train import TrainInputs, run

    limit_threads()
    table, column = _table_column(groups)
    inputs = TrainInputs(
        images,
        masks,
        out,
        _names(validation) if validation else (),
        table,
        column,
    )
    result = run(inputs, options, _context(as_json, device, "training"))
    facts = {
        "folder": str(result.folder),
        "validation_dice": result.best_score,
        "trained_on": result.trained_on,
        "validated_on": result.validated_on,
    }
    typer.echo(json.dumps(facts) if as_json else f"validation Dice {result.best_score:.4f}")


@app.command("segment")
@with_options(PredictOptions)
def segment(
    inputs: Annotated[list[Path], typer.Argument(help="Images: PNG, JPEG, TIFF, .npy, zarr.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    options: PredictOptions,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:0, mps.")] = "auto",
    probabilities: Annotated[
        bool, typer.Option(help="Write STEM.prob.tif with the class probabilities, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Segment images: writes STEM.labels.tif, STEM.objects.csv and summary.json."""
    from napari_cvsuite.models.device import limit_threads
    from napari_cvsuite.segmentation.files import segment_files

    limit_threads()
    summary = segment_files(inputs, out, options, _context(as_json, device), probabilities)
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        for row in summary["inputs"]:
            typer.echo(f"{row['input']}: {row.get('error') or str(row['objects']) + ' objects'}")
    if summary["failed"]:
        raise typer.Exit(1)


@models_app.command("list")
def models_list(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the models of the catalogue."""
    from napari_cvsuite.models.catalog import Catalogue

    cards = list(Catalogue())
    if as_json:
        typer.echo(json.dumps([card.to_dict() for card in cards]))
        return
    for card in cards:
        typer.echo(f"{card.name:24} {card.task:14} {card.license:14} {card.description}")


@models_app.command("info")
def models_info(name: Annotated[str, typer.Argument(help="Name of the model.")]) -> None:
    """Print the card of a model as JSON."""
    from napari_cvsuite.models.catalog import Catalogue

    typer.echo(json.dumps(Catalogue().get(name).to_dict(), indent=2))


@models_app.command("verify")
def models_verify(name: Annotated[str, typer.Argument(help="Name of the model.")]) -> None:
    """Check the hash of a model's weight file."""
    from napari_cvsuite.models.catalog import Catalogue
    from napari_cvsuite.models.weights import locate

    card = Catalogue().get(name)
    typer.echo(f"{card.name}: {locate(card)} has the expected sha256")


@models_app.command("fetch")
def models_fetch(name: Annotated[str, typer.Argument(help="Name of the model.")]) -> None:
    """Find or download the weight file of a model."""
    from napari_cvsuite.jobs import use_context
    from napari_cvsuite.models.catalog import Catalogue
    from napari_cvsuite.models.weights import fetch

    with use_context(_context(quiet=False)):
        typer.echo(str(fetch(Catalogue().get(name))))


@app.command("demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo-output"),
    model: Annotated[str, typer.Option(help="Model to use.")] = "qtseg-nuclei",
) -> None:
    """Segment the stained tissue that comes with scikit-image and write a picture of it."""
    from napari_cvsuite.models.device import limit_threads
    from napari_cvsuite.segmentation.demo import run_demo

    limit_threads()
    picture, summary = run_demo(out, model, _context(quiet=False))
    row = summary["inputs"][0]
    typer.echo(f"{row['objects']} nuclei in {row['seconds']} s; see {picture}")


evaluate_app = typer.Typer(help="Measure a model on images with known answers.")
app.add_typer(evaluate_app, name="evaluate")


@evaluate_app.callback()
def _evaluate() -> None:
    """Measure a model on images with known answers."""


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
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:0, mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Report plain Dice per image at original resolution, with its interval."""
    from napari_cvsuite.models.device import limit_threads
    from napari_cvsuite.segmentation.evaluate import EvaluateInputs, evaluate

    limit_threads()
    table, column = _table_column(groups)
    inputs = EvaluateInputs(
        images,
        masks,
        _names(names) if names else (),
        table,
        column,
        ignore,
    )
    result = evaluate(inputs, model, _context(as_json, device))
    if as_json:
        typer.echo(json.dumps(result))
        return
    for group, row in result.items():
        interval = f"[{row['low']:.4f}, {row['high']:.4f}]"
        typer.echo(f"{group:24} Dice {row['dice']:.4f} {interval} n = {row['n']}")


@models_app.command("import")
def models_import(
    path: Annotated[Path, typer.Argument(help="Weight file (.safetensors, .pt) or bundle (.zip).")],
) -> None:
    """Install a weight file, or a bundle made by ``models export``."""
    from napari_cvsuite.models.bundles import import_bundle
    from napari_cvsuite.models.weights import import_file

    cards = import_bundle(path) if path.suffix == ".zip" else [import_file(path)]
    for card in cards:
        typer.echo(f"installed {card.name}")


@models_app.command("export")
def models_export(
    names: Annotated[list[str], typer.Argument(help="Models to pack.")],
    out: Annotated[Path, typer.Option(help="The .zip file to write.")],
) -> None:
    """Pack models with their cards into one file for a machine without network."""
    from napari_cvsuite.models.bundles import export_bundle
    from napari_cvsuite.models.catalog import Catalogue

    catalogue = Catalogue()
    typer.echo(str(export_bundle([catalogue.get(name) for name in names], out)))


@models_app.command("publish")
def models_publish(
    weights: Annotated[Path, typer.Argument(help="best.pt of a training run.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    facts: Annotated[
        Path,
        typer.Option(help="JSON file: classes, license, description, data, citation, metrics."),
    ],
    tile: Annotated[int, typer.Option(help="Side of the training crops.", min=64)] = 256,
    out: Annotated[
        Path | None, typer.Option(help="Folder; default the user's models, ready to use.")
    ] = None,
) -> None:
    """Turn a training run into a half-precision weight file with its card."""
    from napari_cvsuite.models.catalog import user_folder
    from napari_cvsuite.segmentation.publish import publish

    folder = out or user_folder()
    folder.mkdir(parents=True, exist_ok=True)
    typer.echo(str(publish(weights, folder, name, tile, json.loads(facts.read_text()))))


@app.command("doctor")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Check the installation and say what to do about problems; exit code 1 if there are any."""
    from dataclasses import asdict

    from napari_cvsuite.doctor import examine

    findings = examine()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            typer.echo(f"{'ok ' if finding.ok else '!! '} {finding.name:16} {finding.found}")
            if finding.advice:
                typer.echo(f"    {'':16} {finding.advice}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
