"""Commands that look after models: list, info, verify, fetch, import, export, publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from napari_cvsuite.cli.common import run_job

__all__ = ["models_app"]

models_app = typer.Typer(help="List, check, fetch and exchange models.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the model.")]


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
def models_info(name: Name) -> None:
    """Print the card of a model as JSON."""
    from napari_cvsuite.models.catalog import Catalogue

    typer.echo(json.dumps(Catalogue().get(name).to_dict(), indent=2))


@models_app.command("verify")
def models_verify(name: Name) -> None:
    """Check the hash of a model's weight file on this machine."""
    from napari_cvsuite.models.catalog import Catalogue
    from napari_cvsuite.models.weights import verify

    card = Catalogue().get(name)
    typer.echo(f"{card.name}: {verify(card)} has the expected sha256")


@models_app.command("fetch")
def models_fetch(
    name: Name,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the licence that the card names.")
    ] = False,
) -> None:
    """Find or download the weight file of a model."""
    from napari_cvsuite.models.catalog import Catalogue
    from napari_cvsuite.models.weights import fetch

    card = Catalogue().get(name)
    typer.echo(str(run_job(lambda context: fetch(card, accept_licence), name="fetch")))


@models_app.command("import")
def models_import(
    path: Annotated[
        Path,
        typer.Argument(
            help="Weight file (.safetensors, .pt), bundle (.zip), or folder of a training run."
        ),
    ],
    name: Annotated[str, typer.Option(help="Name to install it by; default its own.")] = "",
    whole: Annotated[
        int,
        typer.Option(
            help="The network sees the whole image, its longest side brought to so many pixels, as "
            "published QTSeg weights do (512); 0 takes what the card says, or tiles.",
            min=0,
            max=4096,
        ),
    ] = 0,
    colour: Annotated[
        str, typer.Option(help="With --whole, the colours it was trained on: rgb or ycrcb.")
    ] = "rgb",
) -> None:
    """Install a weight file, a training run, or a bundle made by ``models export``."""
    from napari_cvsuite.models.catalog import InputSpec
    from napari_cvsuite.models.weights import import_bundle, import_file

    if colour not in ("rgb", "ycrcb"):
        raise typer.BadParameter(f"--colour is rgb or ycrcb, not {colour!r}")
    if colour != "rgb" and not whole:
        raise typer.BadParameter("--colour goes with --whole; add the side, such as --whole 512")
    if path.suffix == ".zip":
        if name or whole:
            raise typer.BadParameter("a bundle keeps names and cards; leave the options away")
        cards = run_job(lambda context: import_bundle(path), name="import")
    else:
        given = {"input": InputSpec("resize", whole, colour)} if whole else None
        cards = [run_job(lambda context: import_file(path, given, name), name="import")]
    for card in cards:
        typer.echo(f"installed {card.name}")


@models_app.command("export")
def models_export(
    names: Annotated[list[str], typer.Argument(help="Models to pack.")],
    out: Annotated[Path, typer.Option(help="The .zip file to write.")],
) -> None:
    """Pack models with their cards into one file for a machine without network."""
    from napari_cvsuite.models.catalog import Catalogue
    from napari_cvsuite.models.weights import export_bundle

    catalogue = Catalogue()
    cards = [catalogue.get(name) for name in names]
    typer.echo(str(run_job(lambda context: export_bundle(cards, out), name="export")))


@models_app.command("publish")
def models_publish(
    weights: Annotated[Path, typer.Argument(help="best.pt of a training run.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    facts: Annotated[
        Path,
        typer.Option(help="JSON file: classes, license, description, data, citation, metrics."),
    ],
    tile: Annotated[
        int, typer.Option(help="Tile side in pixels; 0 takes that of the run.", min=0, max=4096)
    ] = 0,
    scale: Annotated[
        float, typer.Option(help="Working scale; 0 takes that of the run.", min=0.0, max=100.0)
    ] = 0.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder; default the user's models, ready to use.")
    ] = None,
) -> None:
    """Turn a training run into a half-precision weight file with its card."""
    from napari_cvsuite.models.catalog import user_folder
    from napari_cvsuite.segmentation.publish import publish, read_facts

    given = read_facts(facts)
    made = run_job(
        lambda context: publish(weights, out or user_folder(), name, tile, given, scale),
        name="publish",
    )
    typer.echo(str(made))
