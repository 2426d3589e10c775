"""Results of the neurons jobs as files: pictures, maps and what made them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images import write_labels, write_probability
from napari_cvsuite.neurons.browse import Activated
from napari_cvsuite.neurons.class_map import ClassMap
from napari_cvsuite.neurons.copies import Copies
from napari_cvsuite.neurons.explain import Explained
from napari_cvsuite.neurons.mislead import Misled
from napari_cvsuite.reports.files import signed_picture, write_facts, write_picture

__all__ = [
    "patch_picture",
    "write_activated",
    "write_classes",
    "write_copies",
    "write_explained",
    "write_misled",
]


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


def write_classes(found: ClassMap, stem: Path) -> list[Path]:
    """Write ``STEM.classes.tif``, classes counted from 1, and ``.json``; return both paths."""
    paths = [stem.with_name(f"{stem.name}.classes.{kind}") for kind in ("tif", "json")]
    write_labels(paths[0], found.labels)
    write_facts(paths[1], found)
    return paths


def write_copies(found: Copies, stem: Path) -> list[Path]:
    """Write ``STEM.DISTORTION.png`` for each copy, and ``STEM.copies.json``; return them."""
    paths = []
    for one in found.copies:
        paths.append(stem.with_name(f"{stem.name}.{one.title.replace(' ', '-')}.png"))
        write_picture(paths[-1], one.pixels)
    paths.append(stem.with_name(f"{stem.name}.copies.json"))
    write_facts(paths[-1], found)
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
