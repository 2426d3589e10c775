"""Commands that open a window: the app and the demonstration."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from napari_cvsuite.cli.common import compute

__all__ = ["demo", "open_app"]

QUALITY = "quality"
"""Name of the demonstration of image quality, beside those of segmentation."""


def _with_window() -> None:
    """Leave with exit code 2 and one line of advice where no window can be opened."""
    from napari_cvsuite.app import BindingError, need_binding

    try:
        need_binding()
    except BindingError as error:
        typer.echo(f"napari-cvsuite: {error}", err=True)
        raise typer.Exit(2) from error


def open_app(
    images: Annotated[list[Path] | None, typer.Argument(help="Images to open.")] = None,
) -> None:
    """Open the desktop app: napari with the docks in place."""
    from napari_cvsuite.app import has_display, launch

    _with_window()
    if not has_display():
        typer.echo("napari-cvsuite: there is no display; see napari-cvsuite --help", err=True)
        raise typer.Exit(2)
    launch(images or ())


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo-output"),
    screenshot: Annotated[
        Path | None, typer.Option(help="Write a picture of the window here and close it.")
    ] = None,
    name: Annotated[str, typer.Option(help="Which demonstration; empty for all.")] = "",
) -> None:
    """Segment and judge real images: in a window where there is a display, and to files."""
    from napari_cvsuite import app, demos
    from napari_cvsuite.quality.demo import run_demo as judge
    from napari_cvsuite.segmentation.demo import DEMOS, run_demo

    known = [*DEMOS, QUALITY]
    if name and name not in known:
        raise typer.BadParameter(f"there is no demonstration {name!r}; use {', '.join(known)}")
    _with_window()
    app.rerun_on_virtual_screen()
    chosen = [name] if name else known
    for each in chosen:
        if each == QUALITY:
            picture, row = compute(partial(judge, out / each), "cpu", name="demo")
            found = f"sharpest of {row['slices']} slices is number {row['best'] + 1}"
        else:
            picture, row = compute(partial(run_demo, out / each, each), "cpu", name="demo")
            found = f"{row['objects']} objects"
        typer.echo(f"{each}: {found}, in {row['seconds']} s; see {picture}")
    shown = app.has_display() and screenshot is None
    for each in chosen[:1] if shown else chosen:
        target = None if shown else _target(screenshot or out / "window.png", each, chosen)
        said = demos.quality("Score", target) if each == QUALITY else demos.segment(each, target)
        typer.echo(said + (f" See {target}" if target else ""))


def _target(path: Path, name: str, names: list[str]) -> Path:
    """Return the file of one of several screenshots; the first has the name asked for."""
    return path if name == names[0] else path.with_stem(f"{path.stem}-{name}")
