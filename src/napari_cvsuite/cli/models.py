"""Commands that look after models: list, info, verify, fetch, import, export, publish."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_cvsuite.cli.common import run_job

if TYPE_CHECKING:
    from napari_cvsuite.models.catalog import ModelCard

__all__ = ["models_app"]

models_app = typer.Typer(help="List, check, fetch and exchange models.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the model.")]


@models_app.command("list")
def models_list(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the models of the catalogue, and which of them are still to be fetched."""
    from napari_cvsuite.models.catalog import Catalogue
    from napari_cvsuite.models.local import is_here

    cards = list(Catalogue())
    if as_json:
        typer.echo(json.dumps([card.to_dict() for card in cards]))
        return
    for card in cards:
        state = "" if is_here(card) else "to fetch"
        typer.echo(f"{card.name:24} {card.task:14} {card.license:14} {state:8} {card.description}")


@models_app.command("info")
def models_info(name: Name) -> None:
    """Print the card of a model as JSON; hash and size are those of its file, where it is here."""
    from napari_cvsuite.models.catalog import Catalogue
    from napari_cvsuite.models.weights import completed

    typer.echo(json.dumps(completed(Catalogue().get(name)).to_dict(), indent=2))


@models_app.command("verify")
def models_verify(name: Name) -> None:
    """Check the hash of a model's weight file on this machine."""
    from napari_cvsuite.models.catalog import Catalogue
    from napari_cvsuite.models.weights import completed, verify

    card = Catalogue().get(name)
    path = verify(card)
    typer.echo(f"{card.name}: {path} has the expected sha256 {completed(card).weights.sha256}")


@models_app.command("fetch")
def models_fetch(
    name: Name,
    accept_licence: Annotated[
        bool,
        typer.Option(
            "--accept-licence",
            "--accept-license",
            help="Accept the licence that the card names; it is shown, and asked for once.",
        ),
    ] = False,
) -> None:
    """Find or download the weight file of a model."""
    from napari_cvsuite.models.catalog import Catalogue
    from napari_cvsuite.models.weights import fetch

    card = Catalogue().get(name)
    accepted = _agreed(card, accept_licence)
    typer.echo(str(run_job(lambda context: fetch(card, accepted), name="fetch")))


def _agreed(card: ModelCard, accepted: bool) -> bool:
    """Show a licence that is to be accepted before a download; on a terminal, ask."""
    from napari_cvsuite.models.licences import is_accepted, terms
    from napari_cvsuite.models.local import find

    if is_accepted(card) or find(card) is not None:
        return accepted
    typer.echo(terms(card), err=True)
    if accepted or not _on_terminal():
        return accepted
    return typer.confirm("Do you accept this licence?", err=True)


def _on_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


@models_app.command("import")
def models_import(
    path: Annotated[
        Path,
        typer.Argument(
            help="Weight file (.safetensors, .pt, .pth), bundle (.zip), or folder of a training "
            "run."
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
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="What the weights do not show of the network, as NAME=VALUE, such as num_heads=3 "
            "or pool=avg_norm_before; may be given several times."
        ),
    ] = None,
) -> None:
    """Install a weight file, a training run, or a bundle made by ``models export``."""
    from napari_cvsuite.models.catalog import InputSpec
    from napari_cvsuite.models.weights import import_bundle, import_file

    if colour not in ("rgb", "ycrcb"):
        raise typer.BadParameter(f"--colour is rgb or ycrcb, not {colour!r}")
    if colour != "rgb" and not whole:
        raise typer.BadParameter("--colour goes with --whole; add the side, such as --whole 512")
    if path.suffix == ".zip":
        if name or whole or option:
            raise typer.BadParameter("a bundle keeps names and cards; leave the options away")
        cards = run_job(lambda context: import_bundle(path), name="import")
    else:
        given: dict[str, Any] = {"input": InputSpec("resize", whole, colour)} if whole else {}
        if option:
            given["options"] = dict(_stated(pair) for pair in option)
        cards = [run_job(lambda context: import_file(path, given or None, name), name="import")]
    for card in cards:
        licence = f" (licence: {card.license})" if card.weights.license_must_be_accepted else ""
        typer.echo(f"installed {card.name}{licence}")


def _stated(pair: str) -> tuple[str, Any]:
    """Split ``NAME=VALUE``; values are JSON, or text."""
    name, sign, text = pair.partition("=")
    if not name or not sign:
        raise typer.BadParameter(f"--option wants NAME=VALUE, such as num_heads=3, not {pair!r}")
    try:
        return name, json.loads(text)
    except ValueError:
        return name, text


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
    from napari_cvsuite.training.publish import publish, read_facts

    given = read_facts(facts)
    made = run_job(
        lambda context: publish(weights, out or user_folder(), name, tile, given, scale),
        name="publish",
    )
    typer.echo(str(made))
