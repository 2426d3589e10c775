"""What all docks have in common, on one that only counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from docks import Wait, press, problem, shown
from qtpy.QtWidgets import QWidget

from napari_cvsuite.jobs import Context
from napari_cvsuite.widgets.dock import SAVE_MS, Dock
from napari_cvsuite.widgets.settings import load_state

KEY = "Control-Shift-Y"


class Counter(Dock):
    """Adds one in each run, unless something is wrong."""

    def __init__(self, viewer: Any) -> None:
        super().__init__(viewer, "counter", KEY, "Count")
        self.count, self.wrong, self.themes, self.released = 0, "", 0, False
        self.runner.done.connect(self._add)
        self._begin()

    def _add(self, more: int) -> None:
        self.count += more

    def _problem(self) -> tuple[str, QWidget | None]:
        return self.wrong, None

    def _validate(self) -> None:
        self.run_bar.set_problem(self.wrong)

    def _state(self) -> dict[str, Any]:
        return {"count": self.count}

    def _recolour(self, *_: object) -> None:
        self.themes += 1

    def _close_down(self) -> None:
        self.released = True

    def set_wrong(self, text: str) -> None:
        self.wrong = text
        self._changed()

    def run(self) -> None:
        if self._may_run():
            self.runner.start(lambda context: 1, "cpu", "count")


class _Unlicensed:
    @staticmethod
    def permitted() -> bool:
        return False


@pytest.fixture
def dock(viewer: Any) -> Iterator[Counter]:
    made = Counter(viewer)
    yield made
    if not made.released:
        made.close()


def test_button_and_shortcut_run(dock: Counter, viewer: Any, wait_for: Wait) -> None:
    assert "Ctrl" not in KEY and KEY.replace("-", "+") in dock.run_bar.button.toolTip()
    dock.run_bar.button.click()
    wait_for(lambda: dock.idle)
    press(viewer, KEY)
    wait_for(lambda: dock.idle)
    assert dock.count == 2


def test_what_is_wrong_is_said_and_stops_the_run(
    dock: Counter, viewer: Any, wait_for: Wait
) -> None:
    dock.set_wrong("Nothing to count.")
    assert problem(dock) == "Nothing to count."
    press(viewer, KEY)
    dock.run()
    assert dock.idle and dock.count == 0
    dock.set_wrong("")
    dock.run()
    wait_for(lambda: dock.idle)
    assert dock.count == 1


def test_nothing_starts_while_a_job_runs(dock: Counter, wait_for: Wait) -> None:
    def held(context: Context) -> int:
        while True:
            context.check()

    dock.runner.start(held, "cpu", "held")
    dock.run()
    assert not dock.idle
    dock.cancel()
    wait_for(lambda: dock.idle)
    assert dock.count == 0


def test_a_model_without_its_licence_does_not_run(dock: Counter) -> None:
    assert not dock._may_run(_Unlicensed())  # type: ignore[arg-type]
    assert "licence" in dock.run_bar.message.text()


def test_the_theme_is_followed_until_the_end(dock: Counter, viewer: Any) -> None:
    assert dock.themes == 1
    viewer.theme = "light"
    assert dock.themes == 2
    dock.close()
    viewer.theme = "dark"
    assert dock.themes == 2


def test_a_change_is_kept_a_little_later(dock: Counter, wait_for: Wait) -> None:
    assert SAVE_MS > 0 and load_state("counter") == {}
    dock._changed()
    wait_for(lambda: load_state("counter") == {"count": 0})


def test_closing_keeps_the_state_and_lets_go(dock: Counter, viewer: Any) -> None:
    dock._changed()
    dock.count = 7
    dock.close()
    assert load_state("counter") == {"count": 7} and dock.released
    assert not dock._save_later.isActive() and shown(KEY) not in map(str, viewer.keymap)
