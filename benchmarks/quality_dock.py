"""Score a long 16-bit stack in the Quality dock: gaps of the window, the plot, and Cancel.

Needs a display (``xvfb-run -a`` gives one). Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from gui_stall import Heart, pause, until
from quality_stack import write_stack

from napari_cvsuite import app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--side", type=int, default=512)
    arguments = parser.parse_args()
    app.need_binding()
    import napari

    app._load_engine()
    app._load_napari()
    from napari_cvsuite.widgets.quality import QualityDock

    with tempfile.TemporaryDirectory() as folder:
        stack = write_stack(Path(folder) / "stack.zarr", arguments.slices, arguments.side)
        viewer = napari.Viewer()
        dock = QualityDock(viewer)
        viewer.window.add_dock_widget(dock, name="Quality", area="right")
        viewer.add_image(stack, name="stack", contrast_limits=(0, 8000))
        dock.inputs.device.choose("cpu")
        heart, drawn = Heart(), []
        canvas = dock.results.plot.canvas
        canvas.mpl_connect("draw_event", lambda _: drawn.append(time.perf_counter()))
        pause(2)
        for name in ("first run", "second run"):
            heart.reset()
            drawn.clear()
            began = time.perf_counter()
            dock.run()
            until(lambda: dock.idle)
            took = time.perf_counter() - began
            pause(0.5)
            print(
                f"{name}: {took / arguments.slices:.3f} s a slice, plot drawn {len(drawn)} times, "
                f"longest gap {1e3 * heart.longest:.0f} ms"
            )
        scores = np.array([row["score"] for row in dock.results.model.rows])
        print(f"sharpest slice {int(scores.argmax()) + 1}")
        for wait in (1.0, 2.0, 3.0):
            dock.run()
            pause(wait)
            handle = dock.runner._hold.handle
            assert handle is not None
            pressed = time.perf_counter()
            dock.cancel()
            freed = time.perf_counter() - pressed
            handle.wait(60)
            stopped = time.perf_counter() - pressed
            pause(0.2)
            print(f"cancel: free after {1e3 * freed:.0f} ms, stopped after {1e3 * stopped:.0f} ms")
        dock.close()
        viewer.close()


if __name__ == "__main__":
    main()
