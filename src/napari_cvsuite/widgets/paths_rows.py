"""Numbers of paths side by side, each under the name of its intervention; knows no Qt, no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_cvsuite.paths.contributions import Contributions
    from napari_cvsuite.paths.subject import Target
    from napari_cvsuite.paths.whatif import WhatIf

__all__ = [
    "DIFFERENCE",
    "ESTIMATE",
    "Column",
    "columns_of",
    "effect_column",
    "facts_columns",
    "for_picture",
    "table_rows",
]

ESTIMATE, DIFFERENCE = "attribution_patching", "direct_difference"
"""The first-order estimate; and direct shares less those of another image."""
_FACTS = ("model", "weights_sha256", "image", "version")


@dataclass(frozen=True)
class Column:
    """One number for each of N parts of a network.

    Parameters
    ----------
    intervention, replacement : str
        What was done; the second empty where nothing is replaced.
    names : tuple of str
        A path, ``constant``, ``layer_3``, ``msa_3.head_1`` or ``msa_3.bias``.
    values : ndarray, shape (N, K) or (N,)
        For all classes, or for the one of `target` alone.
    target : str
        Empty for all classes.
    """

    intervention: str
    replacement: str
    names: tuple[str, ...]
    values: NDArray[Any]
    target: str = ""

    @property
    def title(self) -> str:
        """Name of the intervention, and of the replacement if there is one."""
        behind = f" ({self.replacement})" if self.replacement else ""
        return self.intervention + behind

    def of(self, target: Target) -> dict[str, float]:
        """Return part -> number for a class or two; empty where it is for another class."""
        if self.target not in ("", target.name):
            return {}
        chosen = self.values if self.target else target.of(self.values)
        return dict(zip(self.names, (float(one) for one in chosen), strict=True))


def columns_of(found: Contributions) -> list[Column]:
    """Return what is known of an image at once."""
    heads = [
        f"msa_{layer}.head_{head}"
        for layer, row in enumerate(found.heads)
        for head in range(len(row))
    ]
    biases = [f"msa_{layer}.bias" for layer in range(len(found.biases))]
    shares = [found.shares, found.heads.reshape(-1, found.shares.shape[1]), found.biases]
    names = (*found.names, "constant", *heads, *biases)
    return [
        Column("direct", "", names, np.concatenate(shares)),
        Column("removed_final", "", found.names, found.removed_final),
    ]


def effect_column(found: WhatIf, replacement: str) -> Column:
    """Return the effects of an intervention.

    Parameters
    ----------
    found : WhatIf
    replacement : str
        In words.
    """
    return Column(found.intervention, replacement, found.names, found.effects)


def for_picture(
    column: Column, paths: Sequence[str], target: Target
) -> tuple[list[float], str] | None:
    """Return a number for each path, NaN where there is none, and what it is; None without any.

    What belongs to a layer stands in both of its boxes; of heads the largest one counts.
    """
    known = column.of(target)
    if not known:
        return None
    words = f"{column.title}, logit of {target.name}"
    if column.intervention == "total_layer":
        values = [known.get(f"layer_{path.partition('_')[2]}", math.nan) for path in paths]
        return values, f"both paths of a layer: {words}"
    if column.intervention == "total_head":
        values = [_largest(known, path) for path in paths]
        return values, f"largest of a layer's heads: {words}"
    return [known.get(path, math.nan) for path in paths], words


def _largest(known: dict[str, float], path: str) -> float:
    heads = [value for name, value in known.items() if name.startswith(f"{path}.head_")]
    return max(heads, key=abs, default=math.nan)


def table_rows(
    columns: Sequence[Column],
    paths: Sequence[str],
    norms: Sequence[float],
    target: Target,
    facts: dict[str, Any],
) -> list[dict[str, Any]]:
    """Return a row a part, with a column for each intervention.

    Parameters
    ----------
    columns : sequence of Column
    paths : sequence of str
    norms : sequence of float
        Length of what each path writes.
    target : Target
    facts : dict
        Provenance; what of it says which numbers these are ends every row.
    """
    known = {column.title: column.of(target) for column in columns}
    shown = {title: values for title, values in known.items() if values}
    parts = [*paths, "constant"]
    others = (name for values in shown.values() for name in values)
    parts += sorted({name for name in others if name not in parts}, key=_order)
    length = {path: float(one) for path, one in zip(paths, norms, strict=True)}
    return [
        {
            "path": part,
            "norm": length.get(part, math.nan),
            **{title: values.get(part, math.nan) for title, values in shown.items()},
            "class": target.name,
            **{name: facts.get(name, "") for name in _FACTS},
        }
        for part in parts
        if any(part in values for values in shown.values())
    ]


def facts_columns() -> tuple[str, ...]:
    """Return the columns that are the same in every row: for the file, not for the eye."""
    return ("class", *_FACTS)


def _order(name: str) -> tuple[str, int, str, int]:
    """Sort layers, then the heads of each attention path with its bias, by number."""
    path, _, part = name.partition(".")
    kind, _, number = path.partition("_")
    head, _, count = part.partition("_")
    return kind, int(number), head, int(count or 0)
