"""Results of the neurons jobs as files: pictures, maps, tables and what made them."""

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

from napari_cvsuite.images import replacing, write_probability
from napari_cvsuite.jobs.plain import plain
from napari_cvsuite.neurons.browse import Activated
from napari_cvsuite.neurons.explain import Explained
from napari_cvsuite.neurons.mislead import Misled

__all__ = [
    "patch_picture",
    "signed_picture",
    "write_activated",
    "write_explained",
    "write_facts",
    "write_misled",
    "write_picture",
    "write_rows",
]

DIVERGING, GROWING = "bwr", "magma"
"""Colours of signed maps, exactly white at 0, and of maps from 0 on."""


def write_facts(path: Path, result: Any) -> None:
    """Write a result as JSON, whole or not at all; see :func:`plain`.

    Raises
    ------
    ImageError
        The file cannot be written.
    """
    with replacing(path) as partial:
        text = json.dumps(plain(result), indent=2, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table as CSV, whole or not at all; raises ImageError if that is not possible."""
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


def patch_picture(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lay patches ``C x K x S x S x 3`` out in a row a channel, with white lines between."""
    framed = np.pad(pictures, ((0, 0), (0, 0), (0, 2), (0, 2), (0, 0)), constant_values=1)
    rows, columns, height, width, _ = framed.shape
    laid = framed.transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(laid.reshape(rows * height, columns * width, 3))


def write_explained(found: Explained, stem: Path) -> list[Path]:
    """Write ``STEM.saliency.tif``, ``.png`` and ``.json``; return them.

    Raises
    ------
    ImageError
        A file cannot be written.
    """
    paths = [stem.with_name(f"{stem.name}.saliency.{kind}") for kind in ("tif", "png", "json")]
    write_probability(paths[0], found.values)
    write_picture(paths[1], signed_picture(found.values, found.signed))
    write_facts(paths[2], found)
    return paths


def write_activated(found: Activated, stem: Path) -> list[Path]:
    """Write ``STEM.LAYER.tif``, one page a channel, and ``.json``; see :func:`write_explained`."""
    paths = [stem.with_name(f"{stem.name}.{found.layer}.{kind}") for kind in ("tif", "json")]
    write_probability(paths[0], found.maps)
    write_facts(paths[1], found)
    return paths


def write_misled(found: Misled, stem: Path) -> list[Path]:
    """Write ``STEM.adversarial.png``, ``STEM.change.tif`` and ``STEM.attack.json``.

    The picture has 8 bits, which round away a part of the change; the TIFF has all of it.
    """
    kinds = ("adversarial.png", "change.tif", "attack.json")
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in kinds]
    write_picture(paths[0], found.after)
    write_probability(paths[1], np.moveaxis(found.change, -1, 0))
    write_facts(paths[2], found)
    return paths
