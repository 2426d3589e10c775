"""From worker threads to Qt: the only place where one meets the other."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Qt, Signal

from napari_cvsuite.jobs import Cancelled, Context, Progress
from napari_cvsuite.jobs.queues import JobClass, JobHandle, default_scheduler

__all__ = ["JobRunner", "start_engine"]

Job = Callable[[Context], Any]

DRAWN_S = 0.2
"""How long the engine waits for the window to draw what a run changes in it: OpenGL's driver needs
the system's loader for what is new, and waits while torch's libraries are loaded."""


@dataclass(frozen=True)
class _Event:
    """Something that happened to a job on another thread."""

    run: int
    kind: str
    value: Any = None


class _Hold:
    """What outlives the Qt object of a runner, to let go of its job when a window closes."""

    def __init__(self) -> None:
        self.handle: JobHandle | None = None
        self.stop_listening: Callable[[], None] = lambda: None

    def let_go(self, *_: object) -> None:
        """Cancel the job and listen to nothing any more."""
        self.stop_listening()
        self.stop_listening = lambda: None
        handle, self.handle = self.handle, None
        if handle is not None:
            handle.cancel()


def _load_libraries() -> None:
    """Load torch's libraries ahead of its import, during which all other threads would wait.

    That is a quarter of a second; a call by way of ctypes leaves the interpreter to the window.
    What cannot be loaded here is left to the import, which says why.
    """
    spec = importlib.util.find_spec("torch")
    if sys.platform != "linux" or spec is None or spec.origin is None:
        return
    load = ctypes.CDLL(None).dlopen
    load.argtypes, load.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    folder = Path(spec.origin).parent / "lib"
    # In the order and in the ways of the import. None of them is a part of Python.
    for name, mode in (("libtorch_global_deps.so", os.RTLD_GLOBAL), ("libtorch.so", 0)):
        if not load(os.fsencode(folder / name), os.RTLD_NOW | mode):
            return


def start_engine(device: str = "auto") -> str:
    """Import torch, use one thread less than the cores, and return the device to run on.

    Raises
    ------
    DeviceError
        The device is not on this machine.
    """
    # Heeded only while torch is not loaded: threads that wait must not burn a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if "torch" not in sys.modules:
        _load_libraries()
    from napari_cvsuite.models.device import choose_device, limit_threads

    limit_threads()
    return choose_device(device)


class JobRunner(QObject):
    """Runs one job at a time for a widget and reports to it on the GUI thread.

    A cancelled job is let go of at once: its later reports are dropped, and the device queue
    starts the next one as soon as it has stopped.

    Signals
    -------
    started, ended
        The runner is busy, and free again; ``ended`` comes after the outcome.
    progressed (Progress), previewed (object)
        The latest report, and every preview in order.
    warned (str), positioned (int)
        A warning; the place in the queue, 0 while running.
    done (object), failed (Exception), cancelled ()
        The outcome.
    """

    started = Signal()
    ended = Signal()
    progressed = Signal(object)
    previewed = Signal(object)
    warned = Signal(str)
    positioned = Signal(int)
    done = Signal(object)
    failed = Signal(object)
    cancelled = Signal()
    _woken = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._events: deque[_Event] = deque()
        self._run = 0
        self._position = -1
        self._hold = _Hold()
        self._woken.connect(self._drain, Qt.ConnectionType.QueuedConnection)
        self._hold.stop_listening = default_scheduler().on_change(self._wake)
        self.destroyed.connect(self._hold.let_go)

    @property
    def busy(self) -> bool:
        """Whether a job waits or runs."""
        return self._hold.handle is not None

    def start(
        self, job: Job, device: str = "auto", name: str = "job", job_class: JobClass = "interactive"
    ) -> None:
        """Queue a job on a device; the first one of a session starts the engine before.

        Raises
        ------
        RuntimeError
            The runner is busy.
        """
        if self.busy:
            raise RuntimeError("a job is running already; cancel it first")
        self._run += 1
        run = self._run
        self.started.emit()
        if device != "io" and "torch" not in sys.modules:
            self.progressed.emit(Progress(0, 0, "starting engine"))
        if device == "io":
            self._submit(run, device, job, name, job_class)
            return

        def choose(context: Context) -> str:
            if "torch" not in sys.modules:
                context.token.wait(DRAWN_S)
            return start_engine(device)

        def chosen(handle: JobHandle) -> None:
            error = handle.exception(0)
            if error is None:
                self._put(run, "device", (handle.result(0), job, name, job_class))
            else:
                self._put(run, "over", handle)

        self._hold.handle = default_scheduler().io.submit(choose, "start engine")
        self._hold.handle.add_done_callback(chosen)

    def cancel(self) -> None:
        """Ask the job to stop and be free at once."""
        handle = self._hold.handle
        if handle is None:
            return
        self._run += 1
        self._release()
        handle.cancel()
        self.cancelled.emit()
        self.ended.emit()

    def close(self) -> None:
        """Cancel, and listen to nothing any more."""
        self.cancel()
        self._hold.let_go()

    def _submit(self, run: int, device: str, job: Job, name: str, job_class: JobClass) -> None:
        def relayed(context: Context) -> Any:
            noted, reported = context.on_warning, context.on_progress

            def warn(text: str) -> None:
                if noted is not None:
                    noted(text)
                self._put(run, "warning", text)

            def progress(report: Progress) -> None:
                if reported is not None:
                    reported(report)
                self._put(run, "progress", report)

            # Here and not on the handle, which a quick job has left behind when it is returned.
            context.on_warning, context.on_progress = warn, progress
            return job(context)

        handle = default_scheduler().queue(device).submit(relayed, name, job_class)
        self._hold.handle = handle
        handle.add_done_callback(lambda over: self._put(run, "over", over))

    def _put(self, run: int, kind: str, value: Any = None) -> None:
        """Leave word for the GUI thread; called on any thread."""
        self._events.append(_Event(run, kind, value))
        self._wake()

    def _wake(self) -> None:
        try:
            self._woken.emit()
        except RuntimeError:
            # Qt deleted this object with its window while the worker was still reporting.
            self._events.clear()

    def _drain(self) -> None:
        latest: Progress | None = None
        while self._events:
            event = self._events.popleft()
            if event.run != self._run:
                continue
            if event.kind == "progress":
                latest = event.value
                if latest is not None and latest.preview is not None:
                    self.previewed.emit(latest.preview)
                continue
            if latest is not None and event.kind == "over":
                self.progressed.emit(latest)
                latest = None
            self._handle_event(event)
        if latest is not None:
            self.progressed.emit(latest)
        self._tell_position()

    def _handle_event(self, event: _Event) -> None:
        if event.kind == "device":
            device, job, name, job_class = event.value
            self._submit(event.run, device, job, name, job_class)
        elif event.kind == "warning":
            self.warned.emit(event.value)
        elif event.kind == "over":
            handle: JobHandle = event.value
            self._release()
            error = handle.exception(0)
            if error is None:
                self.done.emit(handle.result(0))
            elif isinstance(error, Cancelled):
                self.cancelled.emit()
            else:
                self.failed.emit(error)
            self.ended.emit()

    def _tell_position(self) -> None:
        handle = self._hold.handle
        position = handle.position if handle is not None else None
        if position is not None and position != self._position:
            self._position = position
            self.positioned.emit(position)

    def _release(self) -> None:
        self._hold.handle = None
        self._position = -1
