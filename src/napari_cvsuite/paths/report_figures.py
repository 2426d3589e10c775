"""Figures that only the report on the paths of a transformer has, as PNG."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from napari_cvsuite.paths.figures import influence_figure
from napari_cvsuite.paths.influence import Influence
from napari_cvsuite.paths.report_parts import FrequencyPart, InfluencePart, ScalePart, StudyPart
from napari_cvsuite.paths.study_options import PLAIN
from napari_cvsuite.reports.figures import COLOURS, errors, legend, png

__all__ = [
    "alone_figure",
    "effects_figures",
    "filters_figure",
    "scale_figure",
    "study_figure",
]

GREY = "#333333"


def alone_figure(part: InfluencePart) -> bytes:
    """Draw the accuracy of the direct share of each path alone."""
    rates, names = part.zero.alone, part.zero.names

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        places, values = range(len(names)), [one.value for one in rates]
        axes.bar(places, values, color=COLOURS[0], yerr=errors(rates), ecolor=GREY)
        for value, style, label in (
            (part.zero.accuracy.value, "-", "whole network"),
            (part.frequent, ":", "most frequent class"),
        ):
            axes.axhline(value, color=GREY, linestyle=style, linewidth=1, label=label)
        axes.set_xticks(places, names, rotation=60, ha="right", fontsize=8)
        axes.set_ylim(0, 1)
        axes.set_ylabel("accuracy of the share alone")
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        legend(figure, axes)

    return png(max(6.0, 1.5 + 0.3 * len(names)), 3.8, draw)


def effects_figures(part: InfluencePart) -> tuple[bytes, ...]:
    """Draw the change of accuracy by each intervention, two side by side."""
    pairs = (
        (part.zero, ("removed_final", "total_module")),
        (part.zero, ("total_edge", "total_layer")),
        (part.mean, ("total_module", "total_layer")),
    )
    return tuple(influence_figure(_only(found, kinds)) for found, kinds in pairs)


def _only(found: Influence, kinds: tuple[str, ...]) -> Influence:
    effects = tuple(one for kind in kinds for one in found.effects if one.intervention == kind)
    return replace(found, effects=effects)


def scale_figure(part: ScalePart) -> bytes:
    """Draw fitted weights: one a path, and mean and range of those a channel."""
    names = part.scalar.names

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        places = np.arange(len(names))
        rows = part.channel.rows()
        means = np.array([row["mean"] for row in rows])
        below = means - [row["least"] for row in rows]
        above = [row["largest"] for row in rows] - means
        axes.axhline(1, color=GREY, linewidth=0.8)
        label = "one a path"
        axes.plot(places - 0.15, part.scalar.alpha, "o", color=COLOURS[0], label=label)
        label = "one a path and channel: mean, least and largest"
        bars = [below, above]
        axes.errorbar(places + 0.15, means, bars, fmt="s", color=COLOURS[1], label=label)
        axes.set_xticks(places, names, rotation=60, ha="right", fontsize=8)
        axes.set_ylabel("weight in the final sum")
        axes.grid(axis="y", alpha=0.3)
        legend(figure, axes)

    return png(max(6.0, 1.5 + 0.3 * len(names)), 3.8, draw)


def filters_figure(part: FrequencyPart) -> bytes:
    """Draw the frequencies of the sum, and of sums that are combined anew."""
    curves = part.curves

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot(curves.frequencies, curves.whole, color="black", linewidth=2, label="whole sum")
        for colour, one in zip(COLOURS, part.filters, strict=False):
            if one.changed:
                axes.plot(curves.frequencies, one.curve, "--", color=colour, label=one.name)
        axes.set_xlabel("cycles a patch, along the diagonal")
        axes.set_ylabel(f"log amplitude against DC, n = {curves.images}")
        axes.grid(alpha=0.3)
        legend(figure, axes)

    return png(7.5, 3.8, draw)


def study_figure(part: StudyPart) -> bytes:
    """Draw the accuracy of all networks of a study, and that of the deepest by layers in the sum.

    Points are seeds; lines and bars are means over them.
    """
    study, deepest = part.study, part.study.deepest

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2)
        for place, row in enumerate(part.rows):
            values = row.accuracy.values
            panels[0].plot([place] * len(values), values, "o", color=COLOURS[0], alpha=0.6)
            panels[0].plot([place - 0.3, place + 0.3], [row.accuracy.mean.value] * 2, color=GREY)
        labels = [f"{row.variant}, {row.layers}" for row in part.rows]
        panels[0].set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=8)
        panels[0].set_ylabel("test accuracy")
        for colour, variant in zip(COLOURS, (PLAIN, *study.variants), strict=False):
            runs = study.of(variant, deepest)
            if runs:
                lens = np.mean([one.measured.lens for one in runs], axis=0)
                panels[1].plot(lens, color=colour, label=variant)
        panels[1].set_xlabel(f"layers in the sum, of {deepest}")
        panels[1].set_ylabel("accuracy of the classifier on it")
        for axes in panels:
            axes.grid(alpha=0.3)
        legend(figure, panels[1])

    return png(8.0, 4.2, draw)
