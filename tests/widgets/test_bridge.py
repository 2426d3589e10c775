"""Jobs report on the GUI thread, and a cancelled one is let go of at once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from qtpy.QtWidgets import QWidget

from napari_cvsuite.jobs import Context, Progress
from napari_cvsuite.widgets.bridge import JobRunner

Wait = Callable[[Callable[[], bool]], None]


class Heard:
    """Records every signal of a runner, and on which thread it came."""

    def __init__(self, runner: JobRunner) -> None:
        self.names: list[str] = []
        self.values: dict[str, list[Any]] = {}
        self.threads: set[threading.Thread] = set()
        for name in ("progressed", "previewed", "warned", "done", "failed", "positioned"):
            getattr(runner, name).connect(lambda value, name=name: self.note(name, value))
        for name in ("started", "cancelled", "ended"):
            getattr(runner, name).connect(lambda name=name: self.note(name, None))

    def note(self, name: str, value: Any) -> None:
        self.names.append(name)
        self.values.setdefault(name, []).append(value)
        self.threads.add(threading.current_thread())


@pytest.fixture
def runner(qtbot: object) -> Any:
    made = JobRunner()
    yield made
    made.close()


def test_outcome_progress_and_warnings_reach_the_gui_thread(
    runner: JobRunner, wait_for: Wait
) -> None:
    heard = Heard(runner)

    def job(context: Context) -> str:
        assert threading.current_thread() is not threading.main_thread()
        for number in range(3):
            context.progress(number, 3, "working", preview=number)
        context.warn("careful")
        return "result"

    runner.start(job, "cpu")
    assert runner.busy
    with pytest.raises(RuntimeError, match="cancel it first"):
        runner.start(job, "cpu")
    wait_for(lambda: "ended" in heard.names)
    assert heard.values["done"] == ["result"]
    assert heard.values["previewed"] == [0, 1, 2]
    assert heard.values["warned"] == ["careful"]
    last = heard.values["progressed"][-1]
    assert isinstance(last, Progress) and (last.done, last.total) == (2, 3)
    assert heard.threads == {threading.main_thread()}
    assert heard.names[0] == "started" and heard.names[-1] == "ended"
    assert not runner.busy


def test_error_is_reported_and_the_worker_survives(runner: JobRunner, wait_for: Wait) -> None:
    heard = Heard(runner)

    def broken(context: Context) -> None:
        raise ValueError("no such thing")

    runner.start(broken, "cpu")
    wait_for(lambda: heard.names.count("ended") == 1)
    assert str(heard.values["failed"][0]) == "no such thing"
    runner.start(lambda context: 7, "cpu")
    wait_for(lambda: heard.names.count("ended") == 2)
    assert heard.values["done"] == [7]


def test_unknown_device_is_an_error_of_the_run(runner: JobRunner, wait_for: Wait) -> None:
    heard = Heard(runner)
    runner.start(lambda context: 7, "cuda:77")
    wait_for(lambda: "ended" in heard.names)
    assert "not available" in str(heard.values["failed"][0])


def test_cancel_frees_at_once_and_drops_late_reports(runner: JobRunner, wait_for: Wait) -> None:
    heard = Heard(runner)
    entered, leave = threading.Event(), threading.Event()

    def stubborn(context: Context) -> str:
        entered.set()
        leave.wait(20)
        return "too late"

    runner.start(stubborn, "cpu")
    wait_for(entered.is_set)
    before = time.monotonic()
    runner.cancel()
    assert time.monotonic() - before < 0.2
    assert not runner.busy and heard.names[-2:] == ["cancelled", "ended"]
    runner.start(lambda context: "next", "cpu")
    # The stubborn job still holds the device, so the next one waits its turn.
    wait_for(lambda: 1 in heard.values.get("positioned", []))
    leave.set()
    wait_for(lambda: heard.names.count("ended") == 2)
    assert heard.values["done"] == ["next"]


def test_cancel_while_queued_never_runs_the_job(runner: JobRunner, wait_for: Wait) -> None:
    other, ran = JobRunner(), []
    entered, leave = threading.Event(), threading.Event()

    def hold(context: Context) -> None:
        entered.set()
        leave.wait(20)

    other.start(hold, "cpu")
    wait_for(entered.is_set)
    heard = Heard(runner)
    runner.start(lambda context: ran.append(1), "cpu")
    wait_for(lambda: 1 in heard.values.get("positioned", []))
    runner.cancel()
    leave.set()
    wait_for(lambda: not other.busy)
    other.close()
    assert ran == [] and "done" not in heard.names


def test_deleting_the_widget_does_not_disturb_a_running_job(qtbot: Any, wait_for: Wait) -> None:
    parent = QWidget()
    child = JobRunner(parent)
    entered, over = threading.Event(), threading.Event()

    def job(context: Context) -> None:
        entered.set()
        try:
            while True:
                context.progress(0, 1, "going on")
                time.sleep(0.01)
        finally:
            over.set()

    child.start(job, "cpu")
    wait_for(entered.is_set)
    parent.deleteLater()
    # Deleting is a cancel: nobody is left to see the result.
    wait_for(over.is_set)


def test_opening_a_dock_loads_no_torch() -> None:
    code = (
        "import sys; import napari_cvsuite.widgets.segment; import napari_cvsuite.app;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the import loads them")
def test_libraries_are_loaded_ahead_of_torch() -> None:
    code = (
        "import sys, pathlib\n"
        "from napari_cvsuite.widgets.bridge import _load_libraries\n"
        "_load_libraries()\n"
        "assert 'libtorch_cpu.so' in pathlib.Path('/proc/self/maps').read_text()\n"
        "assert 'torch' not in sys.modules\n"
        "import torch\n"
        "assert float(torch.ones(3).sum()) == 3\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
