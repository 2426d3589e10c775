"""Segment files on disk: one set of results for each, and a summary of all."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_cvsuite.images import (
    Image,
    ImageError,
    read,
    replacing,
    write_labels,
    write_probability,
)
from napari_cvsuite.jobs.context import Cancelled, Context
from napari_cvsuite.segmentation.measures import COLUMNS
from napari_cvsuite.segmentation.options import PredictOptions
from napari_cvsuite.segmentation.predict import run
from napari_cvsuite.segmentation.streaming import LARGE_PIXELS, Outputs, segment_stream

__all__ = ["segment_files"]


def segment_files(
    paths: Sequence[Path],
    out: Path,
    options: PredictOptions,
    context: Context,
    probabilities: bool = False,
) -> dict[str, Any]:
    """Segment each file; one that fails does not stop the others.

    Images of more than :data:`napari_cvsuite.segmentation.streaming.LARGE_PIXELS` pixels are
    read, segmented and written part by part, with the same results; memory stays bounded.

    Parameters
    ----------
    paths : sequence of Path
    out : Path
        Folder for ``STEM.labels.tif`` (class map), ``STEM.objects.csv``, optionally
        ``STEM.prob.tif``, and ``summary.json``; made if needed.
    options : PredictOptions
    context : Context
        Its progress counts files, in fractions while one is under way.
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
        inner = context.part(done, len(paths), path.name)
        try:
            rows.append(_segment_one(path, out / names[done], options, inner, probabilities))
        except Cancelled:
            raise
        # One bad file of a folder must not cost the user the rest; its reason is reported.
        except Exception as error:
            context.log.debug("%s failed", path, exc_info=True)
            rows.append({"input": str(path), "error": f"{type(error).__name__}: {error}"})
    summary = {"inputs": rows, "failed": sum("error" in row for row in rows)}
    _write_text(out / "summary.json", [json.dumps(summary, indent=2) + "\n"])
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
    outputs = Outputs(
        labels=stem.with_name(stem.name + ".labels.tif"),
        probabilities=stem.with_name(stem.name + ".prob.tif") if probabilities else None,
    )
    table = stem.with_name(stem.name + ".objects.csv")
    if image.n_planes * image.size("y") * image.size("x") > LARGE_PIXELS:
        result = segment_stream(image, options, context, outputs)
        _write_table(table, result.rows(), image.n_planes > 1)
        return _facts(path, image, result.counts, result.n_objects, result.provenance)
    found = run(image, options, context)
    write_labels(outputs.labels, found.classes)
    _write_table(table, found.table, image.n_planes > 1)
    if outputs.probabilities is not None:
        write_probability(outputs.probabilities, found.probabilities.astype(np.float32))
    counts = np.bincount(found.classes.ravel(), minlength=1)
    return _facts(path, image, counts, len(found.table), found.provenance)


def _facts(
    path: Path,
    image: Image,
    counts: np.ndarray[Any, np.dtype[np.int64]],
    objects: int,
    provenance: dict[str, Any],
) -> dict[str, Any]:
    pixel = float(np.prod(image.pixel_size))
    return {
        "input": str(path),
        "model": provenance["model"],
        "weights_sha256": provenance["weights_sha256"],
        "seconds": provenance["seconds"],
        "class_areas": {str(value): float(n) * pixel for value, n in enumerate(counts) if n},
        "objects": objects,
        "provenance": provenance,
    }


def _write_table(path: Path, rows: Iterable[dict[str, float]], planes: bool) -> None:
    columns = ("plane", *COLUMNS) if planes else COLUMNS
    whole = ("plane", "index", "class")
    line = io.StringIO(newline="")
    writer = csv.DictWriter(line, columns)

    def lines() -> Iterable[str]:
        writer.writeheader()
        for row in rows:
            writer.writerow({k: int(v) if k in whole else f"{v:.6g}" for k, v in row.items()})
            if line.tell() > 1 << 16:
                yield line.getvalue()
                line.seek(0)
                line.truncate()
        yield line.getvalue()

    _write_text(path, lines())


def _write_text(path: Path, parts: Iterable[str]) -> None:
    """Write a text file whole or not at all; raises ImageError if it cannot be written."""
    with replacing(path) as partial, partial.open("w", newline="") as handle:
        handle.writelines(parts)
