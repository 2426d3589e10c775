"""Segment files on disk: one set of results for each, and a summary of all."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_cvsuite.images import ImageError, read, write_labels, write_probability
from napari_cvsuite.jobs.context import Cancelled, Context
from napari_cvsuite.segmentation.options import PredictOptions
from napari_cvsuite.segmentation.predict import SegmentResult, run

__all__ = ["segment_files"]

COLUMNS = (
    "index",
    "class",
    "area",
    "centroid_y",
    "centroid_x",
    "major_axis",
    "minor_axis",
    "eccentricity",
    "solidity",
)


def segment_files(
    paths: Sequence[Path],
    out: Path,
    options: PredictOptions,
    context: Context,
    probabilities: bool = False,
) -> dict[str, Any]:
    """Segment each file; one that fails does not stop the others.

    Parameters
    ----------
    paths : sequence of Path
    out : Path
        Folder for ``STEM.labels.tif`` (class map), ``STEM.objects.csv``, optionally
        ``STEM.prob.tif``, and ``summary.json``; made if needed.
    options : PredictOptions
    context : Context
    probabilities : bool
        Whether to write the probabilities.

    Returns
    -------
    dict
        ``inputs`` (one entry each: input, model, weights_sha256, seconds, class_areas, objects,
        or the error) and ``failed`` (their number); also written as ``summary.json``.

    Raises
    ------
    ImageError
        The output folder cannot be made or written.
    Cancelled
        Results finished before stay on disk.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(
            f"cannot make the folder {out} ({error.strerror}); choose another"
        ) from error
    names = _output_names(paths)
    rows: list[dict[str, Any]] = []
    for done, path in enumerate(paths):
        context.progress(done, len(paths), f"segmenting {path.name}")
        try:
            rows.append(_segment_one(path, out / names[done], options, context, probabilities))
        except Cancelled:
            raise
        # One bad file of a folder must not cost the user the rest; its reason is reported.
        except Exception as error:
            context.log.debug("%s failed", path, exc_info=True)
            rows.append({"input": str(path), "error": f"{type(error).__name__}: {error}"})
    summary = {"inputs": rows, "failed": sum("error" in row for row in rows)}
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _output_names(paths: Sequence[Path]) -> list[str]:
    """Return stems, numbered where two inputs share one, so that no result overwrites another."""
    seen: Counter[str] = Counter()
    names = []
    for path in paths:
        seen[path.stem] += 1
        number = seen[path.stem]
        names.append(path.stem if number == 1 else f"{path.stem}-{number}")
    return names


def _segment_one(
    path: Path, stem: Path, options: PredictOptions, context: Context, probabilities: bool
) -> dict[str, Any]:
    image = read(path)
    inner = Context(context.device, context.job_class, context.token, log=context.log)
    result = run(image, options, inner)
    write_labels(stem.with_name(stem.name + ".labels.tif"), result.classes)
    _write_table(stem.with_name(stem.name + ".objects.csv"), result)
    if probabilities:
        planes = result.probabilities.astype(np.float32)
        write_probability(stem.with_name(stem.name + ".prob.tif"), planes)
    values, counts = np.unique(result.classes, return_counts=True)
    pixel = float(np.prod(image.pixel_size))
    return {
        "input": str(path),
        "model": result.provenance["model"],
        "weights_sha256": result.provenance["weights_sha256"],
        "seconds": result.provenance["seconds"],
        "class_areas": {str(v): float(n) * pixel for v, n in zip(values, counts, strict=True)},
        "objects": len(result.table),
        "provenance": result.provenance,
    }


def _write_table(path: Path, result: SegmentResult) -> None:
    columns = ("plane", *COLUMNS) if result.classes.ndim > 2 else COLUMNS
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, columns)
        writer.writeheader()
        for row in result.table:
            whole = ("plane", "index", "class")
            writer.writerow({k: int(v) if k in whole else f"{v:.6g}" for k, v in row.items()})
