"""The queues of all devices: interactive before batch before training, one job a device."""

from __future__ import annotations

import atexit
import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from napari_cvsuite.jobs.context import Context, current_context, use_context
from napari_cvsuite.jobs.worker import (
    DeviceQueue,
    JobClass,
    JobFailed,
    JobHandle,
    QueueClosed,
    State,
    notify,
)

__all__ = [
    "DeviceQueue",
    "JobClass",
    "JobFailed",
    "JobHandle",
    "JobInfo",
    "QueueClosed",
    "Scheduler",
    "default_scheduler",
]

T = TypeVar("T")
A = TypeVar("A")


@dataclass(frozen=True)
class JobInfo:
    """One line of the job list."""

    name: str
    device: str
    job_class: JobClass
    state: State
    position: int | None


class Scheduler:
    """The queues of all devices, made on demand, and ``.io`` for files and downloads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[str, DeviceQueue] = {}
        self._listeners: list[Callable[[], object]] = []
        self._closed = False
        self.io = self.queue("io")

    def queue(self, device: str) -> DeviceQueue:
        """Return the queue of `device`."""
        with self._lock:
            if device not in self._queues:
                if self._closed:
                    raise QueueClosed("the scheduler is shut down; start the program again")
                self._queues[device] = DeviceQueue(device, self._changed)
            return self._queues[device]

    def submit(
        self,
        device: str,
        fn: Callable[[Context], Any],
        name: str = "job",
        job_class: JobClass = "interactive",
    ) -> JobHandle:
        """Queue ``fn(context)`` on `device`."""
        return self.queue(device).submit(fn, name, job_class)

    def run_inline(
        self,
        fn: Callable[[Context], T],
        device: str = "cpu",
        job_class: JobClass = "interactive",
        name: str = "job",
    ) -> T:
        """Run on `device` and wait; directly if the caller is that device's worker.

        Progress and warnings reach the context of the caller; cancelling the job that waits, or
        Ctrl-C, cancels the inner job as well.
        """
        queue = self.queue(device)
        outer = current_context()
        if queue.on_worker():
            inner = Context(
                device, job_class, outer.token, outer.on_progress, outer.on_warning, outer.on_pause
            )
            with use_context(inner):
                return fn(inner)
        handle = queue.submit(_linked(fn, outer), name, job_class)
        try:
            # Short waits, so that Ctrl-C and the outer job's cancellation are noticed.
            while not handle.wait(0.05):
                outer.check()
        except BaseException:
            handle.cancel()
            raise
        result: T = handle.result()
        return result

    def snapshot(self) -> list[JobInfo]:
        """Return one line per job that runs or waits."""
        with self._lock:
            queues = list(self._queues.values())
        return [
            JobInfo(job.name, job.device, job.job_class, job.state, job.position)
            for queue in queues
            for job in queue.jobs()
        ]

    def on_change(self, fn: Callable[[], object]) -> Callable[[], None]:
        """Call `fn` on any change, on any thread; return a function that stops it."""
        self._listeners.append(fn)
        return lambda: self._listeners.remove(fn)

    def _changed(self) -> None:
        for fn in tuple(self._listeners):
            notify(fn)

    def shutdown(self, cancel: bool = True, timeout: float | None = None) -> bool:
        """Close all queues, wait `timeout` seconds in all; return whether all ended."""
        with self._lock:
            self._closed = True
            queues = list(self._queues.values())
        for queue in queues:
            queue.close(cancel)
        end = None if timeout is None else time.monotonic() + timeout
        left = (None if end is None else max(0.0, end - time.monotonic()) for _ in queues)
        return all([q.shutdown(cancel, t) for q, t in zip(queues, left, strict=True)])


def _linked(fn: Callable[[Context], T], outer: Context) -> Callable[[Context], T]:
    """Return `fn` with its reports sent to the context `outer`, too."""

    def both(first: Callable[[A], None] | None, second: Callable[[A], None]) -> Callable[[A], None]:
        def report(what: A) -> None:
            if first is not None:
                first(what)
            notify(second, what)

        return report

    def job(context: Context) -> T:
        if outer.on_progress is not None:
            context.on_progress = both(context.on_progress, outer.on_progress)
        if outer.on_warning is not None:
            context.on_warning = both(context.on_warning, outer.on_warning)
        return fn(context)

    return job


@functools.cache
def default_scheduler() -> Scheduler:
    """Return the process-wide scheduler; jobs are cancelled when the interpreter exits."""
    scheduler = Scheduler()
    # Short: the workers are daemons, so a job that never checks cannot hold the exit back.
    atexit.register(scheduler.shutdown, cancel=True, timeout=2.0)
    return scheduler
