"""Results as files: facts, tables and pictures, each written whole or not at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image as Picture

from napari_cvsuite.images import ImageError, replacing
from napari_cvsuite.jobs.plain import plain

__all__ = [
    "DIVERGING",
    "GROWING",
    "made_folder",
    "signed_picture",
    "write_facts",
    "write_page",
    "write_picture",
    "write_rows",
]

DIVERGING, GROWING = "bwr", "magma"
"""Colours of signed maps, exactly white at 0, and of maps from 0 on."""


def made_folder(path: Path) -> Path:
    """Make a folder where there is none, and return it; raises ImageError if that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(
            f"cannot make the folder {path} ({error.strerror}); choose another"
        ) from error
    return path


def write_facts(path: Path, result: Any) -> None:
    """Write a result as JSON; see :func:`plain`.

    Raises
    ------
    ImageError
        The file cannot be written.
    """
    with replacing(path) as partial:
        text = json.dumps(plain(result), indent=2, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")


def write_page(folder: Path, page: str, result: Any) -> list[Path]:
    """Write a report as ``report.html`` and its numbers as ``report.json``; return both paths.

    Raises
    ------
    ImageError
        A file cannot be written.
    """
    paths = [folder / "report.html", folder / "report.json"]
    with replacing(paths[0]) as partial:
        partial.write_text(page, encoding="utf-8")
    write_facts(paths[1], result)
    return paths


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table as CSV; raises ImageError if that is not possible."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(rows[0]) if rows else [])
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def write_picture(path: Path, pixels: NDArray[Any]) -> None:
    """Write H x W x 3 in [0, 1] as PNG; raises ImageError if that is not possible."""
    eight = np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
    with replacing(path) as partial:
        Picture.fromarray(eight).save(partial, format="PNG")


def signed_picture(values: NDArray[Any], signed: bool = True) -> NDArray[np.float64]:
    """Return a map in [-1, 1] or [0, 1] in colours, H x W x 3."""
    shown = (values + 1) / 2 if signed else values
    colours: NDArray[np.float64] = colormaps[DIVERGING if signed else GROWING](shown)[..., :3]
    return colours
