"""Dissection of a pair of classifiers on masks of the images, for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from napari_cvsuite.images import READERS
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.neurons.dissecting import Dissected, Pair, run
from napari_cvsuite.neurons.options import DissectOptions, ReportOptions
from napari_cvsuite.neurons.report_parts import RELIABLE, ConceptRow, DissectionPart
from napari_cvsuite.neurons.units import Dissection, compare

__all__ = ["dissection", "masked"]


def masked(paths: Sequence[Path], images: Path, masks: Path) -> tuple[list[Pair], tuple[str, ...]]:
    """Return the images that have masks, with these, and the names of the groups of masks.

    Parameters
    ----------
    paths : sequence of Path
        Of images in the folder `images` or folders in it.
    images : Path
    masks : Path
        Holds masks in the same folders and with the same stems; or folders that do, one a group.

    Raises
    ------
    ValueError
        No image has a mask.
    """
    plain = _by_place(masks)
    keys = [path.relative_to(images).with_suffix("") for path in paths]
    groups = {masks.resolve().name: plain}
    if not any(key in plain for key in keys):
        groups = {one.name: _by_place(one) for one in sorted(masks.glob("*")) if one.is_dir()}
    pairs = [
        Pair(path, tuple(group[key] for group in groups.values()))
        for path, key in zip(paths, keys, strict=True)
        if groups and all(key in group for group in groups.values())
    ]
    if not pairs:
        raise ValueError(
            f"none of the chosen images has a mask in {masks}; give masks the names and folders of "
            "their images"
        )
    return pairs, tuple(groups)


def _by_place(folder: Path) -> dict[Path, Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in READERS)
    return {path.relative_to(folder).with_suffix(""): path for path in found}


def dissection(
    pairs: Sequence[Pair],
    groups: Sequence[str],
    known: Mapping[int, str] | None,
    models: Sequence[str],
    options: ReportOptions,
    context: Context,
) -> DissectionPart:
    """Dissect a layer of both models of a pair, and compare what their channels detect.

    Parameters
    ----------
    pairs, groups
        See :func:`masked`.
    known : mapping of int to str, or None
        Names of labels.
    models : sequence of two str
    options : ReportOptions
    context : Context

    Raises
    ------
    ImageError, OptionError, ValueError
        Images, masks and layer do not go together; the message says what to do.
    SpoolError, UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    S, R = (
        run(
            pairs,
            DissectOptions(model=name, layer=options.layer, seed=options.seed),
            context.part(number, 2, name),
            known,
            groups,
        )
        for number, name in enumerate(models)
    )
    return DissectionPart(S, R, _concepts(S, R), compare(S.units, R.units))


def _concepts(S: Dissected, R: Dissected) -> tuple[ConceptRow, ...]:
    rows = []
    for place, concept in enumerate(S.units.concepts):
        first, second = (_concept(one.units, place) for one in (S, R))
        rows.append(
            ConceptRow(
                concept.name,
                S.units.groups[concept.group],
                float(S.units.area[place]),
                (first[0], second[0]),
                (first[1], second[1]),
                (first[2], second[2]),
                (first[3], second[3]),
            )
        )
    return tuple(rows)


def _concept(units: Dissection, place: int) -> tuple[float, float, int, int]:
    """Return the largest IoU, its chance, detectors, and those of them that are reliable."""
    best = int(units.iou[:, place].argmax())
    detects = units.detectors & (units.best == place)
    assert units.p_family is not None
    reliable = detects & (units.p_family[:, place] <= RELIABLE)
    return (
        float(units.iou[best, place]),
        float(units.chance[best, place]),
        int(detects.sum()),
        int(reliable.sum()),
    )
