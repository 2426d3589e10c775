"""Tests of what happens to jobs when a queue closes, and of callers that wait for jobs."""

from __future__ import annotations

import threading
import time

import pytest

from napari_cvsuite.jobs.context import Cancelled, Context, use_context
from napari_cvsuite.jobs.queues import QueueClosed, Scheduler

WAIT = 10.0


class Holding:
    """A job that tells when it runs and ends at its next check after a cancellation."""

    def __init__(self) -> None:
        self.running = threading.Event()

    def __call__(self, context: Context) -> None:
        self.running.set()
        assert context.token.wait(WAIT)
        context.check()


def test_shutdown_cancels_what_runs_and_what_waits() -> None:
    scheduler, job = Scheduler(), Holding()
    running = scheduler.submit("cpu", job)
    assert job.running.wait(WAIT)
    waiting = scheduler.submit("cpu", lambda context: "never")
    assert scheduler.shutdown(timeout=WAIT)
    for handle in (running, waiting):
        with pytest.raises(Cancelled):
            handle.result(WAIT)
        assert handle.state == "cancelled"
    for device in ("cpu", "cuda:0"):
        with pytest.raises(QueueClosed, match="start the program again"):
            scheduler.submit(device, lambda context: None)
    assert scheduler.snapshot() == []


def test_cancel_and_shutdown_at_once() -> None:
    for _ in range(20):
        scheduler, job = Scheduler(), Holding()
        handles = [scheduler.submit("cpu", job), scheduler.submit("cpu", Holding())]
        assert job.running.wait(WAIT)
        threads = [threading.Thread(target=handle.cancel) for handle in handles]
        for thread in threads:
            thread.start()
        assert scheduler.shutdown(timeout=WAIT)
        for thread in threads:
            thread.join(WAIT)
        assert [handle.state for handle in handles] == ["cancelled", "cancelled"]


def test_shutdown_without_cancel_lets_jobs_finish() -> None:
    scheduler, gate = Scheduler(), threading.Event()
    handles = [scheduler.submit("cpu", lambda c, n=n: gate.wait(WAIT) and n) for n in (1, 2)]
    closing = threading.Thread(target=lambda: scheduler.shutdown(cancel=False, timeout=WAIT))
    closing.start()
    gate.set()
    assert [handle.result(WAIT) for handle in handles] == [1, 2]
    closing.join(WAIT)
    assert not closing.is_alive()


def test_a_job_that_never_checks_does_not_hold_the_program() -> None:
    scheduler, running, gate = Scheduler(), threading.Event(), threading.Event()

    def deaf(context: Context) -> None:
        running.set()
        gate.wait(WAIT)

    handle = scheduler.submit("cpu", deaf)
    assert running.wait(WAIT)
    started = time.monotonic()
    assert not scheduler.shutdown(timeout=0.2)
    assert time.monotonic() - started < 5.0
    gate.set()
    with pytest.raises(Cancelled):
        handle.result(WAIT)


def test_cancelling_the_caller_cancels_the_job_it_waits_for() -> None:
    scheduler, job, outer = Scheduler(), Holding(), Context()
    ended: list[str] = []

    def wait_for_it() -> None:
        try:
            with use_context(outer):
                scheduler.run_inline(job, "cpu")
        except Cancelled:
            ended.append("caller")

    caller = threading.Thread(target=wait_for_it)
    caller.start()
    assert job.running.wait(WAIT)
    handle = scheduler.queue("cpu").jobs()[0]
    outer.token.cancel()
    caller.join(WAIT)
    assert ended == ["caller"]
    with pytest.raises(Cancelled):
        handle.result(WAIT)


def test_an_error_reaches_the_caller_and_the_worker_goes_on() -> None:
    scheduler = Scheduler()

    def fail(context: Context) -> None:
        raise LookupError("nothing there")

    for device in ("cpu", "cuda:0"):
        with pytest.raises(LookupError, match="nothing there"):
            scheduler.run_inline(fail, device)
        assert scheduler.run_inline(lambda context: context.device, device) == device


def test_a_listener_that_breaks_is_not_the_fault_of_the_job(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(progress: object) -> None:
        raise ValueError("listener")

    def job(context: Context) -> int:
        context.progress(1, 2)
        return 7

    with use_context(Context(on_progress=broken)):
        assert Scheduler().run_inline(job) == 7
    assert "listener" in caplog.text


def test_devices_run_side_by_side() -> None:
    # Each job ends only if the other one has begun.
    scheduler = Scheduler()
    begun = {"cuda:0": threading.Event(), "cuda:1": threading.Event()}

    def job(context: Context) -> bool:
        begun[context.device].set()
        other = "cuda:1" if context.device == "cuda:0" else "cuda:0"
        return begun[other].wait(WAIT)

    handles = [scheduler.submit(device, job) for device in begun]
    assert all(handle.result(WAIT) for handle in handles)


def test_one_device_never_runs_two_jobs_at_once() -> None:
    scheduler, lock = Scheduler(), threading.Lock()

    def job(context: Context) -> bool:
        alone = lock.acquire(blocking=False)
        time.sleep(0.005)
        if alone:
            lock.release()
        return alone

    handles = [scheduler.submit("cuda:0", job, job_class="batch") for _ in range(20)]
    assert all(handle.result(WAIT) for handle in handles)
