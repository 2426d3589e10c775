"""Tests of the device queues."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref

import pytest

from napari_cvsuite.jobs.context import Cancelled, Context
from napari_cvsuite.jobs.queues import DeviceQueue, JobFailed, QueueClosed, Scheduler

WAIT = 10.0


def test_priorities_cancel_and_callbacks() -> None:
    queue, gate, seen = DeviceQueue("cpu"), threading.Event(), []
    running = threading.Event()

    def hold(_context: Context) -> None:
        running.set()
        gate.wait(WAIT)

    first = queue.submit(hold, "first")
    assert running.wait(WAIT)
    train = queue.submit(lambda c: seen.append("t"), "t", "training")
    batch = queue.submit(lambda c: seen.append("b"), "b", "batch")
    quick = queue.submit(lambda c: seen.append("i"), "i")
    gone = queue.submit(lambda c: seen.append("gone"), "gone")
    assert [h.position for h in (quick, gone, batch, train)] == [1, 2, 3, 4]
    states: list[str] = []
    gone.add_done_callback(lambda h: states.append(h.state))
    gone.cancel()
    assert states == ["cancelled"]
    gate.set()
    train.result(WAIT)
    assert first.state == "done" and seen == ["i", "b", "t"]
    assert queue.shutdown(timeout=WAIT)
    with pytest.raises(QueueClosed):
        queue.submit(lambda c: None)


def test_cancel_running_and_dropped_result() -> None:
    queue = DeviceQueue("cpu")
    for checks in (True, False):
        started = threading.Event()

        def job(c: Context, started: threading.Event = started, checks: bool = checks) -> int:
            started.set()
            c.token.wait(WAIT)
            if checks:
                c.check()
            return 1

        handle = queue.submit(job)
        assert started.wait(WAIT)
        handle.cancel()
        with pytest.raises(Cancelled):
            handle.result(WAIT)
        assert handle.state == "cancelled"


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_worker_survives(kind: type[BaseException]) -> None:
    queue = DeviceQueue("cpu")

    def job(c: Context) -> None:
        raise kind("x")

    handle = queue.submit(job)
    with pytest.raises((ValueError, JobFailed)):
        handle.result(WAIT)
    error = handle.exception()
    assert handle.state == "failed" and isinstance(error, kind) and error.__traceback__
    assert queue.submit(lambda c: 2).result(WAIT) == 2


def test_two_devices_overlap() -> None:
    scheduler, barrier = Scheduler(), threading.Barrier(2)
    jobs = [scheduler.submit(d, lambda c: barrier.wait(WAIT)) for d in ("cpu", "cuda:0")]
    assert sorted(j.result(WAIT) for j in jobs) == [0, 1]


def test_interactive_during_training() -> None:
    queue, started, go, over = (DeviceQueue("cpu"), *(threading.Event() for _ in range(3)))
    step = [0]

    def train(c: Context) -> int:
        started.set()
        go.wait(WAIT)
        while not over.is_set():
            step[0] += 1
            c.pause_point()
        return step[0]

    def fail(c: Context) -> None:
        raise SystemExit

    training = queue.submit(train, "train", "training")
    assert started.wait(WAIT)
    bad = queue.submit(fail)
    quick = queue.submit(lambda c: (step[0], threading.get_ident()))
    quick.add_done_callback(lambda h: over.set())
    go.set()
    assert quick.result(WAIT)[0] <= 2
    assert training.result(WAIT) <= 2 and bad.state == "failed"


def test_run_inline_nested_and_freed() -> None:
    scheduler = Scheduler()
    assert scheduler.run_inline(lambda c: scheduler.run_inline(lambda d: d.device)) == "cpu"

    class Big:
        pass

    big = Big()
    ref = weakref.ref(big)
    handle = scheduler.submit("cpu", lambda c, big=big: None)
    handle.result(WAIT)
    scheduler.submit("cpu", lambda c: None).result(WAIT)
    del big
    gc.collect()
    assert ref() is None and scheduler.snapshot() == []


def test_interpreter_exits() -> None:
    code = (
        "from napari_cvsuite.jobs.queues import default_scheduler as s\n"
        "import threading\ne = threading.Event()\n"
        "def job(c):\n    e.set()\n    c.token.wait()\n    c.check()\n"
        "s().submit('cpu', job)\ne.wait()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0
