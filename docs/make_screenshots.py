"""Make the pictures of the documentation from the program itself.

Starts itself again on a virtual screen where there is no display; ``make screenshots`` calls it.
Writes ``docs/images/*.png``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent / "images"
QUALITY = {"focus": "Score", "map": "Map"}
NEURONS = ("saliency", "attack", "dissection")
PATHS = {"paths": "picture", "paths-map": "map", "paths-pruning": "pruning"}
IMAGES = "NAPARI_CVSUITE_IMAGES"
"""Names the folder of labelled images, a folder a class, that the picture of pruning needs."""


def main() -> None:
    # A home and settings of their own, so that the pictures do not show somebody's models.
    home = tempfile.mkdtemp()
    os.environ.setdefault("NAPARI_CVSUITE_HOME", home)
    os.environ.setdefault("NAPARI_CONFIG", str(Path(home) / "napari.yaml"))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not os.environ.get("DISPLAY"):
        screen = ["-s", "-screen 0 1600x1000x24"]
        os.execvp("xvfb-run", ["xvfb-run", "-a", *screen, sys.executable, *sys.argv])
    if len(sys.argv) > 1:
        one(sys.argv[1])
        return
    from napari_cvsuite.segmentation.demo import DEMOS

    # One process a picture: a second viewer in one process keeps the first one's window state.
    names = (*DEMOS, "options", "learn", *QUALITY, *NEURONS, *PATHS)
    for name in names if os.environ.get(IMAGES) else names[:-1]:
        os.spawnv(os.P_WAIT, sys.executable, [sys.executable, __file__, name])


def one(name: str) -> None:
    """Make one picture."""
    from napari_cvsuite import demos

    if name == "options":
        options()
    elif name == "learn":
        demos.segment("nuclei", FOLDER / "segment-learn.png", teach=True)
    elif name in NEURONS:
        demos.neurons(name, FOLDER / f"neurons-{name}.png")
    elif name in PATHS:
        images = os.environ.get(IMAGES)
        given = {"images": Path(images)} if images else {}
        demos.paths(PATHS[name], FOLDER / f"{name}.png", **given)
    elif name in QUALITY:
        demos.quality(QUALITY[name], FOLDER / f"quality-{name}.png")
    else:
        demos.segment(name, FOLDER / f"segment-{name}.png")


def options() -> None:
    """Take a picture of the dock alone, with its options open and a field that is wrong."""
    import numpy as np
    from napari.qt import get_qapp

    from napari_cvsuite import app

    app.need_binding()
    viewer, dock = app.add_docks()
    viewer.add_image(np.zeros((256, 256)), name="gray image")
    dock.more.expand(animate=False)
    dock.form.set_values({"stain": "hematoxylin"})
    viewer.window.resize(*app.WINDOW)
    for _ in range(50):
        get_qapp().processEvents()
    FOLDER.mkdir(exist_ok=True)
    dock.grab().save(str(FOLDER / "segment-options.png"))
    dock.close()
    viewer.close()


if __name__ == "__main__":
    main()
