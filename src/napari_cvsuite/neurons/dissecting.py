"""Dissection of a layer on the user's own labels: layers of a stack, or a folder of masks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images import Image, find_images, read
from napari_cvsuite.images.resize import resize_nearest
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.planes import Planes
from napari_cvsuite.models.subject import Subject, opened, see_plane
from napari_cvsuite.neurons.dissection import dissect, dissect_labels
from napari_cvsuite.neurons.labelled import LabelledImage
from napari_cvsuite.neurons.options import DissectOptions
from napari_cvsuite.neurons.overlap import Concept
from napari_cvsuite.neurons.seen_labels import matching_labels, seen_plane
from napari_cvsuite.neurons.subject import layer_name
from napari_cvsuite.neurons.units import Dissection

__all__ = ["Dissected", "Pair", "label_names", "pairs_of_folders", "run"]

APART = 1 << 32
"""Distance of the numbers of equal labels in two label images of a pair."""
LABEL_SIDE = 112
"""Least side of a label map, where the part that is seen has so many pixels."""


@dataclass(frozen=True)
class Pair:
    """An image with its labels, or the paths of both.

    Parameters
    ----------
    image : Image or Path
    labels : tuple of Image or Path
        One for each group of concepts, each with as many slices as the image, or one.
    """

    image: Image | Path
    labels: tuple[Image | Path, ...]


@dataclass(frozen=True)
class Dissected:
    """Outcome of a dissection.

    Parameters
    ----------
    units : Dissection
    layer : str
    n : int
        Number of images.
    provenance : dict
    """

    units: Dissection
    layer: str
    n: int
    provenance: dict[str, Any]

    def in_words(self) -> list[str]:
        """Return a line on the layer, and one for each concept with its best channel."""
        units, best = self.units, self.units.iou.argmax(axis=0)
        lines = [
            f"{self.provenance['model']}, {self.layer}: {int(units.detectors.sum())} of "
            f"{len(units.detectors)} channels are detectors, {self.n} images"
        ]
        for place, concept in enumerate(units.concepts):
            unit = int(best[place])
            line = (
                f"{concept.name}: channel {unit}, IoU {units.iou[unit, place]:.3f} (chance "
                f"{units.chance[unit, place]:.3f}, ceiling {units.ceiling[unit, place]:.3f})"
            )
            if units.p_family is not None:
                line += f", p of the family {units.p_family[unit, place]:.3f}"
            lines.append(line)
        return lines


def pairs_of_folders(images: Path, masks: Path) -> list[Pair]:
    """Return images with the mask of the same stem.

    Raises
    ------
    ValueError
        A folder is empty, or no stem is in both.
    """
    by_stem = {path.stem: path for path in find_images(masks)}
    pairs = [
        Pair(path, (by_stem[path.stem],)) for path in find_images(images) if path.stem in by_stem
    ]
    if not pairs:
        raise ValueError(
            f"no image of {images} has a mask in {masks}; give masks the names of their images"
        )
    return pairs


def label_names(path: Path | None) -> dict[int, str] | None:
    """Read the names of labels from a JSON file.

    Raises
    ------
    ValueError
        The file holds something else.
    """
    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {int(number): str(name) for number, name in found.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(
            f'{path} must hold names by label number, such as {{"1": "nucleus"}} ({error})'
        ) from error


def run(
    pairs: Sequence[Pair],
    options: DissectOptions,
    context: Context,
    names: Mapping[int, str] | None = None,
    groups: Sequence[str] | None = None,
) -> Dissected:
    """Compare every channel of a layer with every label (Bau et al. 2017, arXiv 1704.05796).

    One image at a time is in memory; activations are kept in a temporary file.

    Parameters
    ----------
    pairs : sequence of Pair
    options : DissectOptions
    context : Context
    names : mapping of int to str, optional
        Names of the labels.
    groups : sequence of str, optional
        Names of the groups, one a label image.

    Raises
    ------
    ImageError, OptionError, ValueError
        Images, labels and layer do not go together; the message says what to do.
    SpoolError
        The temporary file cannot be written.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    with opened(options, context) as subject:
        layer = layer_name(options.layer, subject)
        count = _Counted(_items(pairs, subject, context))
        network = subject.network
        if options.preset == "paper":
            found = dissect(
                network,
                layer,
                count,
                context,
                names,
                groups,
                "paper",
                options.quantile,
                options.cut,
            )
        else:
            found = dissect_labels(
                network,
                layer,
                count,
                context,
                names,
                groups,
                shifts=options.shifts,
                seed=options.seed,
                cut=options.cut,
            )
        found = replace(found, concepts=tuple(_named(one, found, names) for one in found.concepts))
        shown = layer.removeprefix("model.")
        return Dissected(found, shown, count.done, subject.provenance())


def _named(concept: Concept, found: Dissection, names: Mapping[int, str] | None) -> Concept:
    """Return a concept with the number that it has in its own label image, and its name."""
    value = concept.value - concept.group * APART
    name = (names or {}).get(value, f"label {value}")
    if len(found.groups) > 1:
        name = f"{found.groups[concept.group]}: {name}"
    return Concept(value, name, concept.group)


class _Counted:
    """An iterator that counts."""

    def __init__(self, items: Iterator[LabelledImage]) -> None:
        self._items, self.done = items, 0

    def __iter__(self) -> Iterator[LabelledImage]:
        for item in self._items:
            self.done += 1
            yield item


def _items(pairs: Sequence[Pair], subject: Subject, context: Context) -> Iterator[LabelledImage]:
    for pair in pairs:
        image, *labels = (
            read(one) if isinstance(one, Path) else one for one in (pair.image, *pair.labels)
        )
        planes = Planes(image, subject.options, context.check)
        cuts = [matching_labels(one, planes, subject.options.axis) for one in labels]
        for number, index in enumerate(planes.indices()):
            seen = see_plane(planes, number, subject)
            maps = [_label_map(seen_plane(cut, index, seen), subject.size) for cut in cuts]
            # Label 1 of one layer is another concept than label 1 of the next.
            apart = [np.where(one > 0, one + place * APART, 0) for place, one in enumerate(maps)]
            yield seen.tensor()[0], apart


def _label_map(plane: NDArray[Any], size: int) -> NDArray[np.int64]:
    """Return labels as a square, of enough pixels to tell what is small."""
    side = min(max(size, LABEL_SIDE), max(plane.shape))
    return resize_nearest(plane, (side, side)).astype(np.int64)
