"""The desktop front: napari with the docks in place, the demonstration, screenshots."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

    from napari_cvsuite.widgets.neurons import NeuronsDock
    from napari_cvsuite.widgets.paths import PathsDock
    from napari_cvsuite.widgets.quality import QualityDock
    from napari_cvsuite.widgets.segment import SegmentDock

__all__ = [
    "BindingError",
    "demo",
    "demo_neurons",
    "demo_paths",
    "demo_quality",
    "has_display",
    "launch",
    "need_binding",
    "rerun_on_virtual_screen",
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


def _open(images: Sequence[Path], show: bool = True) -> tuple[Viewer, SegmentDock]:
    """Return a viewer with the docks in place and the images open; torch loads meanwhile."""
    from napari.qt import get_qapp
    from qtpy.QtCore import Qt
    from qtpy.QtGui import QColor, QPixmap
    from qtpy.QtWidgets import QSplashScreen

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
    splash.close()
    for path in images:
        add_image(viewer, path)
    return viewer, dock


def _load_engine() -> None:
    from napari_cvsuite.widgets.bridge import start_engine

    start_engine()


def _load_napari() -> None:
    importlib.import_module("napari.viewer")
    # napari looks through every object for garbage whenever a layer is removed. The modules loaded
    # so far stay, so they need not be looked at: that is most of the third of a second it takes.
    gc.collect()
    gc.freeze()


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
    quality = QualityDock(viewer)
    quality.inputs.device.complete()
    viewer.window.add_dock_widget(quality, name="Quality", area="right", tabify=True)
    neurons = NeuronsDock(viewer)
    neurons.inputs.device.complete()
    viewer.window.add_dock_widget(neurons, name="Neurons", area="right", tabify=True)
    paths = PathsDock(viewer)
    paths.inputs.device.complete()
    viewer.window.add_dock_widget(paths, name="Paths", area="right", tabify=True)
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

    _open(images)
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


def _finish(dock: SegmentDock | QualityDock | NeuronsDock | PathsDock, timeout: float) -> None:
    """Run a dock and wait until it shows its result; raise what went wrong."""
    errors: list[Exception] = []
    dock.runner.failed.connect(errors.append)
    dock.run()
    wait_until(lambda: dock.idle, timeout)
    if errors:
        raise errors[0]


def _end(viewer: Viewer, dock: QWidget, screenshot: Path | None) -> None:
    """Leave the window open, or save a picture of it and close it."""
    import napari

    if screenshot is None:
        napari.run()
        return
    take_screenshot(viewer, screenshot)
    dock.close()
    viewer.close()


def demo(name: str = "nuclei", screenshot: Path | None = None, timeout: float = 300.0) -> str:
    """Segment a real image in the window; save a picture of it, or leave it open.

    Parameters
    ----------
    name : str
        One of :data:`napari_cvsuite.segmentation.demo.DEMOS`.
    screenshot : Path, optional
        PNG file to write; then the window closes.
    timeout : float
        Seconds for the segmentation.

    Returns
    -------
    str
        What the dock said at the end.

    Raises
    ------
    BindingError
        No Qt binding is installed.
    TimeoutError, ValueError, RuntimeError
        The segmentation failed; the message says why.
    """
    need_binding()
    from napari_cvsuite.segmentation.demo import DEMOS

    chosen = DEMOS[name]
    viewer, dock = _open([chosen.path])
    dock.model.choose(chosen.options.model)
    dock.form.set_values(asdict(chosen.options))
    dock.show_as.setCurrentText(chosen.show)
    _finish(dock, timeout)
    said = dock.run_bar.message.text()
    _end(viewer, dock, screenshot)
    return said


def demo_quality(
    mode: str = "Score", screenshot: Path | None = None, timeout: float = 300.0
) -> str:
    """Judge a real image in the window; save a picture of it, or leave it open.

    Parameters
    ----------
    mode : {"Score", "Map"}
        A focus series and its curve, or a half blurred image and where it is good.
    screenshot : Path, optional
        PNG file to write; then the window closes.
    timeout : float
        Seconds for the job.

    Returns
    -------
    str
        What the dock said at the end.

    Raises
    ------
    BindingError
        No Qt binding is installed.
    TimeoutError, ValueError, RuntimeError
        The job failed; the message says why.
    """
    need_binding()
    from napari_cvsuite.quality.demo import focus_series, half_blurred

    viewer, _ = _open([])
    image = half_blurred() if mode == "Map" else focus_series()
    viewer.add_image(image.data, name=image.name, rgb=True)
    dock = viewer.window.dock_widgets["Quality"]
    dock.parentWidget().raise_()
    dock.inputs.set_mode(mode)
    if mode == "Map":
        dock.inputs.form.set_values({"window": 96, "step": 32})
    _finish(dock, timeout)
    said = str(dock.run_bar.message.text())
    if mode == "Score":
        # The sharpest slice, with its verdict.
        scores = dock.results.scores
        dock.results.slice_chosen.emit(int(scores.values().argmax()))
    _end(viewer, dock, screenshot)
    return said


def demo_neurons(
    what: str = "saliency", screenshot: Path | None = None, timeout: float = 300.0
) -> str:
    """Look into the classifiers that come with the program; save a picture, or leave it open.

    Parameters
    ----------
    what : {"saliency", "attack", "dissection"}
        What a standard and a robust network see in a cat, what misleads the standard one, or which
        of its channels answer to the nuclei of tissue.
    screenshot : Path, optional
        PNG file to write; then the window closes.
    timeout : float
        Seconds for the job.

    Returns
    -------
    str
        What the dock said at the end.

    Raises
    ------
    BindingError
        No Qt binding is installed.
    TimeoutError, ValueError, RuntimeError
        The job failed; the message says why.
    """
    need_binding()
    from napari_cvsuite.neurons.demo import cat, labelled_tissue
    from napari_cvsuite.widgets.neurons_actions import ATTACK, DISSECT, SALIENCY

    viewer, _ = _open([])
    dock = viewer.window.dock_widgets["Neurons"]
    dock.parentWidget().raise_()
    choice = dock.inputs.choice
    if what == "dissection":
        image, labels = labelled_tissue()
        viewer.add_image(image.data, name=image.name, rgb=True)
        choice.set_action(DISSECT)
        choice.concepts.tick(viewer.add_labels(labels.data, name=labels.name, opacity=0.4))
        wait_until(lambda: dock.settled, timeout)
        choice.layer.choose("layer2")
    else:
        image = cat()
        viewer.add_image(image.data, name=image.name, rgb=True)
        choice.set_action(ATTACK if what == "attack" else SALIENCY)
    # The prediction fills the lists of layers and classes.
    wait_until(lambda: dock.settled, timeout)
    _finish(dock, timeout)
    said = str(dock.run_bar.message.text())
    wait_until(lambda: dock.settled, timeout)
    if what == "saliency":
        # Side by side, where they lie one upon the other.
        for layer in list(viewer.layers):
            layer.visible = True
            if type(layer).__name__ == "Shapes":
                viewer.layers.remove(layer)
        viewer.canvas.grid.shape, viewer.canvas.grid.enabled = (2, 2), True
    _end(viewer, dock, screenshot)
    return said


def demo_paths(
    what: str = "picture",
    screenshot: Path | None = None,
    timeout: float = 300.0,
    images: Path | None = None,
    model: str = "",
) -> str:
    """Take a vision transformer apart into paths; save a picture, or leave the window open.

    Parameters
    ----------
    what : {"picture", "map", "pruning"}
        The paths of the prediction for a cat, one of them switched off; where its most important
        attention path looks; or what leaving paths out does to the accuracy on labelled images.
    screenshot : Path, optional
        PNG file to write; then the window closes.
    timeout : float
        Seconds for each job.
    images : Path, optional
        Folder with a folder of images for each class, which pruning needs.
    model : str
        Default that of the package.

    Returns
    -------
    str
        What the dock said at the end.

    Raises
    ------
    BindingError
        No Qt binding is installed.
    TimeoutError, ValueError, RuntimeError
        A job failed; the message says why.
    """
    need_binding()
    from napari_cvsuite.neurons.demo import cat
    from napari_cvsuite.widgets.paths_tabs import COMBINE

    if what == "pruning" and images is None:
        raise ValueError("pruning needs a folder with a folder of images for each class")
    viewer, _ = _open([])
    image = cat()
    viewer.add_image(image.data, name=image.name, rgb=True)
    dock = viewer.window.dock_widgets["Paths"]
    dock.parentWidget().raise_()
    if model:
        dock.inputs.model.choose(model)
    wait_until(lambda: dock.settled, timeout)
    _finish(dock, timeout)
    boxes = dock.pages.picture.boxes
    attention = max(boxes[1::2], key=lambda box: abs(box.value))
    if what == "map":
        attention.picked.emit()
    elif what == "pruning":
        dock.pages.choose(COMBINE)
        dock.pages.combine.choice.folder.set_path(images)
        dock.pages.combine.wanted.emit(None)
    else:
        attention.click()
    wait_until(lambda: dock.settled, timeout)
    said = str(dock.run_bar.message.text())
    if what == "pruning":
        _scroll_to(dock.pages.combine.plot)
    _end(viewer, dock, screenshot)
    return said


def _scroll_to(widget: QWidget) -> None:
    """Bring a part of a dock into view."""
    from napari.qt import get_qapp
    from qtpy.QtWidgets import QScrollArea

    get_qapp().processEvents()
    above = widget.parentWidget()
    while above is not None and not isinstance(above, QScrollArea):
        above = above.parentWidget()
    if above is not None:
        above.ensureWidgetVisible(widget)


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
