"""Score a long 16-bit stack on disk: time a slice, memory that does not grow, time to stop.

Memory is the anonymous resident memory of this process, which a mapped file does not add to.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr
from scipy import ndimage

from napari_cvsuite.images import Image
from napari_cvsuite.jobs.queues import default_scheduler
from napari_cvsuite.models.device import limit_threads
from napari_cvsuite.quality.options import ScoreOptions
from napari_cvsuite.quality.score import run


def anonymous() -> float:
    """Return the anonymous resident memory in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def write_stack(path: Path, slices: int, side: int) -> da.Array:
    """Write cells that go out of focus and back, slice by slice, as zarr."""
    rng = np.random.default_rng(0)
    cells = ndimage.gaussian_filter(rng.random((side, side)) > 0.998, 3.0, output=np.float64)
    stored = zarr.open_array(
        path, mode="w", shape=(slices, side, side), chunks=(1, side, side), dtype="u2"
    )
    for number in range(slices):
        blur = 8 * abs(2 * number / max(slices - 1, 1) - 1)
        plane = ndimage.gaussian_filter(cells, blur)
        stored[number] = (300 + 40_000 * plane + rng.normal(0, 20, plane.shape)).clip(0, 65535)
    return da.from_zarr(zarr.open_array(path, mode="r"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--model", default="auto")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stack = write_stack(Path(folder) / "stack.zarr", arguments.slices, arguments.side)
        image = Image.from_array(stack)
        options = ScoreOptions(model=arguments.model)
        memory: dict[int, float] = {}

        def job(context: Any) -> Any:
            print(f"{limit_threads()} thread(s)")
            return run(image, options, context)

        def note(progress: Any) -> None:
            row = progress.preview
            if row is not None and row.index in (9, arguments.slices // 2, arguments.slices - 1):
                memory[row.index + 1] = anonymous()

        started = time.perf_counter()
        handle = default_scheduler().submit("cpu", job, "score", "batch")
        handle.add_progress_callback(note)
        result = handle.result(None)
        seconds = time.perf_counter() - started
        scores = np.array([row.score for row in result.rows])
        print(f"{len(scores)} slices of {arguments.side} px: {seconds / len(scores):.3f} s a slice")
        print("anonymous memory, MB, after slice: " + str({k: round(v) for k, v in memory.items()}))
        ends, focus = (scores[[0, -1]].mean(), scores[len(scores) // 2])
        print(f"score {ends:.2f} at the ends, {focus:.2f} in focus")
        print(f"best slice {int(scores.argmax()) + 1}, window {result.provenance['window']}")
        stops = []
        for wait in (0.5, 0.8, 1.1):
            over = threading.Event()
            handle = default_scheduler().submit("cpu", job, "score", "batch")
            handle.add_done_callback(lambda _, over=over: over.set())
            time.sleep(wait + 1.0)
            pressed = time.perf_counter()
            handle.cancel()
            over.wait(30)
            stops.append(time.perf_counter() - pressed)
        print("stopped after, ms: " + ", ".join(f"{1000 * stop:.0f}" for stop in stops))


if __name__ == "__main__":
    main()
