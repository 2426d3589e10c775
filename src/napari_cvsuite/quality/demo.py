"""The demonstration: a real image through focus, and where one that is half blurred is good."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images import Image, read
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.quality.distortions import distort
from napari_cvsuite.quality.options import MapOptions, ScoreOptions

__all__ = ["focus_series", "half_blurred", "run_demo"]

SLICES = 15
UInt8 = NDArray[np.uint8]


def _tissue() -> UInt8:
    import skimage

    pixels = read(Path(skimage.__file__).parent / "data" / "ihc.png").plane()
    return np.ascontiguousarray(pixels[..., :3])


def focus_series() -> Image:
    """Return tissue that comes into focus and goes out again, Z x Y x X x 3 of uint8."""
    tissue, middle = _tissue(), SLICES // 2
    slices = []
    for number in range(SLICES):
        away = abs(number - middle)
        radius = 0.9 * away
        worse = distort(tissue, "defocus", 1, 0, radius) if away else tissue
        slices.append(worse)
    return Image.from_array(np.stack(slices), axes="zyxc", name="focus series")


def half_blurred() -> Image:
    """Return tissue that is sharp on the left and out of focus on the right."""
    tissue = _tissue()
    blurred = distort(tissue, "defocus", 3)
    half = tissue.shape[1] // 2
    pixels = np.concatenate([tissue[:, :half], blurred[:, half:]], axis=1)
    return Image.from_array(pixels, name="half out of focus")


def run_demo(out: Path, context: Context) -> tuple[Path, dict[str, Any]]:
    """Score the series and map the other image; write ``focus.csv`` and ``quality.png``.

    Returns
    -------
    picture : Path
        The curve of scores, and the map over its image.
    facts : dict
        Number of slices, the best one (counted from 0), and the seconds.

    Raises
    ------
    ImageError
        A result cannot be written.
    """
    # Here, so that the command line can be read without torch and matplotlib.
    from napari_cvsuite.quality import map as quality_map
    from napari_cvsuite.quality.files import COLUMNS, write_table
    from napari_cvsuite.quality.score import run

    series, other = focus_series(), half_blurred()
    result = run(series, ScoreOptions(), context)
    mapped = quality_map.run(other, MapOptions(window=96, step=32), context)
    out.mkdir(parents=True, exist_ok=True)
    facts = {"path": series.name, "model": result.provenance["model"]}
    rows = [{**asdict(row), **facts} for row in result.rows]
    write_table(out / "focus.csv", [{key: row[key] for key in COLUMNS} for row in rows])
    scores = [row.score for row in result.rows]
    picture = out / "quality.png"
    _draw(picture, scores, other, mapped.scores)
    seconds = result.provenance["seconds"] + mapped.provenance["seconds"]
    return picture, {
        "slices": len(scores),
        "best": int(np.nanargmax(scores)),
        "seconds": round(seconds, 2),
    }


def _draw(path: Path, scores: list[float], image: Image, local: NDArray[np.float32]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    curve, left, right = figure.subplots(1, 3)
    curve.plot(scores, "o-")
    curve.set(xlabel="slice", ylabel="score (higher is better)", title="Tissue through focus")
    left.imshow(np.asarray(image.plane()))
    left.set(title="Sharp left, out of focus right", xticks=[], yticks=[])
    shown = right.imshow(local, cmap="viridis")
    right.set(title="Local quality", xticks=[], yticks=[])
    figure.colorbar(shown, ax=right)
    figure.savefig(path, dpi=110)
