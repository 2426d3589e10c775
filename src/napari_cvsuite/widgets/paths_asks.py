"""What the Paths dock is asked of one image: numbers, switches, maps, and the answers to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject

from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.request import Request
from napari_cvsuite.paths.options import MapOptions
from napari_cvsuite.widgets import paths_job as job
from napari_cvsuite.widgets.neurons_job import Glance
from napari_cvsuite.widgets.paths_effect import AT_ONCE
from napari_cvsuite.widgets.paths_known import Known, outcome
from napari_cvsuite.widgets.paths_rows import DIFFERENCE, ESTIMATE, Column
from napari_cvsuite.widgets.paths_tabs import PICTURE, Pages

if TYPE_CHECKING:
    from napari_cvsuite.paths.maps import PathMap
    from napari_cvsuite.paths.subject import Target
    from napari_cvsuite.widgets.paths import PathsDock

__all__ = ["Asks"]

_PATCH = "direct, patch"


class Asks(QObject):
    """Questions about the image that is looked at.

    Parameters
    ----------
    dock : PathsDock
    """

    def __init__(self, dock: PathsDock) -> None:
        super().__init__(dock)
        self._dock = dock

    def connect_pages(self) -> None:
        """Listen to the pages."""
        dock, pages = self._dock, self._dock.pages
        dock.effect.changed.connect(self.refresh)
        dock.effect.off_changed.connect(self._off_changed)
        dock.effect.wanted.connect(self.compute)
        pages.picture.toggled.connect(lambda *_: self.switch())
        pages.picture.picked.connect(self.pick)
        pages.picture_page.all_button.clicked.connect(lambda _: self.switch_off(()))
        pages.picture_page.weighed.connect(self.switch)
        pages.numbers.plot.path_chosen.connect(self._bar_clicked)
        pages.numbers.table.row_chosen.connect(self._row_clicked)
        pages.maps.wanted.connect(lambda: self.show_map(pages.maps.options()))
        for page in pages.labelled:
            page.off_wanted.connect(self._show_off)

    def _target(self) -> Target | None:
        """Return the class that is asked for of what was looked at."""
        known = self._dock.known
        if known is None:
            return None
        try:
            return known.looked.target(self._dock.inputs.target())
        except ValueError:
            # The bar says what is wrong with the classes.
            return None

    def _text(self) -> str | None:
        """Return the class as jobs write it; None, and words, where there is none."""
        try:
            return self._dock.inputs.target()
        except ValueError as error:
            self._dock.fail(str(error))
            return None

    # What is there at once ---------------------------------------------------------------------

    def accept(self) -> None:
        """Show what a look has found."""
        dock, pages, known = self._dock, self._dock.pages, self._dock.known
        assert known is not None
        dock.live.cancel()
        dock.layers.release()
        weights = pages.picture.weights if _names(pages) == known.names else {}
        pages.picture_page.set_paths(known.names)
        pages.picture_page.set_weights(weights)
        pages.picture_page.say("")
        pages.maps.set_paths(known.names)
        dock.layers.show_seen(known.place.spot, asdict(known.looked.session.seen.box))
        dock.request = known.contributions(self._text() or "")
        dock.prediction.fade(False)
        self.refresh()
        if weights:
            self.switch()

    def refresh(self) -> None:
        """Show the numbers of the chosen intervention and class."""
        pages, known, target = self._dock.pages, self._dock.known, self._target()
        if known is not None and target is not None:
            column = self._column(known, target)
            if column is None:
                pages.picture.set_values(None)
                pages.numbers.plot.setVisible(False)
            else:
                self._show_column(known, column, target)
            pages.numbers.show_rows(known.rows(target), known.words(target))
            self._show_prediction(known)
        self.show_known()

    def _column(self, known: Known, target: Target) -> Column | None:
        name = self._dock.effect.intervention
        try:
            instead = self._dock.inputs.instead(*self._dock.effect.instead())
        except ValueError:
            return None
        plain = name in (*AT_ONCE, ESTIMATE)
        return known.column(name, "" if plain else instead.name, target)

    def _show_column(self, known: Known, column: Column, target: Target) -> None:
        pages = self._dock.pages
        values, title = known.picture(column, target)
        pages.picture.set_values(values, title)
        constant = column.of(target).get("constant", float("nan"))
        pages.numbers.plot.show_paths(known.names, values, constant, title)

    def show_known(self) -> None:
        """Offer to compute the chosen number where it is not there yet."""
        known, target, effect = self._dock.known, self._target(), self._dock.effect
        found = None
        if known is not None and target is not None:
            found = self._column(known, target)
        there = found is not None or effect.intervention in AT_ONCE
        effect.show_known(there, not self._dock.running)

    def _show_prediction(self, known: Known) -> None:
        glances = [Glance("all paths", known.likely, ())]
        if known.answer is not None:
            count, off = len(known.answer.weights), not any(known.answer.weights.values())
            title = f"{count} path{'s' if count > 1 else ''} {'off' if off else 'changed'}"
            glances.append(Glance(title, known.answer.likely, ()))
        self._dock.prediction.show_glances(glances)
        self._dock.pages.picture.set_outcome(outcome(known.likely, known.answer))

    # Switches ----------------------------------------------------------------------------------

    def _off_changed(self) -> None:
        if self._dock.pages.picture.weights:
            self.switch()

    def switch_off(self, numbers: Iterable[int]) -> None:
        """Switch these paths off, and no others."""
        self._dock.pages.picture_page.set_weights(dict.fromkeys(numbers, 0.0))
        self.switch()

    def _show_off(self, names: Iterable[str]) -> None:
        """Switch paths off by name, and show that."""
        have = _names(self._dock.pages)
        self._dock.pages.choose(PICTURE)
        self.switch_off([have.index(name) for name in names if name in have])

    def switch(self) -> None:
        """Predict anew with the switches as they are; only the last of several counts."""
        dock, known = self._dock, self._dock.current
        dock.busy_changed()
        if known is None:
            # The look that comes first heeds the switches, too.
            dock.ask("look", None, None)
            return
        dock.live.cancel()
        weights, looked = dock.pages.picture.weights, known.looked
        known.answer = None
        if not weights:
            self._show_prediction(known)
            return
        intervention = dock.effect.off_intervention
        try:
            instead = dock.inputs.instead(*dock.effect.off_instead())
        except ValueError as error:
            dock.fail(str(error))
            return
        dock.live.start(
            lambda context: (known, job.weighed(looked, weights, intervention, instead, context)),
            dock.inputs.device.device(),
            "switch",
        )
        options = looked.asked.what_if(intervention, instead.kind, "", *dock.pages.changes())
        dock.request = known.request("paths.whatif", options, *instead.references)

    def answered(self, outcome: Any) -> None:
        """Show the prediction with some paths off."""
        (asked, answer), known = outcome, self._dock.known
        if known is not None and known is asked:
            known.answer = answer
            self._show_prediction(known)

    # Numbers -----------------------------------------------------------------------------------

    def compute(self) -> None:
        """Compute the chosen number."""
        dock, text = self._dock, self._text()
        name = dock.effect.intervention
        if text is None:
            return
        try:
            instead = dock.inputs.instead(*dock.effect.instead())
        except ValueError as error:
            dock.fail(str(error))
            return

        def show(column: Column) -> None:
            known = dock.known
            assert known is not None
            known.add(column)
            dock.request = self._request(known, name, instead, text)
            self.refresh()

        dock.ask(
            "effect",
            lambda looked, context: job.effect(looked, name, instead, text, context),
            show,
        )

    def _request(self, known: Known, name: str, instead: job.Instead, text: str) -> Request:
        """Return what gives the numbers of an intervention, as data."""
        if name == DIFFERENCE:
            options = replace(known.looked.asked.options, target=text)
            return known.request("paths.contributions", options, *instead.references)
        kind = "total_module" if name == ESTIMATE else name
        made = known.looked.asked.what_if(kind, instead.kind, text)
        made = replace(made, estimate=name == ESTIMATE)
        return known.request("paths.whatif", made, *instead.references)

    def _bar_clicked(self, number: int) -> None:
        self._dock.pages.picture.set_picked(number)
        self.pick(number)

    def _row_clicked(self, row: dict[str, Any]) -> None:
        name, names = str(row["path"]), _names(self._dock.pages)
        if name in names:
            self._bar_clicked(names.index(name))
        elif ".head_" in name:
            path, _, head = name.partition(".head_")
            self.show_map({"kind": "share", "path": path, "head": int(head)}, True)

    # Maps --------------------------------------------------------------------------------------

    def pick(self, number: int) -> None:
        """Say what a path is, and lay its map over the image if it has one."""
        pages, known = self._dock.pages, self._dock.known
        pages.picture_page.show_weight(number)
        box = pages.picture.boxes[number]
        if known is None:
            return
        if known.looked.session.model.config.pool == "token" and not box.name.startswith("msa_"):
            pages.picture_page.say(
                f"<b>{box.name}</b> acts on the class token alone: it has no map over the image."
            )
            return
        self.show_map({"kind": "share", "path": box.name}, True)

    def show_map(self, chosen: dict[str, Any], again: bool = False) -> None:
        """Lay a map over the image.

        Parameters
        ----------
        chosen : dict
            Options of the map.
        again : bool
            In the layer of the last one.
        """
        text = self._text()
        if text is None:
            return
        # Relevance is that of a class, whatever it is compared with.
        target = text if chosen["kind"] != "relevance" else self._dock.inputs.label.value()

        def work(looked: job.Looked, context: Context) -> tuple[MapOptions, PathMap]:
            options = MapOptions(**looked.asked.view(), target=target, **chosen)
            return options, job.map_of(looked, options, context)

        def show(made: tuple[MapOptions, PathMap]) -> None:
            (options, found), known = made, self._dock.known
            assert known is not None
            self._dock.layers.add(found, known.place.spot, options.model, again)
            self._dock.request = known.request("paths.map", options)
            self._dock.pages.show_map(found)

        self._dock.ask("map", work, show)

    def patch(self, row: int, column: int) -> None:
        """Show what paths draw from a patch that was clicked."""
        known, text = self._dock.known, self._text()
        if known is None or text is None:
            return

        def show(found: Column) -> None:
            target = self._target()
            if known is not self._dock.known or target is None:
                return
            known.columns = [one for one in known.columns if not one.title.startswith(_PATCH)]
            known.add(found)
            self.refresh()
            self._show_column(known, found, target)

        looked = known.looked
        self._dock.measure(
            "patch", lambda context: job.patch(looked, row, column, text), show, "interactive"
        )


def _names(pages: Pages) -> tuple[str, ...]:
    return tuple(box.name for box in pages.picture.boxes)
