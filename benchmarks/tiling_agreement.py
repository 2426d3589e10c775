"""Compare tiled with whole prediction on images with masks, and look for seams.

For each image: the share of pixels with the same class, the Dice of both predictions against the
mask, and the mean absolute step of the probabilities between neighbouring pixels where the weight
of a tile begins or ends (the seam), divided by that elsewhere. An image has steps of its own, so
the ratio at the same places of the whole prediction stands beside it: no seam is visible where
the two are alike.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from napari_cvsuite.images import plan_tiles
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.models.device import choose_device, limit_threads
from napari_cvsuite.models.store import default_store
from napari_cvsuite.segmentation.data import find_pairs, load_image, load_mask
from napari_cvsuite.segmentation.metrics import image_metrics
from napari_cvsuite.segmentation.plane import predict_probabilities, usable_halo, working_tile

Array = NDArray[np.float32]
COLUMNS = ("agreement", "Dice tiled", "Dice whole", "seam tiled", "seam whole")


def seam_lines(side: int, starts: set[int], tile: int, halo: int) -> list[int]:
    """Return positions whose step to the next pixel crosses the end of a tile's weight."""
    # The outer half of the halo has weight zero.
    dead = -(-halo // 2)
    first = [start + dead - 1 for start in starts if start > 0]
    last = [start + tile - dead - 1 for start in starts if start + tile < side]
    return sorted({*first, *last})


def seam_ratio(probabilities: Array, rows: list[int], columns: list[int]) -> float:
    """Mean absolute step across the seams over that elsewhere."""
    across, elsewhere = [], []
    for lines, axis in ((rows, 1), (columns, 2)):
        steps = np.abs(np.diff(probabilities, axis=axis)).mean(axis=(0, 3 - axis))
        at_seam = np.zeros(len(steps), bool)
        at_seam[lines] = True
        across.append(steps[at_seam])
        elsewhere.append(steps[~at_seam])
    return float(np.concatenate(across).mean() / max(np.concatenate(elsewhere).mean(), 1e-12))


def compare(
    network: torch.nn.Module,
    image: Array,
    truth: NDArray[np.int64],
    classes: int,
    tile: int,
    halo: int,
    device: str,
    scale: float,
) -> list[float]:
    """Return the row of one image; NaN for seams where it fits one tile."""
    shape = (image.shape[0], image.shape[1])
    # A tile as large as the image is the whole image.
    tiled, whole = (
        predict_probabilities(network, image, side, halo, device, scale=scale)
        for side in (tile, max(shape))
    )
    used = working_tile(shape, tile)
    overlap = usable_halo(used, halo)
    tiles = plan_tiles(shape, used, overlap)
    rows = seam_lines(shape[0], {t.y for t in tiles}, used, overlap)
    columns = seam_lines(shape[1], {t.x for t in tiles}, used, overlap)
    best = [probabilities.argmax(axis=0) for probabilities in (tiled, whole)]
    scores = [image_metrics(one, truth, classes)["dice"] for one in best]
    seams = [seam_ratio(p, rows, columns) if rows or columns else np.nan for p in (tiled, whole)]
    return [float((best[0] == best[1]).mean()), *scores, *seams]


def main() -> None:
    """Print a table, its last row the mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    parser.add_argument("--masks", type=Path, required=True, help="folder of masks, same names")
    parser.add_argument("--model", required=True, help="name of a model in the catalogue")
    parser.add_argument("--names", nargs="*", help="stems to use; default all")
    parser.add_argument("--tile", type=int, default=0, help="0 takes the model's")
    parser.add_argument("--halo", type=int, default=32)
    parser.add_argument("--ignore", type=int, default=-1, help="mask value that does not count")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    limit_threads()
    card = Catalogue().get(args.model)
    device = choose_device(args.device)
    classes = max(len(card.classes), 2)
    rows = []
    print(f"{args.model}, tile {args.tile or card.input.tile}, halo {args.halo}, {device}\n")
    print("| image | " + " | ".join(COLUMNS) + " |\n|---" + "|---" * len(COLUMNS) + "|")
    with default_store().lease(card, device, "float32") as network, torch.inference_mode():
        for pair in find_pairs(args.images, args.masks, args.names):
            truth = load_mask(pair.mask, classes, args.ignore)
            row = compare(
                network,
                load_image(pair.image),
                truth,
                classes,
                args.tile or card.input.tile,
                args.halo,
                device,
                card.input.scale,
            )
            rows.append(row)
            print(f"| {pair.name} | " + " | ".join(f"{value:.4f}" for value in row) + " |")
    table = np.array(rows)
    seen = np.isfinite(table)
    means = np.where(seen, table, 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    print("| mean | " + " | ".join(f"{value:.4f}" for value in means) + " |")


if __name__ == "__main__":
    main()
