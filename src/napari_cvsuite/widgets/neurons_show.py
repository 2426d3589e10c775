"""How the Neurons dock shows results: layers one by one, then words, a table and a plot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtCore import QObject, Signal

from napari_cvsuite.images import Grid
from napari_cvsuite.widgets import neurons_tables as tables
from napari_cvsuite.widgets import neurons_words as words
from napari_cvsuite.widgets.neurons_actions import (
    ABLATE,
    ACTIONS,
    ATTACK,
    BIAS,
    CHANNELS,
    CLASSES,
    CONTROLS,
    COPIES,
    DISSECT,
    FOLDER_PATCHES,
    MAXIMISE,
    PATCHES,
    REPORT,
    SALIENCY,
    SIMPLICITY,
)
from napari_cvsuite.widgets.neurons_browse import Browser, Run, Step
from napari_cvsuite.widgets.neurons_classes import class_steps
from napari_cvsuite.widgets.neurons_job import Browsed, Channel, Mask, Reported
from napari_cvsuite.widgets.neurons_layers import (
    GROWING,
    SIGNED,
    Spot,
    add_image,
    add_labels,
    height_of,
    hide_earlier,
    show_seen,
)
from napari_cvsuite.widgets.neurons_plot import Line
from napari_cvsuite.widgets.neurons_results import Panel

__all__ = ["Shower", "facts_of"]

_NOUNS = {
    SALIENCY: "measures",
    CLASSES: "classes",
    CHANNELS: "channels",
    MAXIMISE: "steps",
    PATCHES: "patches",
    FOLDER_PATCHES: "patches",
    DISSECT: "pairs",
    BIAS: "categories",
    CONTROLS: "copies",
    COPIES: "copies",
    SIMPLICITY: "measures",
    REPORT: "claims",
    ATTACK: "steps",
    ABLATE: "changes",
}
_TABLES = {
    DISSECT: tables.dissection,
    BIAS: tables.bias,
    CONTROLS: tables.controls,
    SIMPLICITY: tables.simplicity,
    ABLATE: tables.ablation,
    REPORT: tables.report,
}


def facts_of(found: Any) -> dict[str, Any]:
    """Return what made a result."""
    inner = found.found if isinstance(found, (Browsed, Channel, Reported)) else found
    facts: dict[str, Any] = inner.provenance
    return facts


class Shower(QObject):
    """The results of the dock, one panel an action, and the layers that belong to them.

    Signals
    -------
    unit_wanted, channel_wanted (Run, dict)
        Where the channel of a row of a dissection is active; the channel of a row of an ablation.
    """

    unit_wanted = Signal(object, dict)
    channel_wanted = Signal(object, dict)

    def __init__(self, viewer: Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.panels = {
            name: Panel(_NOUNS[name], f"{name.split()[0].lower()}.csv") for name in ACTIONS
        }
        self.browser = Browser(viewer, self.panels, self)
        self._runs: dict[str, Run] = {}
        self._outline: Layer | None = None
        self._copy_layers: list[tuple[str, Layer]] = []
        self.panels[ABLATE].row_chosen.connect(partial(self._row_chosen, ABLATE))
        self.panels[DISSECT].row_chosen.connect(partial(self._row_chosen, DISSECT))
        self.panels[COPIES].row_chosen.connect(self._show_copy)

    def steps(self, run: Run, found: Sequence[Any]) -> list[Step]:
        """Return what is to be done to show a result, each of it quickly."""
        if isinstance(found[0], Mask):
            return [partial(self._mask, run, found[0])]
        if isinstance(found[0], Channel):
            return [partial(self._channel, run, found[0])]
        makers: dict[str, Callable[[Run, Sequence[Any]], list[Step]]] = {
            SALIENCY: self._saliency,
            CLASSES: partial(class_steps, self._viewer, self.panels[CLASSES]),
            CHANNELS: self.browser.channels,
            MAXIMISE: self._maximise,
            PATCHES: self.browser.patches,
            FOLDER_PATCHES: self.browser.patches,
            COPIES: self._copies,
            ATTACK: self._attack,
        }
        if run.action in _TABLES:
            made: list[Step] = [partial(_TABLES[run.action], self.panels[run.action], found)]
        else:
            made = makers[run.action](run, found)
        self._runs[run.action] = run
        if run.action in (SALIENCY, CLASSES, CHANNELS, MAXIMISE, COPIES, ATTACK):
            made.insert(0, partial(hide_earlier, self._viewer))
        facts = facts_of(found[0])
        if run.spot is not None and "seen" in facts:
            made.insert(0, partial(self._seen, run.spot, facts["seen"]))
        return made

    # Layers ------------------------------------------------------------------------------------

    def _seen(self, spot: Spot, box: dict[str, float]) -> None:
        """Show what part of the image was seen."""
        self._outline = show_seen(self._viewer, spot, box, self._outline)

    def _saliency(self, run: Run, found: Sequence[Any]) -> list[Step]:
        made: list[Step] = []
        # The first map comes last, to lie on top; the other one waits below it.
        for number in reversed(range(len(found))):
            one = found[number]
            method = one.provenance["options"]["method"].replace("_", " ")
            look: dict[str, Any] = {
                "colormap": SIGNED if one.signed else GROWING,
                "contrast_limits": (-1.0, 1.0) if one.signed else (0.0, 1.0),
                "opacity": 0.8 if one.signed else 0.6,
                "visible": number == 0,
                "interpolation2d": "nearest" if one.signed else "linear",
            }
            name = f"{method} of {one.target}, {words.model_of(one)}"
            made.append(
                partial(
                    add_image,
                    self._viewer,
                    run.spot,
                    name,
                    one.values,
                    one.grid,
                    one.provenance,
                    **look,
                )
            )

        def tell() -> None:
            panel = self.panels[run.action]
            panel.show_result(*words.saliency(found))
            check = found[0].check
            if check is not None:
                mine, random = check.curves.map, check.curves.random
                lines = [
                    Line("insertion", mine.share, mine.insertion),
                    Line("insertion, random map", random.share, random.insertion, True),
                    Line("deletion", mine.share, mine.deletion, False, 1),
                    Line("deletion, random map", random.share, random.deletion, True, 1),
                ]
                panel.plot.show_lines(lines, "share of pixels", f"probability of {found[0].target}")

        return [*made, tell]

    def _attack(self, run: Run, found: Sequence[Any]) -> list[Step]:
        made: list[Step] = []
        for number in reversed(range(len(found))):
            one, name = found[number], words.model_of(found[number])
            assert run.spot is not None
            mean = one.change.mean(axis=2)
            most = float(np.abs(mean).max()) or 1.0
            beside = run.spot.beside(mean.shape, height_of(one.grid, mean.shape), number)
            made.append(
                partial(
                    add_image,
                    self._viewer,
                    run.spot,
                    f"change, mean of colours, {name}",
                    mean,
                    beside,
                    one.provenance,
                    colormap=SIGNED,
                    contrast_limits=(-most, most),
                )
            )
            made.append(
                partial(
                    add_image,
                    self._viewer,
                    run.spot,
                    f"adversarial, {name}",
                    one.after,
                    one.grid,
                    one.provenance,
                    rgb=True,
                    visible=number == 0,
                )
            )

        def tell() -> None:
            panel = self.panels[run.action]
            panel.show_result(*words.attack(found))
            lines = [
                Line(words.model_of(one), range(len(one.loss)), one.loss, colour=number)
                for number, one in enumerate(found)
            ]
            panel.plot.show_lines(lines, "step", "cross-entropy")

        return [*made, tell]

    def _copies(self, run: Run, found: Sequence[Any]) -> list[Step]:
        def forget() -> None:
            self._copy_layers = []

        def add(number: int, place: int) -> None:
            one, copy = found[number], found[number].copies[place]
            # Networks that see the same have the same copies.
            name = copy.title if number == 0 else f"{copy.title}, {words.model_of(one)}"
            layer = add_image(
                self._viewer,
                run.spot,
                name,
                copy.pixels,
                copy.grid,
                one.provenance | {"distortion": copy.title, "tag": copy.tag},
                rgb=True,
                visible=place == 0 and number == 0,
            )
            self._copy_layers.append((copy.title, layer))

        sides = [(one.copies[0].grid, one.copies[0].pixels.shape) for one in found]
        others = [number for number in range(len(found)) if sides.index(sides[number]) == number]
        # The first copy comes last, to lie on top.
        made: list[Step] = [
            partial(add, number, place)
            for number in reversed(others)
            for place in reversed(range(len(found[number].copies)))
        ]
        tell = partial(self.panels[run.action].show_result, *words.copies(found))
        return [forget, *made, tell]

    def _show_copy(self, row: dict[str, Any]) -> None:
        """Show the copy of a row, and no other; the image as it is without any."""
        for title, layer in self._copy_layers:
            layer.visible = title == row["copy"]

    def _maximise(self, run: Run, found: Sequence[Any]) -> list[Step]:
        def add(number: int) -> None:
            one = found[number]
            spot, grid = run.spot, Grid((1.0, 1.0), (0.0, 0.0))
            if spot is not None:
                grid = spot.beside(one.image.shape, float(spot.height), number)
            name = f"liked by {one.layer} channel {one.channel}, {words.model_of(one)}"
            add_image(self._viewer, spot, name, one.image, grid, one.provenance, rgb=True)

        def tell() -> None:
            said = [
                f"<b>{words.model_of(one)}</b>, {one.layer} channel {one.channel}: mean activation "
                f"{one.scores[0]:.3g} became {one.scores[-1]:.3g}."
                for one in found
            ]
            panel = self.panels[run.action]
            rows = [
                {"model": words.model_of(one), "step": step, "mean_activation": score}
                for one in found
                for step, score in enumerate(one.scores)
            ]
            panel.show_result("<br>".join(said), rows)
            lines = [
                Line(words.model_of(one), range(len(one.scores)), one.scores, colour=number)
                for number, one in enumerate(found)
            ]
            panel.plot.show_lines(lines, "step", "mean activation")

        return [*(partial(add, number) for number in range(len(found))), tell]

    def _mask(self, run: Run, mask: Mask) -> None:
        assert run.spot is not None
        add_labels(self._viewer, run.spot, mask.name, mask.labels, mask.grid, mask.provenance)

    def _channel(self, run: Run, one: Channel) -> None:
        assert run.spot is not None
        self.browser.lay(run.spot, one.found, one.found.channels[0])

    def _row_chosen(self, action: str, row: dict[str, Any]) -> None:
        wanted = self.unit_wanted if action == DISSECT else self.channel_wanted
        wanted.emit(self._runs[action], row)

    # The end -----------------------------------------------------------------------------------

    def set_colours(self, text: str, back: str) -> None:
        """Take the colours of the window's theme."""
        for panel in self.panels.values():
            panel.plot.set_colours(text, back)

    def close_down(self) -> None:
        """Let go of the layers."""
        self.browser.close_down()
        for panel in self.panels.values():
            panel.close_down()
        self._runs, self._outline, self._copy_layers = {}, None, []
