"""An image of 400 million pixels goes through the command line within 3 GB of memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import skimage
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy import ndimage

from napari_cvsuite.images import plan_tiles
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.models.store import default_store
from napari_cvsuite.segmentation.plane import forward, usable_halo

SIDE = int(os.environ.get("NAPARI_CVSUITE_LARGE_SIDE", "20000"))
LIMIT_KB = 3_000_000


def _make(path: Path, side: int) -> None:
    """Repeat scikit-image's stained tissue over a memory-mapped RGB TIFF."""
    tissue = np.asarray(Picture.open(Path(skimage.__file__).parent / "data" / "ihc.png"))[..., :3]
    height, width = tissue.shape[:2]
    image = tifffile.memmap(path, shape=(side, side, 3), dtype=np.uint8, photometric="rgb")
    row = np.tile(tissue, (1, -(-side // width), 1))[:, :side]
    for y in range(0, side, height):
        image[y : y + height] = row[: side - y]
    image.flush()


def _peak_anonymous_kb(process: subprocess.Popen[bytes]) -> int:
    """Watch a process until it ends; return its largest anonymous memory."""
    peak = 0
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            found = re.search(r"RssAnon:\s+(\d+) kB", status.read_text())
        # It may end between the question and the reading.
        except (FileNotFoundError, ProcessLookupError):
            break
        peak = max(peak, int(found[1]) if found else 0)
        time.sleep(0.05)
    process.wait()
    return peak


def _check_tiles(source: Path, labels: NDArray[np.uint8]) -> None:
    """Predict some tiles alone, and compare where no neighbour reaches in."""
    image = tifffile.memmap(source, mode="r")
    low, high = float(image.min()), float(image.max())
    card = Catalogue().get("qtseg-nuclei")
    tiles = plan_tiles((SIDE, SIDE), card.input.tile, usable_halo(card.input.tile, 32))
    quarter = card.input.tile // 4
    with default_store().lease(card, "cpu", "float32") as model, torch.inference_mode():
        for tile in np.random.default_rng(0).choice(np.array(tiles, object), 20):
            region = image[tile.y :, tile.x :][: tile.height, : tile.width].astype(np.float32)
            scaled = 2 * (region - low) / (high - low) - 1
            found = forward(model, scaled, "cpu", "float32", card.input.scale).argmax(axis=0)
            own = labels[tile.y :, tile.x :][: tile.height, : tile.width]
            middle = slice(quarter, -quarter)
            assert (found[middle, middle] == own[middle, middle]).mean() > 0.9999


@pytest.mark.large
@pytest.mark.timeout(7200)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_large_image_streams_through_the_command_line(tmp_path: Path) -> None:
    source, out = tmp_path / "tissue.tif", tmp_path / "out"
    _make(source, SIDE)
    installed = Path(sys.executable).with_name("napari-cvsuite")
    command = [str(installed), "segment", str(source)]
    command += ["--out", str(out), "--model", "qtseg-nuclei", "--device", "cpu", "--json"]
    started = time.monotonic()
    with (tmp_path / "stdout").open("wb") as stdout:
        process = subprocess.Popen(command, stdout=stdout)
        peak = _peak_anonymous_kb(process)
    seconds = time.monotonic() - started
    assert process.returncode == 0
    (row,) = json.loads((out / "summary.json").read_text())["inputs"]
    print(f"{SIDE} x {SIDE}: {seconds:.0f} s, peak {peak / 1e6:.2f} GB, {row['objects']} objects")
    assert 0 < peak < LIMIT_KB
    labels = tifffile.imread(out / "tissue.labels.tif")
    assert labels.shape == (SIDE, SIDE) and labels.dtype == np.uint8
    assert sum(row["class_areas"].values()) == SIDE * SIDE
    _check_tiles(source, labels)
    # Counted on their own, whole and with other code; 8-connected, and ten pixels at least.
    parts, count = ndimage.label(labels, np.ones((3, 3)))
    blocks = (parts[y : y + 1000].ravel() for y in range(0, SIDE, 1000))
    sizes = sum(np.bincount(block, minlength=count + 1) for block in blocks)
    assert row["objects"] == (sizes[1:] >= 10).sum()
    with (out / "tissue.objects.csv").open() as table:
        assert sum(1 for _ in table) == row["objects"] + 1 > 50 * (SIDE / 512) ** 2
