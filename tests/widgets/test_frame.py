"""Steps are taken one by one, and the window lives in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from qtpy.QtWidgets import QMainWindow, QWidget

from napari_cvsuite.widgets.frame import Steps

Wait = Callable[[Callable[[], bool]], None]


@pytest.fixture
def window(qtbot: Any) -> QMainWindow:
    made = QMainWindow()
    qtbot.addWidget(made)
    made.setCentralWidget(QWidget())
    return made


def _drawn(window: QMainWindow) -> tuple[bool, bool]:
    """Return whether the window and its centre are drawn."""
    return window.updatesEnabled(), window.centralWidget().updatesEnabled()


def test_each_step_has_a_turn_and_is_drawn_before_the_next(
    window: QMainWindow, wait_for: Wait
) -> None:
    steps, seen = Steps(window), []
    turns: list[tuple[bool, bool]] = []
    steps._timer.timeout.connect(lambda: turns.append(_drawn(window)))

    def step(name: str) -> Callable[[], None]:
        return lambda: seen.append((name, _drawn(window), len(turns)))

    steps.add(step("a"), step("b"))
    steps.add(step("c"))
    assert steps.pending and not seen
    wait_for(lambda: not steps.pending)
    # Nothing is drawn during a step, then what surrounds the centre, then the centre.
    assert seen == [(name, (False, False), 3 * n) for n, name in enumerate("abc")]
    assert turns[:3] == [(False, False), (True, False), (True, True)]
    wait_for(lambda: not steps._timer.isActive())
    assert _drawn(window) == (True, True)


def test_a_step_that_cannot_wait_goes_first(window: QMainWindow, wait_for: Wait) -> None:
    steps, seen = Steps(window), []
    steps.add(lambda: seen.append("later"))
    steps.take(lambda: seen.append("now"))
    assert seen == ["now"] and steps.pending and _drawn(window) == (False, False)
    wait_for(lambda: not steps.pending)
    assert seen == ["now", "later"]


def test_a_generator_lives_up_to_each_yield(window: QMainWindow, wait_for: Wait) -> None:
    steps, seen = Steps(window), []

    def parts() -> Iterator[None]:
        for number in range(3):
            seen.append(number)
            yield

    steps.add(parts, lambda: seen.append("after"))
    wait_for(lambda: 0 in seen)
    assert seen == [0]
    wait_for(lambda: not steps.pending)
    assert seen == [0, 1, 2, "after"]


@pytest.mark.parametrize("inside", [False, True])
def test_clearing_ends_all_and_draws_the_window(
    window: QMainWindow, wait_for: Wait, inside: bool
) -> None:
    steps, seen = Steps(window), []

    def parts() -> Iterator[None]:
        try:
            seen.append("begun")
            if inside:
                steps.clear()
            yield
            seen.append("gone on")
        finally:
            seen.append("closed")

    steps.add(parts, lambda: seen.append("after"))
    wait_for(lambda: "begun" in seen)
    steps.clear()
    assert seen == ["begun", "closed"]
    assert not steps.pending and not steps._timer.isActive() and _drawn(window) == (True, True)


def test_a_step_that_fails_does_not_stop_the_others(
    window: QMainWindow, wait_for: Wait, qtbot: Any
) -> None:
    steps, seen = Steps(window), []
    steps.add(lambda: 1 / 0, lambda: seen.append("next"))
    with qtbot.captureExceptions() as failures:
        wait_for(lambda: not steps.pending)
    assert [kind for kind, _, _ in failures] == [ZeroDivisionError] and seen == ["next"]
    assert _drawn(window) == (True, True)
