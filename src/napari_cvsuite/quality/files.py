"""Score files on disk: a table of all, and maps beside them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from napari_cvsuite.images import (
    Image,
    ImageError,
    expand,
    read,
    replacing,
    write_probability,
)
from napari_cvsuite.jobs.context import Cancelled, Context
from napari_cvsuite.quality import map as quality_map
from napari_cvsuite.quality.options import MapOptions
from napari_cvsuite.quality.score import percentiles, run

__all__ = ["COLUMNS", "score_files", "write_table"]

COLUMNS = (
    "path",
    "index",
    "model",
    "score",
    "percentile",
    "likely_distortion",
    "confidence",
    "strength",
    "sharpness",
    "noise",
    "clipped",
    "note",
)


def score_files(
    paths: Sequence[Path],
    options: MapOptions,
    context: Context,
    reference: Path | None = None,
    maps: Path | None = None,
) -> dict[str, Any]:
    """Score every slice of every file; one that fails does not stop the others.

    Parameters
    ----------
    paths : sequence of Path
        Files, and folders whose images are all meant.
    options : MapOptions
    context : Context
        Its progress counts files, in fractions while one is under way.
    reference : Path, optional
        For models that compare.
    maps : Path, optional
        Folder for ``STEM.quality.tif``, the map of local quality, and ``STEM.quality.json``,
        which says where its values lie; with attention also ``STEM.attention-N.tif``.

    Returns
    -------
    dict
        ``rows`` (see :data:`COLUMNS`; unknown numbers are None), ``failures`` (path and error)
        and ``provenance`` of the last image. Percentiles are among all rows.

    Raises
    ------
    ImageError
        The reference cannot be read, a folder is empty, or the maps cannot be written.
    Cancelled
    """
    files = expand(paths)
    other = read(reference) if reference is not None else None
    if maps is not None:
        try:
            maps.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageError(
                f"cannot make the folder {maps} ({error.strerror}); choose another"
            ) from error
    rows: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    provenance: dict[str, Any] = {}
    for done, path in enumerate(files):
        context.progress(done, len(files), f"scoring {path.name}")
        inner = context.part(done, len(files), path.name)
        try:
            found, provenance = _score_one(path, options, inner, other, maps)
            rows += found
        except Cancelled:
            raise
        # One bad file of a folder must not cost the user the rest; its reason is reported.
        except Exception as error:
            context.log.debug("%s failed", path, exc_info=True)
            failures.append({"path": str(path), "error": f"{type(error).__name__}: {error}"})
    ranks = percentiles([math.nan if row["score"] is None else row["score"] for row in rows])
    ranked = [{**row, "percentile": _plain(rank)} for row, rank in zip(rows, ranks, strict=True)]
    return {"rows": ranked, "failures": failures, "provenance": provenance}


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all; raises ImageError if that is not possible."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def _score_one(
    path: Path, options: MapOptions, context: Context, reference: Image | None, maps: Path | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    image = read(path)
    result = run(image, options, context, reference)
    model = result.provenance["model"]
    rows = []
    for one in result.rows:
        facts = {key: _plain(value) for key, value in asdict(one).items() if key in COLUMNS}
        rows.append({key: {**facts, "path": str(path), "model": model}[key] for key in COLUMNS})
    if maps is not None:
        _write_map(image, maps / path.stem, options, context, reference)
    return rows, result.provenance


def _write_map(
    image: Image, stem: Path, options: MapOptions, context: Context, reference: Image | None
) -> None:
    found = quality_map.run(image, options, context, reference)
    write_probability(stem.with_name(f"{stem.name}.quality.tif"), found.scores)
    for level, one in enumerate(found.attention):
        write_probability(stem.with_name(f"{stem.name}.attention-{level + 1}.tif"), one)
    facts = {
        "axes": found.axes,
        "grid": asdict(found.grid),
        "attention_grids": [asdict(grid) for grid in found.attention_grids],
        "provenance": found.provenance,
    }
    with replacing(stem.with_name(f"{stem.name}.quality.json")) as partial:
        partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """Return None for numbers that are not known, which JSON has no word for."""
    return None if isinstance(value, float) and math.isnan(value) else value
