"""The jobs of one device and the thread that runs them, never two at once."""

from __future__ import annotations

import contextvars
import itertools
import logging
import threading
from collections.abc import Callable
from typing import Any, Literal

from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context, Progress, use_context

__all__ = ["DeviceQueue", "JobClass", "JobFailed", "JobHandle", "QueueClosed", "State", "notify"]

JobClass = Literal["interactive", "batch", "training"]
State = Literal["queued", "running", "done", "failed", "cancelled"]
_PRIORITY = {"interactive": 0, "batch": 1, "training": 2}
_log = logging.getLogger("napari_cvsuite")


class QueueClosed(RuntimeError):
    """The queue was shut down and takes no more jobs."""


class JobFailed(RuntimeError):
    """A job raised SystemExit, KeyboardInterrupt or the like, which must not end the caller."""


def notify(fn: Callable[..., object], *args: object) -> None:
    """Call a listener, whose fault is logged, as it is not the job's."""
    try:
        fn(*args)
    except Exception:
        _log.exception("A job listener failed")


class JobHandle:
    """A submitted job; made by :meth:`DeviceQueue.submit`."""

    def __init__(
        self, queue: DeviceQueue, fn: Callable[[Context], Any], name: str, job_class: JobClass
    ) -> None:
        self.name = name
        self.device = queue.device
        self.job_class: JobClass = job_class
        self.token = CancelToken()
        self._queue = queue
        self._fn: Callable[[Context], Any] | None = fn
        self._vars: contextvars.Context | None = contextvars.copy_context()
        self._state: State = "queued"
        self._result: Any = None
        self._error: BaseException | None = None
        self._warnings: list[str] = []
        self._over = threading.Event()
        self._on_done: list[Callable[[JobHandle], object]] = []
        self._on_progress: list[Callable[[Progress], object]] = []

    @property
    def state(self) -> State:
        """Where the job stands."""
        return self._state

    @property
    def position(self) -> int | None:
        """0 while running, 1 for the first that waits, None when over."""
        return self._queue.position(self)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the job warned of so far."""
        return tuple(self._warnings)

    def cancel(self) -> None:
        """Drop the job if it waits, ask it to stop if it runs."""
        self._queue.cancel(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job is over; return whether it is."""
        return self._over.wait(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait, then return the job's error (:class:`Cancelled` if cancelled) or None."""
        if not self._over.wait(timeout):
            raise TimeoutError(f"{self.name} is not over after {timeout} s")
        return self._error

    def result(self, timeout: float | None = None) -> Any:
        """Wait, then return the result or raise the job's error."""
        error = self.exception(timeout)
        if error is None:
            return self._result
        if isinstance(error, Exception):
            raise error
        raise JobFailed(f"{self.name} raised {type(error).__name__}") from error

    def add_done_callback(self, fn: Callable[[JobHandle], object]) -> None:
        """Call `fn` with the handle when the job is over, at once if it is."""
        with self._queue.lock:
            if not self._over.is_set():
                self._on_done.append(fn)
                return
        notify(fn, self)

    def add_progress_callback(self, fn: Callable[[Progress], object]) -> None:
        """Call `fn` with each progress report, on the worker thread."""
        with self._queue.lock:
            if not self._over.is_set():
                self._on_progress.append(fn)

    def _progress(self, progress: Progress) -> None:
        for fn in tuple(self._on_progress):
            notify(fn, progress)

    def _end(self, state: State, result: Any = None, error: BaseException | None = None) -> None:
        with self._queue.lock:
            if state == "done" and self.token.cancelled:
                state, result, error = "cancelled", None, Cancelled("The job was cancelled.")
            self._state, self._result, self._error = state, result, error
            self._fn = self._vars = None
            callbacks, self._on_done = self._on_done, []
            self._on_progress = []
            self._queue.forget(self)
            self._over.set()
        for fn in callbacks:
            notify(fn, self)
        self._queue.changed()


class DeviceQueue:
    """The jobs of one device and the single daemon thread that runs them."""

    def __init__(self, device: str, on_change: Callable[[], object] | None = None) -> None:
        self.device = device
        self.lock = threading.Condition(threading.RLock())
        self._on_change = on_change
        self._waiting: list[tuple[int, int, JobHandle]] = []
        self._running: list[JobHandle] = []
        self._count = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(
        self, fn: Callable[[Context], Any], name: str = "job", job_class: JobClass = "interactive"
    ) -> JobHandle:
        """Queue ``fn(context)``; raises :class:`QueueClosed` after :meth:`shutdown`."""
        rank = _PRIORITY[job_class]
        with self.lock:
            if self._closed:
                raise QueueClosed(
                    f"the queue of {self.device} is shut down; start the program again"
                )
            handle = JobHandle(self, fn, name, job_class)
            self._waiting.append((rank, next(self._count), handle))
            self._waiting.sort(key=lambda entry: entry[:2])
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name=f"cvsuite-{self.device}", daemon=True
                )
                self._thread.start()
            self.lock.notify_all()
        self.changed()
        return handle

    def on_worker(self) -> bool:
        """Return whether the caller runs on this queue's worker thread."""
        return threading.current_thread() is self._thread

    def position(self, handle: JobHandle) -> int | None:
        """Return the position of `handle`; see :attr:`JobHandle.position`."""
        with self.lock:
            if handle in self._running:
                return 0
            waiting = [entry[2] for entry in self._waiting]
            return waiting.index(handle) + 1 if handle in waiting else None

    def cancel(self, handle: JobHandle) -> None:
        """Cancel `handle`; see :meth:`JobHandle.cancel`."""
        with self.lock:
            if handle._over.is_set():
                return
            handle.token.cancel()
            if handle._state != "queued":
                return
            # Out of the queue and out of "queued" under the lock: the worker cannot take it.
            self.forget(handle)
            handle._state = "cancelled"
        handle._end("cancelled", error=Cancelled("The job was cancelled."))

    def forget(self, handle: JobHandle) -> None:
        """Take `handle` off the lists."""
        with self.lock:
            self._waiting = [entry for entry in self._waiting if entry[2] is not handle]
            self._running = [one for one in self._running if one is not handle]

    def changed(self) -> None:
        """Tell the listener that the list of jobs changed."""
        if self._on_change is not None:
            notify(self._on_change)

    def jobs(self) -> list[JobHandle]:
        """Return the running, then the waiting jobs."""
        with self.lock:
            return [*self._running, *(entry[2] for entry in self._waiting)]

    def close(self, cancel: bool = True) -> None:
        """Take no more jobs; with `cancel`, stop those there are; does not wait."""
        with self.lock:
            self._closed = True
            self.lock.notify_all()
        if cancel:
            for handle in self.jobs():
                handle.cancel()

    def shutdown(self, cancel: bool = True, timeout: float | None = None) -> bool:
        """Close, then wait up to `timeout` seconds; return whether the worker has ended."""
        self.close(cancel)
        thread = self._thread
        if thread is None:
            return True
        if not self.on_worker():
            thread.join(timeout)
        return not thread.is_alive()

    def _take(self, worst: int) -> JobHandle | None:
        with self.lock:
            if not self._waiting or self._waiting[0][0] > worst:
                return None
            handle = self._waiting.pop(0)[2]
            handle._state = "running"
            self._running.append(handle)
            return handle

    def _work(self) -> None:
        while True:
            with self.lock:
                while not self._waiting:
                    if self._closed:
                        return
                    self.lock.wait()
            self._run_next(worst=2)

    def _run_next(self, worst: int) -> bool:
        # A function of its own, so that the idle worker holds no reference to the last job.
        handle = self._take(worst)
        if handle is None:
            return False
        self.changed()
        variables = handle._vars or contextvars.copy_context()
        variables.run(self._execute, handle)
        return True

    def _pause(self) -> None:
        while self._run_next(worst=0):
            pass

    def _execute(self, handle: JobHandle) -> None:
        training = handle.job_class == "training"
        context = Context(
            device=self.device,
            job_class=handle.job_class,
            token=handle.token,
            on_progress=handle._progress,
            on_warning=handle._warnings.append,
            on_pause=self._pause if training else None,
        )
        fn, handle._fn = handle._fn, None
        try:
            assert fn is not None
            with use_context(context):
                result = fn(context)
        except Cancelled as error:
            fn = None
            handle._end("cancelled", error=error)
        except BaseException as error:  # SystemExit in a job must not end the worker
            fn = None
            handle._end("failed", error=error)
        else:
            fn = None
            handle._end("done", result)
