"""A job in a process of its own behaves as one in this process."""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from napari_cvsuite.jobs import Cancelled, Context, Progress
from napari_cvsuite.jobs.child import ChildError, in_child

HERE = "jobs_in_child"
JOBS = """
import os, sys, tempfile, time


def told(number, context):
    print("this is not for the parent")
    context.progress(1, 4, "first", preview=object())
    context.warn("look out")
    context.progress(4, 4, "last")
    return {"number": number, "pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"],
            "device": context.device, "class": context.job_class}


def fails(context):
    raise FileNotFoundError(2, "no such thing", "a.png")


class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def fails_oddly(context):
    raise Odd("this", "that")


def dies(context):
    print("out of memory", file=sys.stderr)
    sys.stderr.flush()
    os._exit(7)


def waits(path, context):
    open(path, "w").close()
    try:
        while True:
            context.check()
            time.sleep(0.01)
    finally:
        os.remove(path)


def hangs(path, context):
    tempfile.mkdtemp()
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    context.progress(0, 0, "hanging")
    time.sleep(600)


def unpicklable(context):
    return lambda: None
"""


@pytest.fixture(autouse=True)
def _jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{HERE}.py").write_text(JOBS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def _run(name: str, *arguments: Any, context: Context | None = None, threads: int = 1) -> Any:
    return in_child(f"{HERE}:{name}", arguments, context or Context(), threads)


def test_results_progress_and_warnings_come_back() -> None:
    reports: list[Progress] = []
    warned: list[str] = []
    context = Context("cuda:3", "training", on_progress=reports.append, on_warning=warned.append)
    found = _run("told", 5, context=context, threads=3)
    assert found.pop("pid") != os.getpid()
    assert found == {"number": 5, "threads": "3", "device": "cuda:3", "class": "training"}
    assert reports == [Progress(1, 4, "first"), Progress(4, 4, "last")]
    assert warned == ["look out"]


def test_errors_are_raised_here() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        _run("fails")
    assert caught.value.filename == "a.png"
    with pytest.raises(RuntimeError, match="Odd: this and that"):
        _run("fails_oddly")
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _run("nothing_of_the_kind")


def test_a_process_that_dies_says_what_it_said_last() -> None:
    with pytest.raises(ChildError, match="code 7 and said: out of memory"):
        _run("dies")


def test_what_cannot_be_pickled_is_an_error() -> None:
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        _run("told", threading.Lock())
    with pytest.raises((AttributeError, pickle.PicklingError), match="pickle"):
        _run("unpicklable")


def test_a_python_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ChildError, match="cannot be started"):
        _run("told", 1)


@pytest.mark.parametrize("job", ["waits", "hangs"])
def test_cancelling_ends_the_process(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, scratch = tmp_path / "running", tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    context = Context()

    def cancel() -> None:
        while not mark.exists():
            time.sleep(0.01)
        context.token.cancel()

    threading.Thread(target=cancel).start()
    with pytest.raises(Cancelled):
        _run(job, str(mark), context=context)
    if job == "waits":
        # It could clean up.
        assert not mark.exists()
    else:
        with pytest.raises(ProcessLookupError):
            os.kill(int(mark.read_text()), 0)
    assert not list(scratch.iterdir())


def test_other_jobs_can_go_first_meanwhile(tmp_path: Path) -> None:
    context = Context()
    seen: list[float] = []

    def pause() -> None:
        seen.append(time.monotonic())
        if len(seen) == 3:
            context.token.cancel()

    context.on_pause = pause
    with pytest.raises(Cancelled):
        _run("waits", str(tmp_path / "running"), context=context)
    assert len(seen) == 3
