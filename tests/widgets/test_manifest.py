"""The manifest is valid, installed, and the same file at the root and in the package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from npe2 import PluginManifest

import napari_cvsuite

ROOT = Path(__file__).parents[2]


def test_manifest_validates_with_its_imports() -> None:
    npe2 = Path(sys.executable).with_name("npe2")
    run = subprocess.run(
        [str(npe2), "validate", "--imports", "napari-cvsuite"],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0 and "valid" in run.stdout, run.stdout + run.stderr


def test_distribution_offers_the_docks() -> None:
    manifest = PluginManifest.from_distribution("napari-cvsuite")
    widgets = manifest.contributions.widgets or []
    assert [widget.display_name for widget in widgets] == ["Segment", "Quality", "Neurons", "Paths"]


def test_root_and_package_hold_the_same_manifest() -> None:
    package = Path(napari_cvsuite.__file__).parent / "napari.yaml"
    if not (ROOT / "napari.yaml").exists():
        pytest.skip("not run from a checkout")
    assert (ROOT / "napari.yaml").read_bytes() == package.read_bytes()
