"""Commands that take vision transformers apart into paths."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_cvsuite.cli.common import compute, likely_lines, with_options
from napari_cvsuite.cli.tasks import AsJson, Device, Input, Table
from napari_cvsuite.paths.labelled_options import LengthOptions
from napari_cvsuite.paths.options import (
    ContributionOptions,
    FrequencyOptions,
    MapOptions,
    TargetOptions,
    WhatIfOptions,
)

__all__ = ["Out", "finish", "paths_app", "stem_of"]

paths_app = typer.Typer(
    help="Take a vision transformer apart into its paths.", no_args_is_help=True
)

Out = Annotated[
    Path | None, typer.Option(help="Folder for a table, facts as JSON, and figures as PNG.")
]
Reference = Annotated[
    list[Path] | None,
    typer.Option(help="Other images, or folders of images, that the replacement is made from."),
]


def finish(
    found: Any,
    as_json: bool,
    lines: list[str],
    csv_file: Path | None = None,
    stem: Path | None = None,
    kind: str = "",
) -> None:
    """Write the files that were asked for, and tell the result."""
    from napari_cvsuite.paths.files import facts_of, write_table, write_tabled
    from napari_cvsuite.reports.files import made_folder

    if csv_file is not None:
        write_table(csv_file, found)
    if stem is not None:
        made_folder(stem.parent)
        lines = [*lines, *map(str, write_tabled(found, stem, kind))]
    typer.echo(json.dumps(facts_of(found)) if as_json else "\n".join(lines))


@paths_app.command("contributions")
@with_options(ContributionOptions)
def contributions(
    image: Input,
    options: ContributionOptions,
    other: Annotated[
        Path | None, typer.Option(help="A second image, whose shares are subtracted.")
    ] = None,
    csv_file: Table = None,
    out: Out = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Split the prediction into the direct shares of all paths: they add up to the logit."""
    from napari_cvsuite.images import read
    from napari_cvsuite.paths.contributions import SENTENCE, run

    found = compute(
        lambda context: run(read(image), options, context, read(other) if other else None),
        device,
        "interactive",
        "contributions",
    )
    rows = found.rows()
    lines = [
        f"{row['path']:>10}  direct {row['direct']:+8.3f}"
        + ("" if row["removed_final"] is None else f"  removed_final {row['removed_final']:+8.3f}")
        for row in rows
    ]
    whole = float(found.target.of(found.logits))
    minus = f", minus {found.against}" if found.against else ""
    lines += [
        f"{found.target.name}{minus}: sum {sum(row['direct'] for row in rows):+.3f}, logit "
        f"{whole:+.3f}, largest residual {found.residual:.1e}",
        *likely_lines(found.likely),
        SENTENCE,
    ]
    stem = None if out is None else out / image.stem
    finish(found, as_json, lines, csv_file, stem, "contributions")


def _beside(
    run: Callable[..., Any],
    image: Path,
    options: WhatIfOptions,
    reference: list[Path] | None,
    device: str,
    name: str,
    quiet: bool,
) -> Any:
    """Compute what becomes of an image, beside those that give the replacement."""
    from napari_cvsuite.images import expand, read

    others = expand(reference) if reference else []
    return compute(
        lambda context: run(read(image), options, context, others), device, name=name, quiet=quiet
    )


@paths_app.command("whatif")
@with_options(WhatIfOptions)
def whatif(
    image: Input,
    options: WhatIfOptions,
    reference: Reference = None,
    csv_file: Table = None,
    out: Out = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Take paths away, each in turn or some together, and see what the prediction becomes."""
    from napari_cvsuite.paths.whatif import run

    found = _beside(run, image, options, reference, device, "what if", as_json)
    lines = [
        f"{row['path']:>14}  {row['effect']:+8.3f}"
        + ("" if row["estimate"] is None else f"  estimate {row['estimate']:+8.3f}")
        + (f"  prediction becomes {row['prediction']}" if row["changed"] else "")
        for row in found.rows()
    ]
    title = f"{found.intervention}, {found.replacement}: logit of {found.target.name} that is lost"
    stem = None if out is None else out / image.stem
    finish(found, as_json, [title, *lines, *likely_lines(found.after)], csv_file, stem, "whatif")


@paths_app.command("stack")
@with_options(WhatIfOptions)
def stack(
    image: Input,
    options: WhatIfOptions,
    reference: Reference = None,
    csv_file: Table = None,
    out: Out = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Take paths away together, or weigh them, in every slice of a stack."""
    from napari_cvsuite.paths.stack import run

    found = _beside(run, image, options, reference, device, "stack", as_json)
    lines = [
        f"{row['slice']:>6}  {row['before']} {row['probability_before']:.1%} becomes "
        f"{row['after']} {row['probability_after']:.1%}, effect {row['effect']:+.3f}"
        if row["before"]
        else f"{row['slice']:>6}  no finite pixel"
        for row in found.rows()
    ]
    title = (
        f"{found.name}, {found.intervention}, {found.replacement}: prediction of every slice, and "
        f"logit of {found.target.name} that is lost"
    )
    stem = None if out is None else out / image.stem
    finish(found, as_json, [title, *lines], csv_file, stem, "stack")


@paths_app.command("map")
@with_options(MapOptions)
def path_map(
    image: Input,
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    options: MapOptions,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Map what paths take from the patches: STEM.KIND.tif with one pixel a patch, .png, .json."""
    from napari_cvsuite.images import read
    from napari_cvsuite.jobs.plain import plain
    from napari_cvsuite.paths.files import write_map
    from napari_cvsuite.paths.maps import run
    from napari_cvsuite.reports.files import made_folder

    found = compute(
        lambda context: run(read(image), options, context), device, "interactive", "map"
    )
    paths = write_map(found, made_folder(out) / image.stem)
    lines = [found.name]
    if found.own is not None:
        lines.append(
            f"all {found.total:+.3f}, of that from tokens without a place {found.own:+.3f}"
        )
    typer.echo(json.dumps(plain(found)) if as_json else "\n".join([*lines, *map(str, paths)]))


@paths_app.command("depth")
@with_options(TargetOptions)
def depth(
    image: Input,
    options: TargetOptions,
    csv_file: Table = None,
    out: Out = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Read the prediction after each layer."""
    from napari_cvsuite.images import read
    from napari_cvsuite.paths.depth import run

    found = compute(
        lambda context: run(read(image), options, context), device, "interactive", "depth"
    )
    lines = [
        f"{row['layers']:>3} layers: {row['class']} {row['logit']:+.3f}, predicted "
        f"{row['prediction']}"
        for row in found.rows()
    ]
    stem = None if out is None else out / image.stem
    finish(found, as_json, lines, csv_file, stem, "depth")


@paths_app.command("frequency")
@with_options(FrequencyOptions)
def frequency(
    inputs: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    options: FrequencyOptions,
    csv_file: Table = None,
    out: Out = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure how coarse or fine what each path writes is, averaged over images."""
    from napari_cvsuite.images import expand
    from napari_cvsuite.paths.frequency import run

    images = expand(inputs)
    found = compute(
        lambda context: run(images, options, context), device, name="frequency", quiet=as_json
    )
    lines = [
        f"{name:>10}  {curve[-1]:+.3f} at the highest frequency, "
        f"{'finer' if finer else 'coarser'} than the sum"
        for name, curve, finer in zip(found.names, found.curves, found.finer(), strict=True)
    ]
    lines += [f"{'sum':>10}  {found.whole[-1]:+.3f}, n = {found.images}"]
    lines += [found.words] if found.words else []
    finish(found, as_json, lines, csv_file, stem_of(out, options.model), "frequency")


@paths_app.command("lengths")
@with_options(LengthOptions)
def lengths(
    options: LengthOptions,
    csv_file: Table = None,
    out: Out = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Count the paths of a network, and the routes in them by their length."""
    from napari_cvsuite.paths.counting import run

    found = compute(lambda context: run(options, context), device, "interactive", "lengths")
    counts = found.counts
    lines = [
        f"{found.layers} layers, {found.heads} heads: {counts.layer} layer paths, {counts.module} "
        f"module paths, {counts.head} with heads apart",
        *(f"{row['modules']:>3} modules: {row['share']:7.2%} of routes" for row in found.rows()),
    ]
    finish(found, as_json, lines, csv_file, stem_of(out, options.model), "lengths")


def stem_of(out: Path | None, name: str) -> Path | None:
    """Return what the names of files in a folder begin with; None where no folder was given."""
    return None if out is None else out / name
