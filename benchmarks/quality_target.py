"""How well measures of likeness follow the levels of distortions: evidence for the training label.

For every distortion the mean over images of Spearman's correlation with the level (0 to 5), with
the sign that makes 1 perfect; last the label that training uses, the mean of the three measures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from napari_cvsuite.quality.distortions import DISTORTIONS, LEVELS, distort
from napari_cvsuite.quality.target import MEASURES, likeness
from napari_cvsuite.quality.train import find_images, read_good


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)


def rank(column: np.ndarray) -> float:
    """Return Spearman's correlation with falling quality; 0 where nothing changes."""
    return -spearmanr(column, range(LEVELS + 1)).statistic if np.ptp(column) else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--side", type=int, default=192)
    parser.add_argument("--every", type=int, default=4, help="use every n-th image")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    paths = find_images(arguments.images)[:: arguments.every]
    images = []
    for path in paths:
        image = read_good(path, arguments.side)
        top, left = ((extent - arguments.side) // 2 for extent in image.shape[:2])
        images.append(image[top : top + arguments.side, left : left + arguments.side])
    print(f"{len(images)} images, the middle {arguments.side} px\n")
    print("| distortion | " + " | ".join((*MEASURES, "label")) + " | label at 1, 3, 5 |")
    print("|---" * (len(MEASURES) + 3) + "|")
    for name in DISTORTIONS:
        rows, labels = [], []
        for image in images:
            worse = torch.stack([tensor(distort(image, name, n)) for n in range(LEVELS + 1)])
            found = likeness(worse, tensor(image).expand_as(worse)).numpy()
            found = np.concatenate([found, found.mean(axis=1, keepdims=True)], axis=1)
            if np.ptp(found):
                rows.append([rank(column) for column in found.T])
                labels.append(found[:, -1])
        means = np.mean(rows, axis=0)
        at = np.mean(labels, axis=0)[[1, 3, 5]]
        cells = [name, *(f"{value:.3f}" for value in means), ", ".join(f"{v:.2f}" for v in at)]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
