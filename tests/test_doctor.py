from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from napari_cvsuite import doctor
from napari_cvsuite.cli import app
from napari_cvsuite.models import device


def test_every_finding_that_is_not_well_has_advice(home: Path) -> None:
    folder = home / "models"
    folder.mkdir(parents=True)
    (folder / "broken.json").write_text("{")
    done = CliRunner().invoke(app, ["doctor", "--json", "--offline"])
    assert done.exit_code == 1
    findings = {row["name"]: row for row in json.loads(done.stdout)}
    assert not findings["Models"]["ok"] and "broken.json" in findings["Models"]["advice"]
    assert all(row["ok"] or row["advice"] for row in findings.values())
    assert "cpu" in findings["Devices"]["found"]


def test_no_space_left_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FREE_BYTES", float("inf"))
    finding = doctor._disk()
    assert not finding.ok and "space" in finding.advice


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def _torch() -> doctor.Finding:
        raise ImportError("libtorch is missing")

    monkeypatch.setattr(doctor, "CHECKS", (_torch,))
    finding = doctor.examine(offline=True)[-1]
    assert not finding.ok and "libtorch" in finding.found and finding.advice


def test_without_qt_the_program_is_usable_and_the_command_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "BINDINGS", ("NoSuchBinding",))
    finding = doctor._window()
    assert not finding.ok and not finding.needed
    assert 'pip install "napari-cvsuite[pyqt6]"' in finding.advice
    monkeypatch.setattr(doctor, "CHECKS", (doctor._window, doctor._python))
    done = CliRunner().invoke(app, ["doctor", "--offline"])
    assert done.exit_code == 0 and "!!" in done.stdout


def test_bindings_are_found_without_importing_them() -> None:
    code = (
        "import sys\n"
        "from napari_cvsuite import doctor\n"
        "doctor._window(); doctor._opengl()\n"
        "assert not {'PyQt5', 'PyQt6', 'PySide6', 'qtpy', 'napari'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=_environment())


def test_missing_opengl_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.ctypes.util, "find_library", lambda name: None)
    finding = doctor._opengl()
    assert not finding.ok and "install" in finding.advice


@pytest.mark.parametrize(
    ("driver", "built", "word"),
    [
        (("470.1", (11, 4)), "12.6", "update the NVIDIA driver"),
        (("550.1", (12, 4)), "12.6", "does not see"),
        (("550.1", (12, 4)), None, "CUDA build"),
        (("that does not answer", (0, 0)), "12.6", "update the NVIDIA driver"),
        (None, None, ""),
    ],
)
def test_driver_and_cuda_build_are_compared(
    monkeypatch: pytest.MonkeyPatch,
    driver: tuple[str, tuple[int, int]] | None,
    built: str | None,
    word: str,
) -> None:
    cpu = [device.DeviceInfo("cpu", "x86", 1)]
    monkeypatch.setattr(device, "available_devices", lambda: cpu)
    monkeypatch.setattr(doctor, "_driver", lambda: driver)
    monkeypatch.setattr(torch.version, "cuda", built)
    finding = doctor._devices()
    assert finding.ok == (driver is None) and word in finding.advice
    assert finding.ok or not finding.needed


def test_a_mirror_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("NAPARI_CVSUITE_MIRROR", closed)
    finding = doctor._network()
    assert not finding.ok and closed in finding.found and "models import" in finding.advice
    assert not finding.needed


def test_the_output_folder_is_looked_at(tmp_path: Path) -> None:
    assert doctor.examine(tmp_path / "new" / "out", offline=True)[-1].ok
    (tmp_path / "file").touch()
    finding = doctor.examine(tmp_path / "file" / "out", offline=True)[-1]
    assert finding.name == "Output" and not finding.ok and "write access" in finding.advice


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
