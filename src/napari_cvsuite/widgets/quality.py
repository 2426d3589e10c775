"""The Quality dock: how good an image is, where, and which slices to keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from napari.layers import Image as ImageLayer
from napari.layers import Layer
from napari.viewer import Viewer
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_cvsuite.jobs import Context
from napari_cvsuite.quality.options import MapOptions, ScoreOptions
from napari_cvsuite.widgets import regions
from napari_cvsuite.widgets._compat import theme_colours
from napari_cvsuite.widgets.dock import Dock
from napari_cvsuite.widgets.frame import scrolled
from napari_cvsuite.widgets.quality_inputs import Inputs
from napari_cvsuite.widgets.quality_job import (
    Compared,
    Item,
    Mapped,
    Part,
    compare,
    map_one,
    score,
)
from napari_cvsuite.widgets.quality_layers import KEPT, Place, add_map, kept_layer
from napari_cvsuite.widgets.quality_ratings import RatingsFit
from napari_cvsuite.widgets.quality_results import Results
from napari_cvsuite.widgets.quality_rows import KEY, Scores, Subject, recalled
from napari_cvsuite.widgets.settings import load_state

__all__ = ["RUN_KEY", "QualityDock"]

RUN_KEY = "Control-Shift-Q"
"""Keyboard shortcut that runs the dock."""


class QualityDock(Dock):
    """Score images, map where they are good, and compare versions of them.

    Parameters
    ----------
    napari_viewer : napari Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer, "quality", RUN_KEY, "Score")
        self.inputs = Inputs(napari_viewer)
        self.results = Results()
        self.ratings = RatingsFit(self.runner, self.inputs.model, self.run_bar, self)
        self._places: list[Place] = []
        self._subjects: list[Subject] = []
        self._differences: list[Layer] = []
        self._started: tuple[list[Item], ScoreOptions] | None = None
        self._scored: tuple[list[Item], ScoreOptions] | None = None
        self._hidden: tuple[Layer, Layer] | None = None
        self._lay_out()
        self.inputs.restore(load_state("quality"))
        self._connect()
        self._begin()
        self._recall()

    def _lay_out(self) -> None:
        inner = QWidget()
        layout = QVBoxLayout(inner)
        for widget in (self.inputs, self.run_bar, self.inputs.more):
            layout.addWidget(widget)
        layout.addWidget(self.results, 1)
        layout.addStretch()
        scrolled(self, inner)

    def _connect(self) -> None:
        self.inputs.changed.connect(self._changed)
        self.inputs.changed.connect(self._recall)
        for failing in (self.inputs.model.failed, self.results.table.failed):
            failing.connect(self.fail)
        self.runner.previewed.connect(self._show_part)
        self.runner.done.connect(self._finish)
        # A run without a result leaves the last one in place.
        self.runner.failed.connect(lambda _: self.results.show_again())
        self.runner.cancelled.connect(self.results.show_again)
        self.results.slice_chosen.connect(self._go_to)
        self.results.version_chosen.connect(self._show_version)
        self.results.keep_changed.connect(self._keep_changed)
        self.results.hide_wanted.connect(self._hide_rejected)
        self.results.fit_wanted.connect(self.fit_to_ratings)
        self.results.model.rated.connect(self._keep_ratings)
        self.viewer.dims.events.point.connect(self._moved)
        self.viewer.layers.events.removed.connect(self._removed)

    def _recolour(self, *_: object) -> None:
        self.results.plot.set_colours(*theme_colours(self.viewer))

    def _validate(self) -> None:
        text, field = self._problem()
        self.inputs.mark(field)
        self.run_bar.set_text(self.inputs.mode)
        self.run_bar.set_problem(text)

    def _state(self) -> dict[str, Any]:
        return self.inputs.state()

    def _problem(self) -> tuple[str, QWidget | None]:
        return self.inputs.problem()

    # Run ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Judge what is chosen; the same as pressing the button."""
        if not self._may_run(self.inputs.model):
            return
        try:
            options, (items, places) = self.inputs.options(), self.inputs.items()
        except (ValueError, OSError) as error:
            self.fail(str(error))
            return
        mode = self.inputs.mode

        def work(context: Context) -> Scores | Mapped | Compared:
            if isinstance(options, MapOptions):
                return map_one(items[0], options, context)
            if mode == "Compare":
                return compare(items, options, context)
            return score(items, options, context)

        self._save_later.start()
        self._started = (items, options)
        self._places, self._subjects = places, [item.subject for item in items]
        if mode == "Score":
            names = [item.subject.name for item in items]
            counts = [
                int(np.prod([place.source.selection.shape[axis] for axis in item.subject.axes]))
                for item, place in zip(items, places, strict=False)
            ]
            # How many slices files hold is known when they are read.
            self.results.begin(names, counts or [0] * len(names))
        what = items[0].subject.name if len(items) == 1 else f"{len(items)} images"
        self.runner.start(work, self.inputs.device.device(), f"{mode.lower()} {what}")

    def _show_part(self, part: object) -> None:
        if isinstance(part, Part):
            self.results.add(part)

    # The result ----------------------------------------------------------------------------------

    def _recall(self) -> None:
        """Show the scores that the chosen image has from before, until there are new ones."""
        layers = self.inputs.layers() if self.inputs.mode == "Score" else []
        shown = self.results.scores
        if self._started is not None or not self.idle or len(layers) != 1:
            return
        if shown is not None and shown.part_of(layers[0]) is not None:
            return
        found = recalled(layers[0])
        if found is None:
            return
        self._subjects = [found.subject]
        threshold = layers[0].metadata[KEY]["threshold"]
        self._show(Scores([found]))
        if threshold is not None:
            self.results.reject_below(threshold)
        self.run_bar.say(f"Scored before with {found.provenance.get('model', 'another model')}.")

    def _finish(self, found: Any) -> None:
        """Show the result bit by bit: napari takes long over a layer, and the window must live."""
        self.inputs.model.note_fetched()
        steps: list[Callable[[], object]] = []
        if isinstance(found, Scores):
            steps.append(lambda: self._over_score(found))
        elif isinstance(found, Mapped):
            # The map of the scores comes last, to lie on top.
            steps += [self._map_step(found, n) for n in reversed(range(len(found.maps)))]
            steps.append(lambda: self._over_map(found))
        elif isinstance(found, Compared):
            steps += [self._difference_step(found, number) for number in range(len(found.maps))]
            steps.append(lambda: self._over_compare(found))
        else:
            steps.append(lambda: self.ratings.over(found))
        self._steps.add(*steps)

    def _over_score(self, scores: Scores) -> None:
        self._scored = self._started
        self._take(scores)
        values, count = scores.values(), len(scores.flat)
        known = values[~np.isnan(values)]
        text = f"Score {known[0]:.3f}." if count == 1 else ""
        if count > 1:
            text = f"{len(known)} scores, {known.min():.3f} to {known.max():.3f}."
        failed = sum(not part.provenance for part in scores.parts)
        text += f" {failed} could not be scored; see the notes." if failed else ""
        facts = dict(next(part.provenance for part in scores.parts if part.provenance))
        if len({part.provenance.get("window") for part in scores.parts if part.provenance}) > 1:
            facts["window"] = "each image its own"
        seconds = sum(part.provenance.get("seconds", 0.0) for part in scores.parts)
        self._say(text, scores, {**facts, "seconds": seconds})

    def _take(self, scores: Scores, ranking: list[dict[str, Any]] | None = None) -> None:
        self._differences = [] if ranking is None else self._differences
        self._show(scores, ranking or ())
        if ranking is None:
            scores.write_metadata(None, self.viewer.layers)

    def _show(self, scores: Scores, ranking: Sequence[dict[str, Any]] = ()) -> None:
        self._unhide()
        scores.recall_ratings(self.results.scores)
        self.results.show_scores(scores, ranking)
        self._moved()

    def _map_step(self, found: Mapped, number: int) -> Callable[[], object]:
        one, place = found.maps[number], self._places[0]
        # The attention is there for whoever looks for it.
        return lambda: add_map(self.viewer, one, place, found.provenance, number == 0)

    def _over_map(self, found: Mapped) -> None:
        low, high = (float(end(found.maps[0].data)) for end in (np.nanmin, np.nanmax))
        text = f"Local scores {low:.3f} to {high:.3f}, mean {found.mean:.3f}; yellow is best."
        if len(found.maps) > 1:
            text += " Where it looked: hidden layers."
        self._say(text, None, found.provenance)

    def _difference_step(self, found: Compared, number: int) -> Callable[[], object]:
        one, place = found.maps[number], self._places[found.order[number]]
        facts = found.scores.parts[number].provenance

        def add() -> None:
            if number == 0:
                self._differences = []
            self._differences.append(add_map(self.viewer, one, place, facts, False))

        return add

    def _over_compare(self, found: Compared) -> None:
        if not found.maps:
            self._differences = []
        self._take(found.scores, found.ranking)
        best = found.ranking[0]
        text = f"Best: {best['layer']}, {best['score']:.3f}."
        if found.maps:
            text += " Click a row to see its difference."
        self._say(text, found.scores, found.scores.parts[0].provenance)

    def _say(self, text: str, scores: Scores | None, facts: dict[str, Any]) -> None:
        self.inputs.device.complete()
        window = str(facts.get("window", ""))
        text += f" {facts.get('seconds', 0.0):.1f} s on {facts.get('device')}."
        text += f" Intensity: {window}." if window else ""
        there = list(self.viewer.layers)
        gone = [one.name for one in self._subjects if self._places and one.layer not in there]
        if gone:
            where = "its map is here" if scores is None else "its scores are in the table"
            text += f" The layer {gone[0]} is gone; {where}."
        self.run_bar.say(text)

    # Where the viewer is -------------------------------------------------------------------------

    def _moved(self, *_: object) -> None:
        """Mark the slice that the viewer shows."""
        scores = self.results.scores
        if scores is None or len(scores.flat) < 2:
            return
        if self._hidden is not None:
            shown = self._hidden[1]
            kept = shown.metadata[KEPT]
            rank = round(float(shown.world_to_data(self.viewer.dims.point[-shown.ndim :])[0]))
            inside = 0 <= rank < len(kept)
            self.results.set_current(scores.of_number(0, kept[rank]) if inside else None)
            return
        active = self.viewer.layers.selection.active
        part = scores.part_of(active) if active is not None else None
        if part is None and len(scores.parts) == 1:
            part = 0
        subject = scores.parts[part].subject if part is not None else None
        layer = subject.layer if subject is not None else None
        if part is None or subject is None or layer is None or layer not in self.viewer.layers:
            return
        here = layer.world_to_data(self.viewer.dims.point[-layer.ndim :])
        place = tuple(round(float(here[axis])) for axis in subject.axes)
        self.results.set_current(scores.find(part, place))

    def _go_to(self, index: int) -> None:
        """Show a slice: its layer on top of the selection, the sliders on it."""
        scores = self.results.scores
        assert scores is not None
        part, row = scores.flat[index]
        subject = scores.parts[part].subject
        layer = subject.layer
        self.results.set_current(index)
        if layer is None or layer not in self.viewer.layers:
            if self._places or subject.axes:
                self.run_bar.say(f"The layer {subject.name} is gone.", "warning")
            return
        place = dict(zip(subject.axes, subject.place(row), strict=True))
        if self._hidden is not None:
            layer, number = self._hidden[1], subject.number(row)
            if number not in layer.metadata[KEPT]:
                self.run_bar.say(f"Slice {number} is rejected and hidden.")
                return
            place = {0: layer.metadata[KEPT].index(number)}
        regions.go_to(self.viewer, layer, place)

    def _show_version(self, place: int) -> None:
        """Show the difference of one version alone, where there are differences."""
        scores = self.results.scores
        assert scores is not None
        for number, difference in enumerate(self._differences):
            if difference in self.viewer.layers:
                difference.visible = number == place
        layer = scores.parts[place].subject.layer
        if layer is not None and layer in self.viewer.layers:
            self.viewer.layers.selection.active = layer

    # Keep and reject -----------------------------------------------------------------------------

    def _keep_changed(self) -> None:
        scores = self.results.scores
        if scores is None:
            return
        scores.write_metadata(self.results.rejects_below, self.viewer.layers)
        if self._hidden is not None:
            self._unhide()
            self._hide_rejected(self.results.hide_rejected.isChecked())

    def _hide_rejected(self, on: bool) -> None:
        """Put a layer without the rejected slices in the place of the image, or take it away."""
        self._unhide()
        scores = self.results.scores
        if not on or scores is None:
            return
        subject = scores.parts[0].subject
        layer, lost = subject.layer, set(scores.rejected(0))
        if not isinstance(layer, ImageLayer) or layer not in self.viewer.layers:
            self.run_bar.say(f"The layer {subject.name} is gone.", "warning")
            return
        kept = [n for n in range(int(np.prod(subject.shape))) if n not in lost]
        if not kept:
            self.run_bar.say("All slices are rejected: lower the threshold.", "warning")
            return
        shown = kept_layer(layer, subject.axes, kept)
        self.viewer.layers.insert(self.viewer.layers.index(layer) + 1, shown)
        layer.visible = False
        self._hidden = (layer, shown)

    def _unhide(self) -> None:
        if self._hidden is not None:
            (layer, shown), self._hidden = self._hidden, None
            layer.visible = True
            if shown in self.viewer.layers:
                self.viewer.layers.remove(shown)

    def _removed(self, event: Any) -> None:
        """Show the image again when the user removes the layer of kept slices."""
        if self._hidden is not None and event.value in self._hidden:
            layer, shown = self._hidden
            if event.value is shown:
                layer.visible = True
            self._hidden = None
            self.results.hide_rejected.setChecked(False)

    # Ratings -------------------------------------------------------------------------------------

    def _keep_ratings(self) -> None:
        """Keep what was rated with the image, for the next run and the next dock."""
        if self.results.scores is not None:
            self.results.scores.write_ratings(self.viewer.layers)

    def fit_to_ratings(self) -> None:
        """Fit the model that scored the slices to their ratings, and offer to keep it."""
        scores = self.results.scores
        if scores is None or not self.idle:
            return
        if self._scored is None:
            self.run_bar.say("Score the image again first; the ratings stay.", "warning")
            return
        items, options = self._scored
        self.ratings.start(items, scores.rated(), options, self.inputs.device.device())

    # End -----------------------------------------------------------------------------------------

    def _close_down(self) -> None:
        self.viewer.dims.events.point.disconnect(self._moved)
        self.viewer.layers.events.removed.disconnect(self._removed)
        self.inputs.close_down()
        self.results.close_down()
        self.ratings.keeper.close_down()
        self._hidden = None
