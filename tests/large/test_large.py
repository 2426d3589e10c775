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
from PIL import Image as Picture

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
    # The tissue repeats every 512 pixels, and so must the share of nuclei, but for the edges.
    shares = [(labels[y : y + 512, y : y + 512] > 0).mean() for y in range(512, SIDE - 1024, 512)]
    assert np.ptp(shares) < 0.1 * np.mean(shares)
    with (out / "tissue.objects.csv").open() as table:
        assert sum(1 for _ in table) == row["objects"] + 1 > 50 * (SIDE / 512) ** 2
