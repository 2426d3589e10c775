"""Results of the jobs on paths as files: tables, facts and figures, with what made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_cvsuite.images import replacing, write_probability
from napari_cvsuite.jobs.plain import plain
from napari_cvsuite.paths.contributions import Contributions
from napari_cvsuite.paths.counting import Lengths
from napari_cvsuite.paths.depth import Depths, Lens
from napari_cvsuite.paths.figures import (
    depth_figure,
    effects_figure,
    frequency_figure,
    influence_figure,
    lengths_figure,
    lens_figure,
    path_picture,
    pruning_figure,
    shares_figure,
    stack_figure,
)
from napari_cvsuite.paths.frequency import Frequencies
from napari_cvsuite.paths.influence import Influence
from napari_cvsuite.paths.maps import PathMap
from napari_cvsuite.paths.pruning import Pruned
from napari_cvsuite.paths.stack import StackEffects
from napari_cvsuite.paths.whatif import WhatIf
from napari_cvsuite.reports.files import signed_picture, write_facts, write_picture, write_rows

__all__ = [
    "Tabled",
    "facts_of",
    "figures_of",
    "path_table",
    "stamped",
    "write_map",
    "write_table",
    "write_tabled",
]

STAMPS = {
    "model": "model",
    "weights_sha256": "model_sha256",
    "image": "image",
    "class": "class",
    "version": "version",
}
"""What every row of a table says of its origin: entry of the provenance, and column."""


class Tabled(Protocol):
    """A result that is a table, too."""

    @property
    def provenance(self) -> dict[str, Any]:
        """What made it."""

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the table, all with the same columns."""


def stamped(
    rows: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return rows with the model, the hash of its weights, image, class and version added."""
    facts = {column: provenance.get(key, "") for key, column in STAMPS.items()}
    return [{**row, **facts} for row in rows]


def path_table(found: Contributions, effects: Sequence[WhatIf] = ()) -> list[dict[str, Any]]:
    """Return one table of the shares and of interventions on the same image.

    Each intervention has a column, such as ``total_module mean``, beside direct and removed_final,
    which the shares bring themselves. Rows of layers and heads follow those of the paths, where an
    intervention takes these away.
    """
    others = [one for one in effects if one.intervention != "removed_final"]
    columns = [f"{one.intervention} {one.replacement}" for one in others]
    if any(one.estimates is not None for one in others):
        columns.append("attribution_patching")
    own = found.rows()
    rows = {row["path"]: row | dict.fromkeys(columns) for row in own}
    for one, column in zip(others, columns, strict=False):
        for effect in one.rows():
            name = effect["path"]
            empty = dict.fromkeys([*own[0], *columns]) | {"path": name}
            row = rows.setdefault(name, empty)
            row[column] = effect["effect"]
            if effect["estimate"] is not None:
                row["attribution_patching"] = effect["estimate"]
    for (layer, head), share in np.ndenumerate(found.target.of(found.heads)):
        name = f"msa_{layer}.head_{head}"
        if name in rows:
            rows[name]["direct"] = float(share)
    return list(rows.values())


def figures_of(found: Any) -> dict[str, bytes]:
    """Return the figures of a result as PNG, by name; none where there are no figures for it."""
    if isinstance(found, Contributions):
        shares = found.target.of(found.centred)[:-1]
        figures = {"shares": shares_figure(found)}
        if found.heads.size:
            label = f"direct share in {found.target.name}, centred over the classes"
            figures["paths"] = path_picture(found.names, shares, label)
        return figures
    draw: dict[type[Any], Any] = {
        Pruned: pruning_figure,
        Frequencies: frequency_figure,
        Lens: lens_figure,
        Depths: depth_figure,
        Influence: influence_figure,
        Lengths: lengths_figure,
        WhatIf: effects_figure,
        StackEffects: stack_figure,
    }
    make = draw.get(type(found))
    return {"figure": make(found)} if make is not None else {}


def facts_of(found: Tabled) -> dict[str, Any]:
    """Return a result as plain data, with its table; large arrays are left out."""
    facts: dict[str, Any] = plain(found)
    return facts | {"rows": plain(found.rows())}


def write_table(path: Path, found: Tabled) -> None:
    """Write the table of a result as CSV; raises ImageError if that is not possible."""
    write_rows(path, stamped(found.rows(), found.provenance))


def write_tabled(found: Tabled, stem: Path, kind: str) -> list[Path]:
    """Write ``STEM.KIND.csv``, ``.json`` and figures; return them.

    Raises
    ------
    ImageError
        A file cannot be written.
    """
    paths = [stem.with_name(f"{stem.name}.{kind}.{suffix}") for suffix in ("csv", "json")]
    write_table(paths[0], found)
    write_facts(paths[1], facts_of(found))
    for name, content in figures_of(found).items():
        more = kind if name == "figure" else f"{kind}.{name}"
        paths.append(stem.with_name(f"{stem.name}.{more}.png"))
        with replacing(paths[-1]) as partial:
            partial.write_bytes(content)
    return paths


def write_map(found: PathMap, stem: Path) -> list[Path]:
    """Write ``STEM.KIND.tif``, one pixel a patch, ``.png`` and ``.json``; return them.

    Raises
    ------
    ImageError
        A file cannot be written.
    """
    paths = [stem.with_name(f"{stem.name}.{found.kind}.{kind}") for kind in ("tif", "png", "json")]
    write_probability(paths[0], found.values)
    low = 0.0 if found.signed else float(found.values.min())
    top = float(np.abs(found.values - low).max()) or 1.0
    write_picture(paths[1], signed_picture((found.values - low) / top, found.signed))
    write_facts(paths[2], found)
    return paths
