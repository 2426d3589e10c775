"""The desktop front: napari with the docks in place, and pictures of it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_cvsuite.widgets.segment import SegmentDock

__all__ = [
    "BindingError",
    "add_docks",
    "add_image",
    "has_display",
    "launch",
    "need_binding",
    "open_window",
    "rerun_on_virtual_screen",
    "take_screenshot",
    "wait_until",
]

BINDINGS = ("PyQt6", "PyQt5")
WINDOW = (1500, 940)
_VIRTUAL = "NAPARI_CVSUITE_VIRTUAL_SCREEN"


class BindingError(RuntimeError):
    """No Qt binding is installed; the message says how to get one."""


def need_binding() -> None:
    """Check that a Qt binding is installed; let PyQt6 win where both are.

    Raises
    ------
    BindingError
        There is none.
    """
    found = [name for name in BINDINGS if importlib.util.find_spec(name) is not None]
    if not found:
        raise BindingError(
            'no window system: pip install "napari-cvsuite[pyqt6]" (or "napari-cvsuite[pyqt5]")'
        )
    os.environ.setdefault("QT_API", found[0].lower())


def has_display() -> bool:
    """Return whether windows can be shown to somebody; a virtual screen does not count."""
    if os.environ.get(_VIRTUAL) or os.environ.get("QT_QPA_PLATFORM") == "offscreen":
        return False
    displayed = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return displayed or not sys.platform.startswith("linux")


def rerun_on_virtual_screen() -> None:
    """On Linux without a display, start this command again under xvfb-run; else return.

    Raises
    ------
    BindingError
        There is no display and no xvfb-run.
    """
    if has_display() or os.environ.get(_VIRTUAL):
        return
    if shutil.which("xvfb-run") is None:
        raise BindingError(
            "there is no display, and no virtual one: sudo apt-get install -y xvfb xauth"
        )
    os.environ[_VIRTUAL] = "1"
    screen = "-screen 0 1600x1000x24"
    own = [sys.executable, "-m", "napari_cvsuite", *sys.argv[1:]]
    os.execvp("xvfb-run", ["xvfb-run", "-a", "-s", screen, *own])


def open_window(images: Sequence[Path] = (), show: bool = True) -> tuple[Viewer, SegmentDock]:
    """Return a viewer with the docks in place and the images open; torch loads meanwhile."""
    from napari.qt import get_qapp
    from qtpy.QtCore import Qt
    from qtpy.QtGui import QColor, QPixmap
    from qtpy.QtWidgets import QSplashScreen

    from napari_cvsuite.widgets.garbage import leave_out_what_stays

    application = get_qapp()
    picture = QPixmap(520, 180)
    picture.fill(QColor("#262930"))
    splash = QSplashScreen(picture)
    centred = Qt.AlignmentFlag.AlignCenter
    if show:
        splash.show()
    for text, step in (("starting engine", _load_engine), ("opening napari", _load_napari)):
        splash.showMessage(f"napari-cvsuite\n\n{text}…", centred, QColor("white"))
        application.processEvents()
        step()
    viewer, dock = add_docks(show)
    leave_out_what_stays()
    splash.close()
    for path in images:
        add_image(viewer, path)
    return viewer, dock


def _load_engine() -> None:
    from napari_cvsuite.widgets.bridge import start_engine

    start_engine()


def _load_napari() -> None:
    importlib.import_module("napari.viewer")


def add_docks(show: bool = True) -> tuple[Viewer, SegmentDock]:
    """Open a viewer with every dock of the suite; return it, and the dock in front."""
    import napari

    from napari_cvsuite.widgets.neurons import NeuronsDock
    from napari_cvsuite.widgets.paths import PathsDock
    from napari_cvsuite.widgets.quality import QualityDock
    from napari_cvsuite.widgets.segment import SegmentDock

    viewer = napari.Viewer(title="napari-cvsuite", show=show)
    dock = SegmentDock(viewer)
    dock.device.complete()
    front = viewer.window.add_dock_widget(dock, name="Segment", area="right")
    others: dict[str, type[QualityDock | NeuronsDock | PathsDock]]
    others = {"Quality": QualityDock, "Neurons": NeuronsDock, "Paths": PathsDock}
    for name, kind in others.items():
        behind = kind(viewer)
        behind.inputs.device.complete()
        viewer.window.add_dock_widget(behind, name=name, area="right", tabify=True)
    front.show()
    front.raise_()
    return viewer, dock


def add_image(viewer: Viewer, path: Path) -> None:
    """Open an image file with our own reader, which keeps pixel size and units.

    Raises
    ------
    ImageError
        The file cannot be read.
    """
    from napari_cvsuite.images import read

    image = read(path)
    rgb = image.axes.endswith("c")
    keep = [i for i, axis in enumerate(image.axes) if not (rgb and axis == "c")]
    viewer.add_image(
        image.data,
        name=image.name,
        rgb=rgb,
        scale=[image.scale[i] for i in keep],
        translate=[image.translate[i] for i in keep],
        units=[image.units[i] or "pixel" for i in keep],
    )


def launch(images: Sequence[Path] = ()) -> None:
    """Open the desktop app and stay until it is closed.

    Raises
    ------
    BindingError
        No Qt binding is installed.
    """
    need_binding()
    import napari

    open_window(images)
    napari.run()


def wait_until(done: Callable[[], bool], timeout: float) -> None:
    """Process Qt's events until `done` returns True.

    Raises
    ------
    TimeoutError
        It did not within `timeout` seconds.
    """
    from napari.qt import get_qapp

    application = get_qapp()
    end = time.monotonic() + timeout
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(f"the job is not over after {timeout:.0f} s")
        application.processEvents()
        time.sleep(0.01)


def take_screenshot(viewer: Viewer, path: Path) -> None:
    """Write a picture of the window, once it has been drawn at a fixed size."""
    from napari.qt import get_qapp

    viewer.window.resize(*WINDOW)
    viewer.reset_view()
    settled = time.monotonic() + 1.0
    while time.monotonic() < settled:
        get_qapp().processEvents()
        time.sleep(0.02)
    path.parent.mkdir(parents=True, exist_ok=True)
    viewer.window.screenshot(str(path), canvas_only=False, flash=False)
