"""Figures of the report on a pair of classifiers, as PNG; drawn without pyplot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from napari_cvsuite.neurons.report_parts import (
    AblationPart,
    AccuracyPart,
    BiasPart,
    DissectionPart,
    DiversityPart,
    Examples,
    NoisePart,
    SmoothnessPart,
)
from napari_cvsuite.neurons.shape_bias import PEOPLE
from napari_cvsuite.reports.figures import COLOURS, errors, legend, png
from napari_cvsuite.reports.files import DIVERGING
from napari_cvsuite.reports.intervals import Interval
from napari_cvsuite.training.accuracy import Rate

__all__ = [
    "ablation_figure",
    "accuracy_figure",
    "bias_figure",
    "control_name",
    "dissection_figure",
    "diversity_figure",
    "examples_figure",
    "noise_figure",
    "smoothness_figure",
]

NAMES = ("S, standard", "R, robust")


def _bars(
    axes: Any,
    labels: Sequence[str],
    pairs: Sequence[tuple[Rate | Interval, Rate | Interval]],
    label: str,
) -> None:
    """Draw horizontal bars, S above R, the first row on top."""
    places = np.arange(len(labels))
    for number, (colour, name) in enumerate(zip(COLOURS[:2], NAMES, strict=True)):
        rows = [pair[number] for pair in pairs]
        values = [one.value for one in rows]
        at = places + (number - 0.5) * 0.38
        axes.barh(at, values, 0.38, color=colour, label=name, xerr=errors(rows), ecolor="#333333")
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)


def control_name(control: str, level: float | None) -> str:
    """Return a distortion with its level."""
    return control if level is None else f"{control} {level:.3g}"


def accuracy_figure(part: AccuracyPart) -> bytes:
    """Draw the accuracy of both networks."""
    labels = ["all images", f"all, attacked {part.eps:.3g}"]
    labels += [control_name(row.control, row.level) for row in part.controls]
    pairs = [part.clean, part.attacked]
    pairs += [(row.rates[0], row.rates[1]) for row in part.controls]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _bars(axes, labels, pairs, "share named rightly, 95 % interval")
        axes.set_xlim(0, 1)
        axes.axhline(1.5, color="#666666", linewidth=0.8)
        legend(figure, axes)

    return png(7.5, 1.2 + 0.38 * len(labels), draw)


def bias_figure(part: BiasPart) -> bytes:
    """Draw the shape bias, of each shape category too, with the range of people."""
    S, R = part.standard.bias, part.robust.bias
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    pairs = [(S.total.bias or nothing, R.total.bias or nothing)]
    pairs += [
        (S.by_shape[name].bias or nothing, R.by_shape[name].bias or nothing) for name in S.by_shape
    ]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _bars(axes, ["all", *S.by_shape], pairs, "shape / (shape + texture), 95 % interval")
        axes.axvspan(*PEOPLE, color="#009e73", alpha=0.3, label="people")
        axes.set_xlim(0, 1)
        axes.axhline(0.5, color="#666666", linewidth=0.8)
        legend(figure, axes)

    return png(7.5, 1.3 + 0.4 * len(pairs), draw)


def _lines(axes: Any, labels: Sequence[str], values: Sequence[tuple[float, float]]) -> None:
    for number, (colour, marker) in enumerate(zip(COLOURS[:2], "os", strict=True)):
        shown = [pair[number] for pair in values]
        axes.plot(range(len(labels)), shown, color=colour, marker=marker, label=NAMES[number])
    axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=8)
    axes.set_ylim(0, 1.1 * max(max(pair) for pair in values))
    axes.grid(alpha=0.3)


def smoothness_figure(part: SmoothnessPart) -> bytes:
    """Draw TV/L1 of kernels and, where there are images, of activations, by layer."""

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2 if part.activations else 1, squeeze=False)[0]
        found = [(row.standard.tv_over_l1, row.robust.tv_over_l1) for row in part.kernels]
        _lines(panels[0], [row.layer for row in part.kernels], found)
        panels[0].set_title("kernels", fontsize=10)
        panels[0].set_ylabel("TV / L1")
        if part.activations:
            layers = [row.layer for row in part.activations]
            _lines(panels[1], layers, [row.tv_over_l1 for row in part.activations])
            panels[1].set_title("activations", fontsize=10)
        legend(figure, panels[0])

    return png(7.5, 3.8, draw)


def examples_figure(part: Examples) -> bytes:
    """Draw images above the signed gradient maps of both networks, white at 0."""
    rows: list[tuple[str, NDArray[Any]]] = [
        ("image", part.images),
        ("S", part.standard),
        ("R", part.robust),
    ]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(3, len(part.images), squeeze=False)
        for line, (name, pictures) in zip(panels, rows, strict=True):
            for axes, picture in zip(line, pictures, strict=True):
                axes.imshow(picture, cmap=DIVERGING, vmin=-1, vmax=1, interpolation="nearest")
                axes.set_xticks([])
                axes.set_yticks([])
            line[0].set_ylabel(name)

    return png(7.5, 0.4 + 3 * 7.2 / max(4, len(part.images)), draw)


def noise_figure(part: NoisePart) -> bytes:
    """Draw how much of the noise comes through each layer."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        pairs = [row.change for row in part.layers]
        _bars(axes, [row.layer for row in part.layers], pairs, "mean change / mean activation")
        legend(figure, axes)

    return png(7.5, 1.2 + 0.5 * len(part.layers), draw)


def dissection_figure(part: DissectionPart) -> bytes:
    """Draw the share of channels that detect each concept, reliably."""
    totals = [len(one.units.iou) for one in (part.standard, part.robust)]
    places = np.arange(len(part.concepts))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for number, colour in enumerate(COLOURS[:2]):
            at = places + (number - 0.5) * 0.38
            every = [row.detectors[number] / totals[number] for row in part.concepts]
            sure = [row.reliable[number] / totals[number] for row in part.concepts]
            axes.barh(at, every, 0.38, color=colour, alpha=0.35)
            axes.barh(at, sure, 0.38, color=colour, label=NAMES[number])
        axes.set_yticks(places, [row.concept for row in part.concepts])
        axes.invert_yaxis()
        axes.set_xlabel("share of channels that are detectors; pale: not reliable")
        axes.grid(axis="x", alpha=0.3)
        legend(figure, axes)

    return png(7.5, 1.2 + 0.4 * len(part.concepts), draw)


def diversity_figure(part: DiversityPart) -> bytes:
    """Draw the mean number of classes among the top images of channels."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        rows = (*part.layers, part.total)
        label = f"classes among the top {part.top} images, mean over channels"
        _bars(axes, [row.layer for row in rows], [row.classes for row in rows], label)
        legend(figure, axes)

    return png(7.5, 1.2 + 0.5 * (len(part.layers) + 1), draw)


def ablation_figure(part: AblationPart) -> bytes:
    """Draw the error without each channel, sorted by R."""
    order = np.argsort(-part.robust.errors, kind="stable")

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot(part.standard.errors[order], ".", color=COLOURS[0], label=NAMES[0])
        axes.plot(part.robust.errors[order], "-", color=COLOURS[1], label=NAMES[1])
        axes.set_xlabel(f"channels of {part.layer}, sorted by R")
        axes.set_ylabel("error without the channel")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        legend(figure, axes)

    return png(7.5, 3.6, draw)
