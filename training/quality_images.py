"""Collect the good images that the quality models learn from, as `quality-images.csv` lists them.

    python training/quality_images.py --data DATA --out runs/good

Each row names a file below the folder of the data and how often it is shrunk, by averaging, so
that nothing of a JPEG's blocks remains.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path

from PIL import Image

LIST = Path(__file__).with_name("quality-images.csv")


def collect(data: Path, out: Path) -> int:
    """Copy or shrink every listed file into `out`; return their number."""
    out.mkdir(parents=True, exist_ok=True)
    with LIST.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        source = data / row["file"]
        shrink = float(row["shrink"])
        if shrink == 1:
            shutil.copyfile(source, out / f"{row['name']}{source.suffix}")
            continue
        with Image.open(source) as picture:
            size = (round(picture.width / shrink), round(picture.height / shrink))
            picture.resize(size, Image.Resampling.BOX).save(out / f"{row['name']}.png")
    return len(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    print(collect(chosen.data, chosen.out), "images")
