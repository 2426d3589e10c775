"""How long the window stands still, and how soon Cancel works.

Opens napari with the Segment dock (``--app``: as the app does, with all docks and torch loaded),
lets a timer beat every 5 ms, and prints the longest gap between two beats, and what of it was work
of the window's own thread,

- of runs, the first of which imports torch as a plugin, split into starting, computing, and
  showing the result;
- of 30 seconds of learning from corrected labels;
- to compare, of napari itself: drawing the window, and adding a layer of the same size;

and how long Cancel takes to free the dock and to stop the computation. Needs a display
(``xvfb-run -a`` gives one). Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from napari.layers import Image, Layer
from napari.viewer import Viewer
from qtpy.QtCore import QTimer

from napari_cvsuite import app
from napari_cvsuite.images import read
from napari_cvsuite.segmentation.demo import DEMOS
from napari_cvsuite.widgets.quality import QualityDock
from napari_cvsuite.widgets.segment import SegmentDock


class Heart:
    """Longest gap between two beats of a 5 ms timer, in seconds, and the work done in it."""

    def __init__(self) -> None:
        self.longest = self.work = 0.0
        self._last, self._worked = time.perf_counter(), time.thread_time()
        self._timer = QTimer()
        self._timer.timeout.connect(self._beat)
        self._timer.start(5)

    def _beat(self) -> None:
        now, worked = time.perf_counter(), time.thread_time()
        if now - self._last > self.longest:
            self.longest, self.work = now - self._last, worked - self._worked
        self._last, self._worked = now, worked

    def reset(self, keep_last: bool = False) -> None:
        """Start anew; `keep_last` counts what has held up the coming beat already."""
        self.longest = self.work = 0.0
        if not keep_last:
            self._last, self._worked = time.perf_counter(), time.thread_time()

    def __str__(self) -> str:
        return f"{1e3 * self.longest:4.0f} ({1e3 * self.work:.0f})"


def until(done: Callable[[], bool], timeout: float = 600.0) -> None:
    """Run the event loop until `done`; unlike app.wait_until it never sleeps."""
    from napari.qt import get_qapp

    end = time.monotonic() + timeout
    while not done():
        if time.monotonic() > end:
            raise TimeoutError("the run did not end")
        get_qapp().processEvents()
        time.sleep(0.001)


def pause(seconds: float) -> None:
    """Run the event loop for a while, and on to the next beat."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() > end)


def run(dock: SegmentDock, heart: Heart) -> str:
    """Return the longest gaps while the preview is opened, computing, and showing the result."""
    heart.reset()
    dock.run()
    pause(0.15)
    starting = str(heart)
    heart.reset()
    until(lambda: not dock.runner.busy)
    computing = str(heart)
    heart.reset(keep_last=True)
    until(lambda: dock.idle)
    pause(0.5)
    return f"starting {starting}  computing {computing}  showing {heart}"


def learn(dock: SegmentDock, heart: Heart) -> str:
    """Return the longest gap while the model learns from the labels of the last run."""
    dock.retrain.labels.choose(dock._shown)
    dock.retrain.add()
    dock.retrain.form.set_values({"epochs": 500})
    heart.reset()
    dock.learn()
    pause(30)
    found = f"learning {heart} in 30 s, {cancelled(dock)}"
    until(lambda: dock.idle)
    return found


def cancel(dock: SegmentDock) -> str:
    """Return how long it takes until the dock is free, and until the computation has stopped."""
    dock.run()
    started = time.monotonic()
    until(lambda: time.monotonic() > started + 0.3 and dock.runner._hold.handle is not None)
    found = cancelled(dock)
    until(lambda: dock.idle)
    return found


def cancelled(dock: QualityDock | SegmentDock) -> str:
    """Cancel what runs; return how long it takes to free the dock and to stop."""
    handle = dock.runner._hold.handle
    assert handle is not None
    pressed = time.perf_counter()
    dock.cancel()
    freed = time.perf_counter() - pressed
    handle.wait(60)
    stopped = time.perf_counter() - pressed
    return f"dock free after {1e3 * freed:.0f} ms, computing stopped after {1e3 * stopped:.0f} ms"


def napari_itself(viewer: Viewer, heart: Heart, large: Layer) -> None:
    """Print the longest gaps while napari does the things that a run asks of it."""
    side = large.data.shape[0]
    labels, shares = np.zeros((side, side), np.uint8), np.zeros((side, side), np.float32)

    def add_labels() -> None:
        viewer.add_labels(labels)

    def add_hidden() -> None:
        viewer.add_layer(Image(shares, contrast_limits=(0, 1), visible=False))

    def draw() -> None:
        large.opacity = 0.9 if large.opacity == 1 else 1

    things: dict[str, Callable[[], Any]] = {
        "draws the window": draw,
        "adds Labels": add_labels,
        "adds a hidden image": add_hidden,
        "removes a layer": viewer.layers.pop,
    }
    for _ in range(3):
        gaps = []
        for name, thing in things.items():
            pause(0.3)
            heart.reset()
            thing()
            pause(0.3)
            gaps.append(f"{name} {heart}")
        viewer.layers.pop()
        print("napari itself  " + "  ".join(gaps))


def open_dock(as_app: bool) -> tuple[Viewer, SegmentDock]:
    """Open a window with the dock, as the app does or as a plugin."""
    if as_app:
        return app.open_window()
    viewer = Viewer()
    dock = SegmentDock(viewer)
    viewer.window.add_dock_widget(dock, name="Segment")
    return viewer, dock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=2048, help="side of the RGB image")
    parser.add_argument("--app", action="store_true", help="open the app, not a plugin")
    parser.add_argument("--runs", type=int, default=3, help="runs after the first one")
    arguments = parser.parse_args()
    app.need_binding()
    viewer, dock = open_dock(arguments.app)
    real = read(DEMOS["nuclei"].path).data
    repeats = -(-arguments.side // 512)
    image = np.tile(real, (repeats, repeats, 1))[: arguments.side, : arguments.side]
    viewer.add_image(image[:256, :256], rgb=True, name="small")
    dock.device.choose("cpu")
    heart = Heart()
    pause(2)
    print(f"longest gap in ms (work in it), {arguments.side} x {arguments.side} RGB on the CPU")
    print(f"first use      {run(dock, heart)}")
    large = viewer.add_image(image, rgb=True, name="large")
    dock.image.choose(large)
    for number in range(arguments.runs):
        for layer in [one for one in viewer.layers if "napari_cvsuite" in one.metadata]:
            viewer.layers.remove(layer)
        pause(1)
        print(f"run {number + 2}          {run(dock, heart)}")
    napari_itself(viewer, heart, large)
    print(f"cancel: {cancel(dock)}")
    dock.image.choose(viewer.layers["small"])
    run(dock, heart)
    pause(0.5)
    print(learn(dock, heart))
    dock.close()
    viewer.close()


if __name__ == "__main__":
    # Docks come up as they are shipped, and their state is left alone.
    with tempfile.TemporaryDirectory() as home:
        os.environ["NAPARI_CVSUITE_HOME"] = home
        main()
