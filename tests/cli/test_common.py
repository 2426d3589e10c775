"""Tests of what the commands share."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from napari_cvsuite.cli.common import (
    compute,
    likely_lines,
    names_in,
    run_job,
    split_part,
    table_column,
)
from napari_cvsuite.jobs import Context, Progress, use_context
from napari_cvsuite.jobs.queues import default_scheduler
from napari_cvsuite.models.subject import Likely


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("index.csv:kind", ("index.csv", "kind")),
        ("index.csv", ("index.csv", "")),
        (r"C:\data\index.csv:kind", (r"C:\data\index.csv", "kind")),
        (r"C:\data\index.csv", (r"C:\data\index.csv", "")),
        ("d:/data/folds.json:folds.1", ("d:/data/folds.json", "folds.1")),
        (r"\\?\C:\data\index.csv:kind", (r"\\?\C:\data\index.csv", "kind")),
        (r"\\server\share\index.csv:a:b", (r"\\server\share\index.csv", "a:b")),
        ("", ("", "")),
    ],
)
def test_drive_letters_are_part_of_the_path(source: str, expected: tuple[str, str]) -> None:
    assert split_part(source) == expected


def test_table_and_column() -> None:
    assert table_column("a.csv:group") == (Path("a.csv"), "group")
    assert table_column("a.csv") == (Path("a.csv"), "kind")
    assert table_column("") == (None, "kind")


def test_likely_classes_have_a_line_each() -> None:
    found = [Likely("cat", 0.4116, 5.0), Likely("dog", 1.0, 4.9)]
    assert likely_lines(found) == [" 41.16%  cat", "100.00%  dog"]


def test_names_from_text_and_json(tmp_path: Path) -> None:
    (tmp_path / "n.txt").write_text("a\n\n b \n")
    (tmp_path / "n.json").write_text(json.dumps({"folds": {"1": ["x", "y"]}}))
    assert names_in(str(tmp_path / "n.txt")) == ("a", "b")
    assert names_in(f"{tmp_path / 'n.json'}:folds.1") == ("x", "y")
    assert names_in("") == ()
    for source, word in (
        ("n.json:folds.2", "no entry"),
        ("n.json:folds", "no list"),
        ("none.txt", "check its name"),
    ):
        with pytest.raises(ValueError, match=word):
            names_in(str(tmp_path / source))


def test_jobs_run_on_the_queue_of_their_device() -> None:
    def job(context: Context) -> tuple[str, str, list[str]]:
        jobs = [info.name for info in default_scheduler().snapshot()]
        return threading.current_thread().name, context.device, jobs

    assert compute(job, "cpu", name="mine") == ("cvsuite-cpu", "cpu", ["mine"])
    assert run_job(job)[:2] == ("cvsuite-io", "io")


def test_progress_and_warnings_reach_the_caller() -> None:
    seen: list[Progress] = []
    said: list[str] = []

    def job(context: Context) -> None:
        context.progress(1, 4, "quarter")
        context.warn("careful")

    with use_context(Context(on_progress=seen.append, on_warning=said.append)):
        default_scheduler().run_inline(job)
    assert [(one.done, one.total, one.message) for one in seen] == [(1, 4, "quarter")]
    assert said == ["careful"]


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_shows_progress_on_one_line(
    quiet: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    def job(context: Context) -> None:
        context.progress(1, 4, "first")
        context.progress(0, 0, "unknown length")

    run_job(job, quiet=quiet)
    clear = "\r\x1b[K"
    shown = f"{clear} 25% first{clear}unknown length{clear}"
    assert terminal.getvalue() == ("" if quiet else shown)


POSIX = pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process there")


def _interrupt(code: str, ready: Path, folder: Path, *arguments: str) -> None:
    """Run a program until `ready` exists, press Ctrl-C, and check how it ends."""
    # Where the tests run in the background, the shell has made them ignore Ctrl-C.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", heed + code, *arguments],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(str(Path(p).absolute()) for p in sys.path),
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + 120
        while not ready.exists() and process.poll() is None:
            assert time.monotonic() < end, "the program did not start"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, errors
    assert "stopped" in errors and "Traceback" not in errors


@POSIX
def test_ctrl_c_cancels_the_job_of_a_command(tmp_path: Path) -> None:
    code = """
import pathlib
from napari_cvsuite.cli import app, main
from napari_cvsuite.cli.common import run_job

@app.command("hold")
def hold() -> None:
    def job(context):
        pathlib.Path("ready").touch()
        context.token.wait()
        pathlib.Path("cancelled").touch()
        context.check()
    run_job(job)

main()
"""
    _interrupt(code, tmp_path / "ready", tmp_path, "hold")
    assert (tmp_path / "cancelled").exists()


@pytest.mark.slow
@POSIX
def test_ctrl_c_stops_a_training_run_cleanly(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            pixels = (np.eye(64) * 255).astype("u1")
            Picture.fromarray(pixels).save(tmp_path / folder / f"{name}.png")
    out = tmp_path / "run"
    arguments = ["train", "segment", "--images", "images", "--masks", "masks", "--out", str(out)]
    arguments += ["--width", "4", "--size", "64", "--epochs", "5000", "--device", "cpu"]
    code = "from napari_cvsuite.cli import main; main()"
    _interrupt(code, out / "last.pt", tmp_path, *arguments)
    assert not list(out.glob("*.partial"))
