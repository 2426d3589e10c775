"""The desktop front: docks in place, the demonstration, and advice where something is missing."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture
from typer.testing import CliRunner

from napari_cvsuite import app
from napari_cvsuite.cli import app as cli
from napari_cvsuite.images import ImageError


def test_without_a_binding_the_advice_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(app.BindingError) as raised:
        app.need_binding()
    text = str(raised.value)
    assert 'pip install "napari-cvsuite[pyqt6]"' in text and "[pyqt5]" in text
    assert "\n" not in text


@pytest.mark.parametrize("command", [[], ["open"], ["demo"]])
def test_the_command_line_passes_the_advice_on(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 2
    assert done.output.strip().count("\n") == 0 and "pip install" in done.output


def test_newer_binding_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv("QT_API", raising=False)
    app.need_binding()
    assert os.environ["QT_API"] == "pyqt6"


def test_without_display_and_xvfb_the_advice_names_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "NAPARI_CVSUITE_VIRTUAL_SCREEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(app.BindingError, match="apt-get install -y xvfb"):
        app.rerun_on_virtual_screen()


def test_without_display_the_command_starts_again_on_a_virtual_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NAPARI_CVSUITE_VIRTUAL_SCREEN", "")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/xvfb-run")
    monkeypatch.setattr("sys.argv", ["napari-cvsuite", "demo"])
    called: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda file, arguments: called.append(arguments))
    app.rerun_on_virtual_screen()
    assert called[0][0] == "xvfb-run" and called[0][-1] == "demo"
    # Inside, the virtual screen is no reason to start again, and nobody looks at it.
    app.rerun_on_virtual_screen()
    assert len(called) == 1 and not app.has_display()


def test_images_open_with_their_pixel_size(make_napari_viewer: Any, tmp_path: Path) -> None:
    import tifffile

    viewer = make_napari_viewer()
    Picture.fromarray(np.zeros((8, 9, 3), "u1")).save(tmp_path / "colour.png")
    app.add_image(viewer, tmp_path / "colour.png")
    assert viewer.layers[0].rgb and viewer.layers[0].data.shape == (8, 9, 3)
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((3, 8, 9), "u2"), photometric="minisblack")
    app.add_image(viewer, tmp_path / "stack.tif")
    assert viewer.layers[1].data.shape == (3, 8, 9)
    with pytest.raises(ImageError, match="check the name"):
        app.add_image(viewer, tmp_path / "none.png")


def test_docks_are_in_place(make_napari_viewer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import napari

    monkeypatch.setattr(napari, "Viewer", lambda title, show: make_napari_viewer(show=False))
    viewer, dock = app.add_docks(show=False)
    assert dock.device.count() >= 2
    assert {"Segment", "Quality", "Neurons", "Paths"} <= set(viewer.window.dock_widgets)
    assert dock is viewer.window.dock_widgets["Segment"]
    dock.close()
    for name in ("Quality", "Neurons", "Paths"):
        viewer.window.dock_widgets[name].close()
