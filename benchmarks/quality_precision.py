"""How much bfloat16 changes the scores of the built-in quality models, on real images.

python benchmarks/quality_precision.py --images FOLDER [--side 256]

The middle of every image is scored as it is, and spoilt in four ways, in both precisions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import napari_cvsuite
from napari_cvsuite.images import find_images
from napari_cvsuite.quality.distortions import distort
from napari_cvsuite.quality.train import read_good

SPOILT = ("gaussian blur", "gaussian noise", "jpeg", "underexposure")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--side", type=int, default=256)
    given = parser.parse_args()
    changes: dict[str, list[float]] = {"topiq-nr-synth": [], "topiq-fr-synth": []}
    for path in find_images(given.images):
        good = read_good(path, 64)
        top, left = (max(0, (extent - given.side) // 2) for extent in good.shape[:2])
        good = np.ascontiguousarray(good[top : top + given.side, left : left + given.side])
        for picture in (good, *(distort(good, name, 3) for name in SPOILT)):
            for model, found in changes.items():
                reference = good if "fr" in model else None
                scores = [
                    napari_cvsuite.score_quality(
                        picture, reference, model=model, precision=precision, device="cpu"
                    )
                    .rows[0]
                    .score
                    for precision in ("float32", "bfloat16")
                ]
                found.append(abs(scores[0] - scores[1]))
    for model, found in changes.items():
        print(f"{model}: up to {max(found):.2g}, mean {np.mean(found):.2g}, {len(found)} pictures")


if __name__ == "__main__":
    main()
