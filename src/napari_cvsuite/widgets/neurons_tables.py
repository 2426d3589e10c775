"""Results of the Neurons dock that are words, a table and a plot, without layers of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from napari_cvsuite.widgets import neurons_words as words
from napari_cvsuite.widgets.neurons_plot import Bars, Interval
from napari_cvsuite.widgets.neurons_results import Panel

__all__ = ["ablation", "bias", "controls", "dissection", "report", "simplicity"]


def dissection(panel: Panel, found: Sequence[Any]) -> None:
    """Show which channels detect what, and how many each concept has."""
    text, rows = words.dissection(found)
    text += "<br>Click a row to see where its channel is active, a bar to find its row."
    panel.show_result(text, rows)
    names, counts, column = words.detectors(found)
    bars = [
        Bars(model, [count / len(one.units.detectors) for count in counts[model]], counts[model])
        for one in found
        for model in [words.model_of(one)]
    ]
    places: dict[tuple[str, str], int] = {}
    # A detector of the concept comes before a channel that is none; of each the best one.
    for wanted in (True, False):
        for place, row in enumerate(rows):
            if row["detector"] == wanted:
                places.setdefault((row["model"], row[column]), place)
    cut = found[0].units.cut
    panel.show_bars(names, bars, f"channels that detect it (IoU from {cut:g})", places)


def bias(panel: Panel, found: Sequence[Any]) -> None:
    """Show whether shape or texture decides, beside what people do."""
    from napari_cvsuite.neurons.shape_bias import PEOPLE

    panel.show_result(*words.bias(found))
    rates = [(words.model_of(one), one.bias.total.bias) for one in found]
    known = [
        Interval(name, rate.value, rate.low, rate.high) for name, rate in rates if rate is not None
    ]
    if known:
        panel.plot.show_intervals(known, PEOPLE, "texture decides  –  shape decides")


def controls(panel: Panel, found: Sequence[Any]) -> None:
    """Show accuracy on distorted copies of many images."""
    from napari_cvsuite.neurons.control_accuracy import CORRUPTION_WORDS, MEAN_ERROR

    text = (
        "Accuracy with 95 % intervals; that of distorted copies on the images that all models "
        "name rightly. Tag: of the paper, of its released code (secondary), or ours."
    )
    rows = found[0].rows
    if rows[-1]["control"] == MEAN_ERROR:
        text += f"<br>{CORRUPTION_WORDS}"
    panel.show_result(text, rows)


def simplicity(panel: Panel, found: Sequence[Any]) -> None:
    """Show how smooth networks are, and what noise does."""
    panel.show_result(*words.simplicity(found))


def ablation(panel: Panel, found: Sequence[Any]) -> None:
    """Show which channels the prediction needs."""
    text, rows = words.ablation(found)
    panel.show_result(f"{text}<br>Click a row to lay its channel over the image.", rows)


def report(panel: Panel, found: Sequence[Any]) -> None:
    """Show where a report is, and its verdicts."""
    panel.show_result(*words.report(found[0].found, found[0].paths))
