"""Toggle paths of a ViT-B/16 in the Paths dock: from the click to the shown prediction.

Weights are random, the head's too. Every row is the shortest of several toggles, which take turns
with bare forward passes of the same network, so that other work on the machine meets all alike:

- shown: from the click on a switch until the new prediction is painted, by the clock;
- process: CPU time of all threads meanwhile, the window's among them;
- worker: CPU time of the thread that computes;
- forwards: process, as a multiple of one forward pass.

Needs a display (``xvfb-run -a`` gives one). Nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from bench_paths import VIT_B_16
from gui_stall import pause, until
from qtpy.QtCore import QEventLoop

from napari_cvsuite import app

KINDS = ("removed_final", "total_module")


def install(folder: Path) -> str:
    """Install a ViT-B/16 with random weights in a catalogue of its own; return its name."""
    os.environ["NAPARI_CVSUITE_HOME"] = str(folder / "home")
    import torch

    from napari_cvsuite.models.vit import build
    from napari_cvsuite.models.weights import import_file

    torch.manual_seed(0)
    network = build(VIT_B_16)
    with torch.no_grad():
        network.heads.head.weight.normal_(std=0.02)
    torch.save(network.state_dict(), folder / "vit-b-16-random.pth")
    return import_file(folder / "vit-b-16-random.pth").name


def worker_times(session: type[Any]) -> list[float]:
    """Let every answer of a session tell how much CPU time its thread took."""
    took: list[float] = []
    real = session.weighed

    def timed(*arguments: Any) -> Any:
        start = time.thread_time()
        answer = real(*arguments)
        took.append(time.thread_time() - start)
        return answer

    session.weighed = timed
    return took


def toggled(dock: Any, click: Callable[[], object]) -> tuple[float, float]:
    """Click, and return the clock's time and the CPU time until the answer is painted."""
    # Waits without asking again and again, which would cost CPU time itself.
    waiting = QEventLoop()
    dock.live.ended.connect(waiting.quit)
    start, used = time.perf_counter(), time.process_time()
    click()
    waiting.exec()
    dock.prediction.repaint()
    shown = time.perf_counter() - start, time.process_time() - used
    dock.live.ended.disconnect(waiting.quit)
    assert dock.known.answer is not None
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--only", choices=KINDS, help="default both")
    given = parser.parse_args()
    app.need_binding()
    with tempfile.TemporaryDirectory() as folder:
        name = install(Path(folder))
        measure(name, (given.only,) if given.only else KINDS, given.runs)


def measure(name: str, kinds: Sequence[str], runs: int) -> None:
    """Open the dock, and print a row for each toggle of these kinds."""
    import napari

    app._load_engine()
    app._load_napari()
    import torch

    from napari_cvsuite.paths.session import Session
    from napari_cvsuite.widgets.paths import PathsDock

    took = worker_times(Session)
    viewer = napari.Viewer()
    dock = PathsDock(viewer)
    viewer.window.add_dock_widget(dock, name="Paths", area="right")
    image = np.random.default_rng(0).integers(0, 255, (256, 256, 3), "u1")
    viewer.add_image(image, name="image")
    dock.inputs.device.choose("cpu")
    dock.inputs.model.choose(name)
    dock.run()
    until(lambda: dock.known is not None and dock.settled)
    session, page = dock.known.looked.session, dock.pages.picture_page
    last = len(session.names) - 1
    page.show_weight(last // 2)

    @torch.no_grad()
    def forward() -> float:
        start = time.thread_time()
        session.model(session.x)
        return time.thread_time() - start

    rows = {}
    for kind in kinds:
        for number in (0, 1, last // 2, last):
            box = page.picture.boxes[number]
            rows[f"{kind}, {box.name}"] = (kind, box.click)
        rows[f"{kind}, weight of {page.picture.boxes[last // 2].name}"] = (
            kind,
            lambda: page.weight.setValue(0.5),
        )
    found: dict[str, list[tuple[float, float, float]]] = {row: [] for row in rows}
    forwards = []
    for _ in range(runs + 1):
        for row, (kind, click) in rows.items():
            dock.effect.choose_off(kind)
            page.all_button.click()
            pause(0.1)
            shown, used = toggled(dock, click)
            found[row].append((shown, used, took[-1]))
            forwards.append(forward())
    one = min(forwards)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {runs} runs")
    print(f"one forward pass: {1e3 * one:.0f} ms of CPU time\n")
    print("| toggle | shown, ms | process, ms | worker, ms | forwards |\n|---|---|---|---|---|")
    for row, times in found.items():
        shown, used, worker = (1e3 * min(column) for column in zip(*times[1:], strict=True))
        ratio = used / (1e3 * one)
        print(f"| {row} | {shown:.0f} | {used:.0f} | {worker:.1f} | {ratio:.3f} |")
    dock.close()
    viewer.close()


if __name__ == "__main__":
    main()
