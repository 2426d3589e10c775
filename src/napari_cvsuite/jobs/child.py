"""Run a job in a process of its own, behind the same context.

For what napari's process must not do: training loads torch's compiler, whose LLVM crashes beside
the one of Mesa's software OpenGL, and keeps the interpreter from drawing the window.
"""

from __future__ import annotations

import importlib
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from napari_cvsuite.jobs.context import CancelToken, Context

__all__ = ["ChildError", "in_child"]

_LOOK_S = 0.05
"""How often the job in the parent looks whether it was cancelled."""
_PATIENCE_S = 0.3
"""How long a process that is not wanted any more may take to end by itself."""


class ChildError(RuntimeError):
    """The process of a job could not start, or ended without a result."""


def in_child(target: str, arguments: tuple[Any, ...], context: Context, threads: int = 1) -> Any:
    """Call a function in a new process and return what it returns.

    Progress, without previews, and warnings reach the context; cancelling it ends the process.
    Whatever the function raises is raised here.

    Parameters
    ----------
    target : str
        Function, ``package.module:name``; its last argument is the context.
    arguments : tuple
        The others; they and the result must be picklable.
    context : Context
    threads : int
        What ``OMP_NUM_THREADS`` is there.

    Raises
    ------
    ChildError
        The process could not start, or ended without a result; the message ends with the last
        that it said.
    Cancelled
    """
    source = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    settings = {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    # Whatever a process leaves behind that is killed goes with its folder.
    with (
        tempfile.TemporaryDirectory(prefix="napari-cvsuite-") as scratch,
        tempfile.TemporaryFile() as said,
    ):
        settings |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), scratch)
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env={**os.environ, **settings},
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise ChildError(f"{sys.executable} cannot be started ({error})") from error
        try:
            return _follow(process, (target, arguments, context.device, context.job_class), context)
        except EOFError:
            process.wait()
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines() or ["nothing"]
            raise ChildError(
                f"the process of the job ended with code {process.returncode} and said: {lines[-1]}"
            ) from None
        finally:
            _end(process)


def _follow(process: subprocess.Popen[bytes], call: tuple[Any, ...], context: Context) -> Any:
    """Hand the call over and return its result; raises EOFError where there is none."""
    assert process.stdin is not None and process.stdout is not None
    box: queue.Queue[tuple[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(process.stdout, box), daemon=True).start()
    # Here and not into the pipe, so that what cannot be pickled says so.
    written = pickle.dumps(call)
    try:
        process.stdin.write(written)
        process.stdin.flush()
    except OSError:
        raise EOFError from None
    while True:
        try:
            kind, value = box.get(timeout=_LOOK_S)
        except queue.Empty:
            context.pause_point()
            continue
        if kind == "progress":
            context.progress(value.done, value.total, value.message)
        elif kind == "warning":
            context.warn(value)
        elif kind == "result":
            return value
        else:
            raise value


def _listen(stream: IO[bytes], box: queue.Queue[tuple[str, Any]]) -> None:
    """Put what the process sends into the box, and at last how that ended."""
    try:
        while True:
            box.put(pickle.load(stream))
    # What another version or a killed process has written can raise anything.
    except Exception as error:
        box.put(("error", EOFError() if isinstance(error, pickle.UnpicklingError) else error))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to stop, which it notices by its closed input, and see that it does."""
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.close()
    except OSError:
        # It has ended already, with something left in the pipe.
        process.kill()
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _portable(error: Exception) -> Exception:
    """Return the error, or one of the same words that can be pickled."""
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    # Errors of foreign libraries can fail in any way here.
    except Exception as reason:
        return RuntimeError(f"{type(error).__name__}: {error} ({type(reason).__name__})")
    return RuntimeError(f"{type(error).__name__}: {error}")


def _watch(token: CancelToken, over: threading.Event) -> None:
    """Cancel when the parent closes our input, or is gone; and end if that does not help."""
    # Not through sys.stdin, whose lock must be free when Python ends.
    os.read(0, 1)
    token.cancel()
    if not over.wait(_PATIENCE_S):
        os._exit(1)


def main() -> None:
    """Do what the parent asks for, in its child process."""
    # What anybody prints must not come between the messages.
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    target, arguments, device, job_class = pickle.load(sys.stdin.buffer)
    token, over, lock = CancelToken(), threading.Event(), threading.Lock()
    threading.Thread(target=_watch, args=(token, over), daemon=True).start()

    def tell(kind: str, value: Any) -> None:
        written = pickle.dumps((kind, value))
        with lock:
            stream.write(written)
            stream.flush()

    context = Context(
        device,
        job_class,
        token,
        on_progress=lambda report: tell("progress", replace(report, preview=None)),
        on_warning=lambda text: tell("warning", text),
    )
    try:
        module, name = target.split(":")
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        tell("result", function(*arguments, context))
    # Whatever it is, the parent raises it.
    except Exception as error:
        tell("error", _portable(error))
    over.set()


if __name__ == "__main__":
    main()
