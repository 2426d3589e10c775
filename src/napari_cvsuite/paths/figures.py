"""Figures of the results on paths, as PNG; drawn without pyplot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import NDArray

from napari_cvsuite.paths.contributions import Contributions
from napari_cvsuite.paths.counting import Lengths
from napari_cvsuite.paths.depth import Depths, Lens
from napari_cvsuite.paths.frequency import Frequencies
from napari_cvsuite.paths.influence import Influence
from napari_cvsuite.paths.pruning import Pruned
from napari_cvsuite.paths.stack import StackEffects
from napari_cvsuite.paths.whatif import WhatIf
from napari_cvsuite.reports.figures import COLOURS, errors, legend, png
from napari_cvsuite.reports.files import DIVERGING

__all__ = [
    "depth_figure",
    "effects_figure",
    "frequency_figure",
    "influence_figure",
    "lengths_figure",
    "lens_figure",
    "path_picture",
    "pruning_figure",
    "shares_figure",
    "stack_figure",
]

KINDS = {"msa": COLOURS[0], "ffn": COLOURS[1]}
OTHER = "#666666"
"""Colour of the embedding, and of paths that are neither attention nor feed-forward network."""
PALE = "#f0f0f0"


def _colour(name: str) -> str:
    return KINDS.get(name.split("_")[0], OTHER)


def shares_figure(found: Contributions) -> bytes:
    """Draw the direct share of every path in the target, and the constant as a line."""
    shares, names = found.target.of(found.shares), found.names
    whole = float(found.target.of(found.logits))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        places = np.arange(len(names))
        for kind, colour in (("embed", OTHER), *KINDS.items()):
            own = [k for k, name in enumerate(names) if _colour(name) == colour]
            axes.bar(places[own], shares[own], color=colour, label=_WORDS[kind])
        axes.axhline(0, color="#333333", linewidth=0.8)
        constant = f"constant {shares[-1]:+.2f}"
        axes.axhline(shares[-1], color="#009e73", linestyle="--", linewidth=1, label=constant)
        axes.set_xticks(places, names, rotation=60, ha="right", fontsize=8)
        axes.set_ylabel(f"direct share, {found.target.name}")
        minus = f" minus that of {found.against}" if found.against else ""
        axes.set_title(f"sum {whole:+.2f}{minus}", fontsize=10)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        legend(figure, axes)

    return png(max(6.0, 1.5 + 0.3 * len(names)), 4.0, draw)


_WORDS = {"embed": "embedding and other", "msa": "attention", "ffn": "feed-forward"}


def path_picture(
    names: Sequence[str], values: NDArray[Any], label: str, off: Sequence[str] = ()
) -> bytes:
    """Draw a network as parallel paths, a row a layer: identity, attention, feed-forward.

    Parameters
    ----------
    names : sequence of str
        Of the P module paths of a vision transformer.
    values : ndarray, shape (P,)
        What colours them, white at 0.
    label : str
        What the values are.
    off : sequence of str
        Paths drawn as switched off.
    """
    layers = (len(names) - 1) // 2
    top = float(np.abs(values).max()) or 1.0

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for number, name in enumerate(names):
            # The embedding starts the identity path; modules stand beside it.
            column = 0 if not number else 1 + (number - 1) % 2
            row = 0 if not number else 1 + (number - 1) // 2
            _box(axes, column, row, name, float(values[number]), top, name in off)
        axes.plot([0, 0], [-0.25, layers + 0.6], color=OTHER, linewidth=2, zorder=0)
        for row in range(1, layers + 1):
            axes.plot([0, 2], [row, row], color="#b0b0b0", linewidth=1, zorder=0)
            axes.plot(0, row, "o", color=OTHER, markersize=5)
        axes.text(0, layers + 0.75, "sum, norm, head", ha="center", va="top", fontsize=9)
        axes.set_xlim(-0.7, 2.6)
        axes.set_ylim(layers + 0.9, -0.5)
        axes.set_axis_off()
        axes.set_title(label, fontsize=10)

    return png(6.5, 1.2 + 0.55 * (layers + 1), draw)


def _box(axes: Any, column: int, row: int, name: str, value: float, top: float, off: bool) -> None:
    colour = PALE if off else colormaps[DIVERGING](0.5 + 0.5 * value / top)
    style = "dashed" if off else "solid"
    axes.add_patch(
        FancyBboxPatch(
            (column - 0.38, row - 0.28),
            0.76,
            0.56,
            boxstyle="round,pad=0.02",
            facecolor=colour,
            edgecolor=_colour(name),
            linestyle=style,
            linewidth=1.5,
        )
    )
    dark = not off and abs(value) > 0.6 * top
    shown = f"{name}\noff" if off else f"{name}\n{value:+.2f}"
    axes.text(
        column, row, shown, ha="center", va="center", fontsize=8, color="white" if dark else "black"
    )


def effects_figure(found: WhatIf) -> bytes:
    """Draw what the target loses by each intervention, beside the estimates if there are any."""
    effects, places = found.target.of(found.effects), np.arange(len(found.names))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.barh(places, effects, color=[_colour(name) for name in found.names])
        if found.estimates is not None:
            label = "first-order estimate"
            axes.plot(found.estimates, places, "D", color="black", markersize=4, label=label)
            legend(figure, axes)
        axes.set_yticks(places, found.names, fontsize=8)
        axes.invert_yaxis()
        axes.axvline(0, color="#333333", linewidth=0.8)
        axes.set_xlabel(f"logits lost, {found.target.name}")
        axes.set_title(f"{found.intervention}, {found.replacement}", fontsize=10)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)

    return png(6.5, 1.4 + 0.24 * len(found.names), draw)


def stack_figure(found: StackEffects) -> bytes:
    """Draw the target's logit in each slice before and after, marked where the class changes."""
    before, after = found.target.of(found.before), found.target.of(found.after)
    changed = np.flatnonzero(found.changed)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot(before, color=COLOURS[0], label="whole network")
        axes.plot(after, color=COLOURS[1], label=f"{found.name}, {found.intervention}")
        axes.plot(changed, after[changed], "x", color="#333333", label="prediction changes")
        axes.set_xlabel("slice")
        axes.set_ylabel(f"logit, {found.target.name}")
        axes.grid(alpha=0.3)
        legend(figure, axes)

    return png(6.5, 3.8, draw)


def pruning_figure(found: Pruned) -> bytes:
    """Draw loss and accuracy of both parts of the images after each step."""
    steps = range(len(found.steps))
    labels = ["whole", *("+".join(step.paths) for step in found.steps[1:])]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2)
        for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
            for colour, part, marker in zip(COLOURS, ("selection", "held_out"), "os", strict=False):
                shown = [getattr(getattr(step, part), name) for step in found.steps]
                axes.plot(steps, shown, color=colour, marker=marker, label=part.replace("_", " "))
            axes.axvline(found.kept, color=OTHER, linestyle=":", label="kept up to here")
            axes.set_xticks(steps, labels, rotation=60, ha="right", fontsize=7)
            axes.set_ylabel("mean cross-entropy" if name == "loss" else "share named rightly")
            axes.grid(alpha=0.3)
        legend(figure, panels[0])

    return png(max(7.5, 2 + 0.5 * len(found.steps)), 3.8, draw)


def frequency_figure(found: Frequencies) -> bytes:
    """Draw the curve of each path, coloured by depth, and of the sums in black."""
    # The legend has room for a few names.
    off = ", ".join(found.off) if len(found.off) <= 3 else f"{len(found.off)} paths"

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        depths = colormaps["viridis"](np.linspace(0, 0.9, max(1, len(found.names) // 2)))
        for axes, kind in zip(panels, ("msa", "ffn"), strict=True):
            own = [k for k, name in enumerate(found.names) if name.startswith(kind)]
            for colour, k in zip(depths, own, strict=False):
                axes.plot(found.frequencies, found.curves[k], color=colour, linewidth=1)
            axes.plot(found.frequencies, found.curves[0], ":", color=OTHER, label="embedding")
            axes.plot(found.frequencies, found.whole, color="black", linewidth=2, label="sum")
            if found.without is not None:
                label = f"without {off}"
                axes.plot(found.frequencies, found.without, "--", color="black", label=label)
            axes.set_title(f"{_WORDS[kind]}, first layer dark, last bright", fontsize=10)
            axes.set_xlabel("cycles a patch, along the diagonal")
            axes.grid(alpha=0.3)
        panels[0].set_ylabel(f"log amplitude against DC, n = {found.images}")
        legend(figure, panels[0])

    return png(8.0, 4.0, draw)


def lens_figure(found: Lens) -> bytes:
    """Draw the probabilities of the likeliest classes after each layer."""
    shares = found.probabilities
    # The likeliest at the end, then others that were likely on the way.
    order = np.argsort(-shares[-1], kind="stable")[:3].tolist()
    order += np.argsort(-shares.max(axis=0), kind="stable").tolist()
    shown = list(dict.fromkeys((found.target.one, *order)))[: len(COLOURS)]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for colour, k in zip(COLOURS, shown, strict=False):
            axes.plot(shares[:, k], marker="o", color=colour, label=found.classes[k])
        axes.set_xlabel("layers in the sum")
        axes.set_ylabel("probability")
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)
        legend(figure, axes)

    return png(6.5, 3.8, draw)


def depth_figure(found: Depths) -> bytes:
    """Draw the accuracy after each layer, with intervals."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        values = [rate.value for rate in found.accuracy]
        bars = errors(found.accuracy)
        axes.errorbar(range(len(values)), values, yerr=bars, color=COLOURS[0], marker="o")
        axes.set_xlabel("layers in the sum")
        axes.set_ylabel(f"accuracy, 95 % interval, n = {found.accuracy[0].n}")
        axes.set_ylim(0, 1)
        axes.grid(alpha=0.3)

    return png(6.5, 3.6, draw)


def influence_figure(found: Influence) -> bytes:
    """Draw what accuracy changes without each part, a panel an intervention."""
    kinds = list(dict.fromkeys(one.intervention for one in found.effects))
    most = max(sum(one.intervention == kind for one in found.effects) for kind in kinds)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(kinds), squeeze=False)[0]
        for axes, kind in zip(panels, kinds, strict=True):
            rows = [one for one in found.effects if one.intervention == kind]
            values = [100 * one.accuracy.value for one in rows]
            bars = (100 * np.asarray(errors([one.accuracy for one in rows]))).tolist()
            places = range(len(rows))
            colours = [_colour(one.path) for one in rows]
            axes.barh(places, values, color=colours, xerr=bars, ecolor="#333333")
            axes.set_yticks(places, [one.path for one in rows], fontsize=8)
            axes.invert_yaxis()
            axes.axvline(0, color="#333333", linewidth=0.8)
            axes.set_title(f"{kind}, {rows[0].replacement}", fontsize=10)
            axes.set_xlabel("change of accuracy in points")
            axes.grid(axis="x", alpha=0.3)
            axes.set_axisbelow(True)

    return png(3.8 * len(kinds), 1.2 + 0.24 * most, draw)


def lengths_figure(found: Lengths) -> bytes:
    """Draw how many routes go through how many modules, coloured by the layer they end in."""
    ending = np.asarray(found.ending, dtype=np.float64) / float(sum(found.routes))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        below = np.zeros(ending.shape[1])
        colours = colormaps["viridis"](np.linspace(0, 0.9, len(ending)))
        for colour, row in zip(colours, ending, strict=True):
            axes.bar(range(len(row)), row, bottom=below, color=colour, width=0.9)
            below += row
        axes.set_xlabel("modules on the route")
        axes.set_ylabel("share of all routes")
        counts = found.counts
        axes.set_title(
            f"{counts.layer} layer paths, {counts.module} module paths, {counts.head} with heads; "
            f"2^{2 * found.layers} routes, dark: ending early",
            fontsize=9,
        )
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)

    return png(6.5, 3.6, draw)
