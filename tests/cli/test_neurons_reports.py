"""The command that reports on a pair: same result as from Python."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

import napari_cvsuite
from napari_cvsuite.cli import app
from napari_cvsuite.jobs.plain import plain

RUNNER = CliRunner()


def test_a_report_without_images_is_that_of_python(
    tmp_path: Path, tiny_classifier: str, other_classifier: str
) -> None:
    out, pair = tmp_path / "out", tiny_classifier.removesuffix("-s")
    assert other_classifier == f"{pair}-r"
    words = ["neurons", "report", "--pair", pair, "--out", str(out), "--device", "cpu"]
    done = RUNNER.invoke(app, words)
    assert done.exit_code == 0, done.output
    found = napari_cvsuite.pair_report(pair=pair, device="cpu")
    for one in found.claims:
        assert f"{one.verdict}: {one.text}" in done.stdout
    assert (out / "report.html").read_text().startswith("<!DOCTYPE html>")
    written = json.loads((out / "report.json").read_text())
    assert written["smoothness"] == json.loads(json.dumps(plain(found.smoothness)))
    told = json.loads(RUNNER.invoke(app, [*words, "--json"]).stdout)
    assert told["smoothness"] == written["smoothness"]
