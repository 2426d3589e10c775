"""Results of the Neurons dock in words and rows, every number with the name of its measure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_cvsuite.neurons.bias import Conflict
    from napari_cvsuite.neurons.class_map import ClassMap
    from napari_cvsuite.neurons.copies import Copies
    from napari_cvsuite.neurons.dissecting import Dissected
    from napari_cvsuite.neurons.explain import Check, Explained
    from napari_cvsuite.neurons.mislead import Misled
    from napari_cvsuite.neurons.report import PairReport
    from napari_cvsuite.neurons.silence import Silenced
    from napari_cvsuite.neurons.simplicity import Simplicity

__all__ = [
    "OURS",
    "PAPER",
    "ablation",
    "attack",
    "bias",
    "classes",
    "copies",
    "detectors",
    "dissection",
    "report",
    "saliency",
    "simplicity",
]

Row = dict[str, Any]
PAPER, OURS = "arXiv 2006.09373", "definition of this project"
"""Where a measure comes from."""
_NO_NUMBER = float("nan")
_POINTING = "pointing game, most relevant pixel inside the mask", "arXiv 1608.00507"
_MASS = "relevance mass inside the mask", "arXiv 2003.07258"
MOST = 12
"""Concepts that are shown as bars; of more than these the groups are shown."""


def model_of(found: Any) -> str:
    """Return the name of the network of a result."""
    return str(found.provenance["model"])


def _side_by_side(columns: Mapping[str, Mapping[tuple[str, str], float]]) -> list[Row]:
    """Return a row a measure, and a column for each network (and for a random map)."""
    measures = list(dict.fromkeys(key for one in columns.values() for key in one))
    return [
        {
            "measure": measure,
            **{name: one.get((measure, source), _NO_NUMBER) for name, one in columns.items()},
            "source": source,
        }
        for measure, source in measures
    ]


# Saliency --------------------------------------------------------------------------------------


def saliency(found: Sequence[Explained]) -> tuple[str, list[Row]]:
    """Say what maps are of, and how far to trust them."""
    from napari_cvsuite.neurons.explain import SENTENCE

    lines, columns = [], {}
    for one in found:
        method = one.provenance["options"]["method"].replace("_", " ")
        line = f"<b>{model_of(one)}</b>: {method} of <b>{one.target}</b>"
        if one.gap is not None:
            line += f", completeness gap {one.gap:.2%}"
        lines.append(line + ".")
        if one.note and one.note not in lines:
            lines.append(one.note)
        columns[model_of(one)] = _of_map(one)
        if one.check is not None:
            lines.append(_trust(one.check))
        if one.inside is not None:
            lines.append(f"{one.inside.in_words().capitalize()}.")
        if random := _of_random(one):
            columns[f"random map, {model_of(one)}"] = random
    lines.append(f"<i>{SENTENCE}</i>")
    return "<br>".join(lines), _side_by_side(columns)


def _of_map(one: Explained) -> dict[tuple[str, str], float]:
    rows = {("total variation of the map", PAPER): one.total_variation}
    if one.length is not None:
        rows["length of the gradient", OURS] = one.length
    if one.gap is not None:
        rows["completeness gap", "arXiv 1703.01365"] = one.gap
    if one.inside is not None:
        rows[_POINTING] = float(one.inside.pointing)
        rows[_MASS] = one.inside.mass
    if one.check is not None:
        check = one.check
        rows |= _areas(check.curves.map)
        rows["max-sensitivity (lower is better)", "arXiv 1901.09392"] = check.sensitivity
        if check.infidelity is not None:
            rows["infidelity (lower is better)", "arXiv 1901.09392"] = check.infidelity
        for place, value in enumerate(check.randomised.correlations, 1):
            name = f"rank correlation, last {place} layers random (lower is better)"
            rows[name.replace("1 layers", "layer"), "arXiv 1810.03292"] = value
    return rows


def _areas(curves: Any) -> dict[tuple[str, str], float]:
    source = "arXiv 1806.07421"
    return {
        ("insertion, area (higher is better)", source): curves.insertion_auc,
        ("deletion, area (lower is better)", source): curves.deletion_auc,
    }


def _of_random(one: Explained) -> dict[tuple[str, str], float]:
    """Return what a random map has; inside a mask, on average."""
    rows = {} if one.check is None else _areas(one.check.curves.random)
    if one.inside is not None:
        rows |= {_POINTING: one.inside.area, _MASS: one.inside.area}
    return rows


def _trust(check: Check) -> str:
    """Return one sentence on a check."""
    mine, random = check.curves.map, check.curves.random
    beats = mine.insertion_auc > random.insertion_auc and mine.deletion_auc < random.deletion_auc
    words = "beats a random map" if beats else "does not beat a random map in both"
    return (
        f"Check: insertion {mine.insertion_auc:.3f} (random map {random.insertion_auc:.3f}), "
        f"deletion {mine.deletion_auc:.3f} ({random.deletion_auc:.3f}): it {words}."
    )


def classes(found: Sequence[ClassMap]) -> tuple[str, list[Row]]:
    """Say what a map of classes is, and where each class leads."""
    shares = {model_of(one): {row["class"]: row["share"] for row in one.rows()} for one in found}
    names = dict.fromkeys(name for own in shares.values() for name in own)
    lines = [f"<b>{model_of(one)}</b>: {escape(one.words)}" for one in found]
    lines.append("Below: the share of places at which each class leads.")
    rows: list[Row] = [
        {"class": name, "label": found[0].classes.index(name) + 1}
        | {model: own.get(name, 0.0) for model, own in shares.items()}
        for name in names
    ]
    return "<br>".join(lines), rows


# Dissection ------------------------------------------------------------------------------------


def dissection(found: Sequence[Dissected]) -> tuple[str, list[Row]]:
    """Say which channels detect what, and what differs between two networks."""
    from napari_cvsuite.neurons.units import compare

    lines = [line for one in found for line in one.in_words()]
    if len(found) == 2:
        change = compare(found[0].units, found[1].units)
        first, second = (model_of(one) for one in found)
        lines.append(
            f"From {first} to {second}: gained {', '.join(change.gained) or 'none'}; lost "
            f"{', '.join(change.lost) or 'none'}; kept {', '.join(change.kept) or 'none'}."
        )
    rows = [{"model": model_of(one), **row} for one in found for row in one.units.rows()]
    rows.sort(key=lambda row: -row["iou"])
    order = ("model", "channel", "concept", "iou", "chance", "ceiling", "p", "p_family", "detector")
    rest = ("threshold", "on", "area", "q", "group")
    return "<br>".join(lines), [
        {name: row[name] for name in (*order, *rest) if name in row} for row in rows
    ]


def detectors(
    found: Sequence[Dissected],
) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]], str]:
    """Count the channels that detect each concept, or those of each group where they are many.

    Returns
    -------
    names : tuple of str
        Of the concepts, or the groups.
    counts : dict of str to tuple of int
        A number for each name, by network.
    column : {"concept", "group"}
        Of the table, that has the names.
    """
    first = found[0].units
    if len(first.concepts) > MOST:
        counts = {model_of(one): one.units.detectors_of_groups for one in found}
        names, column = first.groups, "group"
    else:
        counts = {model_of(one): Counter(one.units.labels) for one in found}
        names, column = tuple(one.name for one in first.concepts), "concept"
    return names, {m: tuple(c[name] for name in names) for m, c in counts.items()}, column


# Bias ------------------------------------------------------------------------------------------


def bias(found: Sequence[Conflict]) -> tuple[str, list[Row]]:
    """Say whether shape or texture decides, beside what people do."""
    from napari_cvsuite.neurons.shape_bias import PEOPLE

    lines, rows = [], []
    for one in found:
        lines.append(f"<b>{model_of(one)}</b>: {one.in_words()}")
        counts = {"all": one.bias.total, **one.bias.by_shape}
        for category, count in counts.items():
            rate = count.bias
            rows.append(
                {
                    "model": model_of(one),
                    "category": category,
                    "shape_bias": _NO_NUMBER if rate is None else rate.value,
                    "low": _NO_NUMBER if rate is None else rate.low,
                    "high": _NO_NUMBER if rate is None else rate.high,
                    "shape": count.n_shape,
                    "texture": count.n_texture,
                    "images": count.n,
                }
            )
    lines.append(f"People: {PEOPLE[0]:.2f} to {PEOPLE[1]:.2f} (Geirhos et al. 2019).")
    return "<br>".join(lines), rows


def simplicity(found: Sequence[Simplicity]) -> tuple[str, list[Row]]:
    """List how smooth networks are, and what noise does."""
    columns = {}
    for one in found:
        column = {
            ("total variation of the first kernels", PAPER): one.kernel_tv,
            ("total variation / sum of magnitudes, first kernels", OURS): one.kernel_tv_over_l1,
            ("total variation of the gradient's map", PAPER): one.saliency_tv,
            ("length of the gradient", OURS): one.gradient_length,
        }
        for row in one.layers:
            column[f"{row.layer}: total variation, noisy / clean", PAPER] = row.tv_ratio
            column[f"{row.layer}: change under noise / activation", OURS] = row.change
        columns[model_of(one)] = column
    sigma = found[0].sigma
    text = f"What one image shows; the noise has deviation {sigma:g}, where white is 1."
    return text, _side_by_side(columns)


def copies(found: Sequence[Copies]) -> tuple[str, list[Row]]:
    """List what networks make of each distorted copy."""
    rows = []
    titles = ["as it is", *(one.title for one in found[0].copies)]
    tags = ["", *(one.tag for one in found[0].copies)]
    for place, (title, tag) in enumerate(zip(titles, tags, strict=True)):
        row: Row = {"copy": title}
        for one in found:
            likely = (one.likely, *(copy.likely for copy in one.copies))[place][0]
            row |= {model_of(one): likely.name, f"{model_of(one)}, probability": likely.probability}
        rows.append(row | {"tag": tag})
    text = (
        "The likeliest class of each distorted copy of what the network sees. Tag: of the paper's "
        "released code (secondary), or ours. Click a row to see its copy, and no other."
    )
    return text, rows


def report(found: PairReport, paths: Sequence[Path]) -> tuple[str, list[Row]]:
    """Say where a report is, and whether the claims of the paper hold."""
    links = [f'<a href="{path.resolve().as_uri()}">{escape(str(path))}</a>' for path in paths]
    S, R = (escape(one.name) for one in found.models)
    text = (
        f"<b>{S} and {R}</b>, {found.n} images, {found.both} named rightly by both: "
        f"{' and '.join(links)}."
    )
    rows = [
        {"claim": one.text, "verdict": one.verdict, "numbers": one.because, "holds if": one.rule}
        for one in found.claims
    ]
    return text, rows


# Attack and ablation ---------------------------------------------------------------------------


def attack(found: Sequence[Misled]) -> tuple[str, list[Row]]:
    """Say whether networks broke, and list every step."""
    lines, rows = [], []
    for one in found:
        before, after = one.likely_before[0], one.likely_after[0]
        norm = {"l2": "L2", "linf": "L∞"}[one.provenance["options"]["norm"]]
        verdict = "breaks" if one.broken else "holds"
        lines.append(
            f"<b>{model_of(one)} {verdict}</b>: {before.name} {before.probability:.1%} became "
            f"{after.name} {after.probability:.1%}, with a change of {norm} length {one.size:.3g} "
            f"(at most {one.eps:.3g})."
        )
        rows += [
            {"model": model_of(one), "step": step, "loss": loss, "prediction": name}
            for step, (loss, name) in enumerate(zip(one.loss, one.classes, strict=True))
        ]
    return "<br>".join(lines), rows


def ablation(found: Sequence[Silenced]) -> tuple[str, list[Row]]:
    """Say which channels the prediction needs."""
    lines, rows = [], []
    for one in found:
        own = [{"model": model_of(one), "layer": one.layer, **row} for row in one.rows()]
        worst = max(own, key=lambda row: row["drop"])
        count = int(one.changed.sum())
        line = f"<b>{model_of(one)}</b>, {one.layer}, {one.mode}: "
        if one.channels:
            after = one.after[0]
            line += (
                f"{one.target} {one.before[0].probability:.1%} became {after.name} "
                f"{after.probability:.1%}."
            )
        else:
            line += (
                f"without channel {worst['channels']} {one.target} loses most, {worst['drop']:.1%} "
                f"of probability; {count} of {len(own)} channels change the prediction."
            )
        lines.append(line)
        rows += own
    rows.sort(key=lambda row: -row["drop"])
    return "<br>".join(lines), rows
