"""Commands that look into classifiers, one or two, through images with labels or known shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_cvsuite.cli.classifiers import Images, Labels
from napari_cvsuite.cli.common import compute, table_column, with_options
from napari_cvsuite.cli.neurons import tell
from napari_cvsuite.cli.tasks import AsJson, Device, Table
from napari_cvsuite.neurons.options import BiasOptions, DissectOptions

__all__ = ["bias", "controls", "dissect"]

Second = Annotated[
    str, typer.Option(help="A second classifier to compare with, such as the robust one of a pair.")
]


@with_options(DissectOptions)
def dissect(
    images: Annotated[Path, typer.Option(help="Folder of images.")],
    masks: Annotated[Path, typer.Option(help="Folder of label images with the same names.")],
    options: DissectOptions,
    names: Annotated[
        Path | None, typer.Option(help='JSON file of label names, such as {"1": "nucleus"}.')
    ] = None,
    other: Second = "",
    csv_file: Table = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Find which channels of a layer detect your labels, and compare two networks."""
    from napari_cvsuite.neurons.dissecting import label_names, pairs_of_folders, run
    from napari_cvsuite.neurons.units import compare
    from napari_cvsuite.reports.files import write_rows

    pairs, known = pairs_of_folders(images, masks), label_names(names)
    found = []
    for model in filter(None, (options.model, other)):
        chosen = replace(options, model=model)

        def job(context: Any, chosen: DissectOptions = chosen) -> Any:
            return run(pairs, chosen, context, known)

        found.append(compute(job, device, name="dissect", quiet=as_json))
    rows = [{"model": one.provenance["model"], **row} for one in found for row in one.units.rows()]
    if csv_file is not None:
        write_rows(csv_file, rows)
    lines = [line for one in found for line in one.in_words()]
    change = compare(found[0].units, found[1].units) if len(found) == 2 else None
    if change is not None:
        for kind in ("gained", "lost", "kept"):
            lines.append(f"{kind}: {', '.join(getattr(change, kind)) or 'none'}")
    tell({"rows": rows, "comparison": change}, as_json, lines)


@with_options(BiasOptions)
def bias(
    folder: Annotated[Path, typer.Argument(help="Folder of images named SHAPE1-TEXTURE1.png.")],
    options: BiasOptions,
    other: Second = "",
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Does shape or texture decide? Cue-conflict images, with 95 % intervals."""
    from napari_cvsuite.neurons.bias import conflict

    found = {}
    for model in filter(None, (options.model, other)):
        chosen = replace(options, model=model)

        def job(context: Any, chosen: BiasOptions = chosen) -> Any:
            return conflict(folder, chosen, context)

        found[model] = compute(job, device, name="bias", quiet=as_json)
    lines = [f"{name}: {one.in_words()}" for name, one in found.items()]
    tell(found, as_json, lines)


@with_options(BiasOptions)
def controls(
    images: Images,
    options: BiasOptions,
    labels: Labels = "",
    other: Second = "",
    csv_file: Table = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure accuracy on scrambled, blurred, noisy, gray and attacked copies, and mCE of two."""
    from napari_cvsuite.neurons.control_accuracy import (
        CORRUPTION_WORDS,
        control_rows,
        controls_of_folder,
    )
    from napari_cvsuite.reports.files import write_rows

    table, column = table_column(labels)
    models = [name for name in (options.model, other) if name]
    found = compute(
        lambda context: controls_of_folder(images, models, options, context, table, column),
        device,
        name="controls",
        quiet=as_json,
    )
    rows = control_rows(found, models)
    if csv_file is not None:
        write_rows(csv_file, rows)
    columns = [*models, *(f"{name} CE" for name in models[1:])]
    lines = [
        f"{row['control']:21} {row['level'] or '':>5} {row['tag']:10} "
        + "  ".join(f"{name} {row[name]:.3f}" for name in columns if row[name] is not None)
        for row in rows
    ]
    tell(rows, as_json, [*lines, CORRUPTION_WORDS] if len(models) > 1 else lines)
