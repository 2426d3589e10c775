"""The bar says what happens, and what is wrong before it happens."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from napari_cvsuite.jobs import Context, Progress
from napari_cvsuite.widgets.bridge import JobRunner
from napari_cvsuite.widgets.run_bar import RunBar

pytestmark = pytest.mark.usefixtures("qtbot")
Wait = Callable[[Callable[[], bool]], None]


def test_problem_turns_the_button_off_and_on() -> None:
    bar = RunBar(JobRunner(), "Go")
    bar.set_problem("Open an image.")
    assert not bar.button.isEnabled() and bar.message.text() == "Open an image."
    bar.set_problem("")
    assert bar.button.isEnabled() and bar.message.text() == ""


def test_news_outlive_a_check_without_problem() -> None:
    bar = RunBar(JobRunner(), "Go")
    bar.say("12 objects.")
    bar.set_problem("")
    assert bar.message.text() == "12 objects."


def test_progress_is_shown_in_thousandths() -> None:
    runner = JobRunner()
    bar = RunBar(runner, "Go")
    runner.progressed.emit(Progress(1, 3, "tile 1 of 3"))
    assert (bar.bar.value(), bar.bar.maximum()) == (333, 1000)
    assert bar.message.text() == "Tile 1 of 3"
    runner.progressed.emit(Progress(0, 0, "starting engine"))
    assert bar.bar.maximum() == 0


@pytest.mark.parametrize(("place", "text"), [(1, "next"), (2, "2nd"), (4, "4th")])
def test_place_in_the_queue(place: int, text: str) -> None:
    runner = JobRunner()
    bar = RunBar(runner, "Go")
    runner.positioned.emit(place)
    assert text in bar.message.text()


def test_button_runs_and_cancels(wait_for: Wait) -> None:
    runner = JobRunner()
    bar = RunBar(runner, "Go")
    entered = threading.Event()

    def job(context: Context) -> None:
        entered.set()
        while True:
            context.token.wait(0.01)
            context.check()

    bar.run_wanted.connect(lambda: runner.start(job, "cpu"))
    bar.button.click()
    assert bar.button.text() == "Cancel"
    wait_for(entered.is_set)
    # A problem that appears meanwhile must not take Cancel away.
    bar.set_problem("The image is gone.")
    assert bar.button.isEnabled()
    bar.button.click()
    assert bar.button.text() == "Go" and not bar.button.isEnabled()
    assert "Cancelled" in bar.message.text()
    runner.close()
