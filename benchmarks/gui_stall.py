"""How long the window stands still, and how soon Cancel works.

Opens napari with the Segment dock, lets a timer beat every 5 ms, and prints the longest gap

- at first use, while torch is imported (as a plugin; the app has done it before, ``--app``),
- during later runs, split into starting (a layer is added), computing, and showing the result,

and how long Cancel takes to free the dock and to stop the computation; and, to compare, how long
napari itself takes over a layer of 16 x 16 pixels. Needs a display
(``xvfb-run -a`` gives one). Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from napari.viewer import Viewer
from qtpy.QtCore import QTimer

from napari_cvsuite import app
from napari_cvsuite.widgets.segment import SegmentDock


class Heart:
    """Longest gap between two beats of a 5 ms timer."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.timeout.connect(self._beat)
        self._timer.start(5)

    def _beat(self) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last)
        self._last = now

    def reset(self, keep_last: bool = False) -> None:
        """Start anew; `keep_last` counts what has held up the coming beat already."""
        self.longest = 0.0
        if not keep_last:
            self._last = time.perf_counter()


def until(done: Callable[[], bool], timeout: float = 600.0) -> None:
    """Run the event loop until `done`; unlike app.wait_until it never sleeps."""
    from napari.qt import get_qapp

    end = time.monotonic() + timeout
    while not done():
        if time.monotonic() > end:
            raise TimeoutError("the run did not end")
        get_qapp().processEvents()
        time.sleep(0.001)


def run(dock: SegmentDock, heart: Heart) -> str:
    """Return the longest gaps while the preview is opened, computing, and showing the result."""
    heart.reset()
    dock.run()
    pause(0.15)
    starting = heart.longest
    heart.reset()
    until(lambda: not dock.runner.busy)
    computing = heart.longest
    heart.reset(keep_last=True)
    until(lambda: dock.idle)
    pause(0.5)
    gaps = {"starting": starting, "computing": computing, "showing": heart.longest}
    return "".join(f"  {name} {1e3 * gap:5.0f}" for name, gap in gaps.items())


def pause(seconds: float) -> None:
    """Run the event loop for a while, and on to the next beat."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() > end)


def napari_itself(viewer: Viewer) -> tuple[float, float]:
    """Return how long napari takes to add, and to remove, a hidden image of 16 x 16 pixels."""
    took = []
    for _ in range(3):
        began = time.perf_counter()
        layer = viewer.add_image(np.zeros((16, 16)), visible=False)
        added = time.perf_counter()
        viewer.layers.remove(layer)
        took.append((added - began, time.perf_counter() - added))
    return min(t for t, _ in took), min(t for _, t in took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=2048, help="side of the random RGB image")
    parser.add_argument("--app", action="store_true", help="load torch first, as the app does")
    arguments = parser.parse_args()
    app.need_binding()
    import napari

    if arguments.app:
        app._load_engine()
        app._load_napari()
    viewer = napari.Viewer()
    dock = SegmentDock(viewer)
    viewer.window.add_dock_widget(dock, name="Segment")
    import skimage
    from skimage.io import imread

    real = imread(Path(skimage.__file__).parent / "data" / "ihc.png")
    repeats = -(-arguments.side // 512)
    image = np.tile(real, (repeats, repeats, 1))[: arguments.side, : arguments.side]
    viewer.add_image(image[:256, :256], rgb=True, name="small")
    adding, removing = napari_itself(viewer)
    dock.device.choose("cpu")
    heart = Heart()
    pause(2)
    print(f"longest gap in ms, {arguments.side} x {arguments.side} RGB on the CPU")
    print(f"napari itself   adding {1e3 * adding:.0f}, removing {1e3 * removing:.0f}")
    print(f"first use     {run(dock, heart)}")
    dock.image.choose(viewer.add_image(image, rgb=True, name="large"))
    for number in (2, 3, 4):
        print(f"run {number}         {run(dock, heart)}")
    dock.run()
    started = time.monotonic()
    until(lambda: time.monotonic() > started + 0.3 and dock.runner._hold.handle is not None)
    handle = dock.runner._hold.handle
    assert handle is not None
    pressed = time.perf_counter()
    dock.cancel()
    freed = time.perf_counter() - pressed
    handle.wait(60)
    stopped = time.perf_counter() - pressed
    print(f"cancel: dock free after {1e3 * freed:.0f}, computing stopped after {1e3 * stopped:.0f}")
    dock.close()
    viewer.close()


if __name__ == "__main__":
    main()
