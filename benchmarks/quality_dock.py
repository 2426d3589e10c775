"""Score a long 16-bit stack in the Quality dock: gaps of the window, the plot, and Cancel.

The app is opened with all docks. Gaps are printed as by ``gui_stall.py``. Needs a display
(``xvfb-run -a`` gives one). Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from gui_stall import Heart, cancelled, pause, until
from quality_stack import write_stack

from napari_cvsuite import app
from napari_cvsuite.widgets.quality import QualityDock

MODEL = "topiq-nr-synth"


def run(dock: QualityDock, heart: Heart, slices: int) -> str:
    """Score the stack; return the time a slice takes, the pictures of the plot, and the gaps."""
    drawn: list[float] = []
    canvas = dock.results.plot.canvas
    heard = canvas.mpl_connect("draw_event", lambda _: drawn.append(time.perf_counter()))
    heart.reset()
    began = time.perf_counter()
    dock.run()
    until(lambda: not dock.runner.busy, 3600.0)
    took = time.perf_counter() - began
    computing, while_running = str(heart), len(drawn)
    heart.reset(keep_last=True)
    until(lambda: dock.idle)
    pause(0.5)
    canvas.mpl_disconnect(heard)
    return (
        f"{took / slices:.3f} s a slice, plot drawn {while_running} times, longest gap in ms "
        f"(work in it): computing {computing}, showing {heart}"
    )


def cancel(dock: QualityDock, wait: float) -> str:
    """Return how long Cancel takes to free the dock and to stop the computation."""
    dock.run()
    pause(wait)
    found = cancelled(dock)
    pause(0.2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--runs", type=int, default=1)
    arguments = parser.parse_args()
    app.need_binding()
    with tempfile.TemporaryDirectory() as folder:
        # The dock comes up as it is shipped, and its state is left alone.
        os.environ["NAPARI_CVSUITE_HOME"] = folder
        stack = write_stack(Path(folder) / "stack.zarr", arguments.slices, arguments.side)
        viewer, _ = app.open_window()
        dock = viewer.window.dock_widgets["Quality"]
        dock.parentWidget().raise_()
        viewer.add_image(stack, name="stack", contrast_limits=(0, 8000))
        dock.inputs.model.choose(MODEL)
        dock.inputs.device.choose("cpu")
        heart = Heart()
        pause(2)
        for number in range(arguments.runs):
            print(f"run {number + 1}: {run(dock, heart, arguments.slices)}", flush=True)
        for wait in (1.0, 2.0, 3.0):
            print(f"cancel after {wait:.0f} s: {cancel(dock, wait)}", flush=True)
        dock.close()
        viewer.close()


if __name__ == "__main__":
    main()
