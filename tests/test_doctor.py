from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from napari_cvsuite import doctor
from napari_cvsuite.cli import app


def test_every_finding_that_is_not_well_has_advice(home: Path) -> None:
    folder = home / "models"
    folder.mkdir(parents=True)
    (folder / "broken.json").write_text("{")
    done = CliRunner().invoke(app, ["doctor", "--json"])
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
    finding = doctor.examine()[-1]
    assert not finding.ok and "libtorch" in finding.found and finding.advice
