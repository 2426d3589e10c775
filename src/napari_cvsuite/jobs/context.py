"""What a running job can ask of its surroundings: progress, cancellation, device, log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

__all__ = ["CancelToken", "Cancelled", "Context", "Progress", "current_context", "use_context"]


class Cancelled(Exception):
    """The user asked for the job to stop; raised at the job's next checkpoint."""


class CancelToken:
    """A thread-safe flag: set once by whoever cancels, read by the job."""

    def __init__(self) -> None:
        self._event = threading.Event()

    @property
    def cancelled(self) -> bool:
        """Whether :meth:`cancel` was called."""
        return self._event.is_set()

    def cancel(self) -> None:
        """Ask the job to stop at its next checkpoint."""
        self._event.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until cancelled or `timeout` seconds passed; return whether cancelled."""
        return self._event.wait(timeout)


@dataclass(frozen=True)
class Progress:
    """One report of a job.

    Parameters
    ----------
    done, total : float
        Work finished and work in all, in units of the job's choice; total 0 means unknown.
    message : str
        What the job is doing, for people.
    preview : object, optional
        A partial result that a door may show.
    """

    done: float
    total: float
    message: str = ""
    preview: Any = None


class Context:
    """The surroundings of one job run.

    Parameters
    ----------
    device : str
        Device name such as ``"cpu"`` or ``"cuda:0"``.
    job_class : {"interactive", "batch", "training"}
        How the queue treats the job.
    token : CancelToken, optional
        Set from outside to cancel.
    on_progress, on_warning, on_pause : callable, optional
        Receivers of progress, of warnings, and of a training job's pause points.
    log : logging.Logger, optional
        Where the job logs.
    """

    def __init__(
        self,
        device: str = "cpu",
        job_class: str = "interactive",
        token: CancelToken | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        on_warning: Callable[[str], None] | None = None,
        on_pause: Callable[[], None] | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        self.device = device
        self.job_class = job_class
        self.token = token or CancelToken()
        self.on_progress = on_progress
        self.on_warning = on_warning
        self.on_pause = on_pause
        self.log = log or logging.getLogger("napari_cvsuite")

    def check(self) -> None:
        """Raise :class:`Cancelled` if the job was cancelled."""
        if self.token.cancelled:
            raise Cancelled("The job was cancelled.")

    def progress(self, done: float, total: float, message: str = "", preview: Any = None) -> None:
        """Report progress; raises :class:`Cancelled` if the job was cancelled."""
        self.check()
        if self.on_progress is not None:
            self.on_progress(Progress(done, total, message, preview))

    def warn(self, message: str) -> None:
        """Tell the user something that does not stop the job."""
        self.log.warning(message)
        if self.on_warning is not None:
            self.on_warning(message)

    def pause_point(self) -> None:
        """Let interactive jobs of the same device go first; a training job calls it each step."""
        self.check()
        if self.on_pause is not None:
            self.on_pause()

    def part(self, done: int, total: int, name: str) -> Context:
        """Return a context in which the progress of one of `total` parts is a share of all.

        Parameters
        ----------
        done : int
            Parts that are finished.
        total : int
        name : str
            Put before the messages.
        """

        def forward(progress: Progress) -> None:
            share = progress.done / progress.total if progress.total else 0.0
            self.progress(done + share, total, f"{name}: {progress.message}", progress.preview)

        return Context(
            self.device,
            self.job_class,
            self.token,
            on_progress=forward,
            on_warning=self.on_warning,
            on_pause=self.on_pause,
            log=self.log,
        )


_current: ContextVar[Context | None] = ContextVar("napari_cvsuite_context", default=None)


def current_context() -> Context:
    """Return the context of the running job, or a silent one that is never cancelled."""
    return _current.get() or Context()


@contextmanager
def use_context(context: Context) -> Iterator[Context]:
    """Make `context` the current one, so that nested calls and callbacks can find it."""
    reset = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(reset)
