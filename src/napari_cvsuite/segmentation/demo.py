"""The demonstration: a real image, a built-in model, a picture of the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_cvsuite.images import ImageError, read
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.segmentation.files import segment_files
from napari_cvsuite.segmentation.options import PredictOptions

__all__ = ["run_demo"]


def run_demo(out: Path, model: str, context: Context) -> tuple[Path, dict[str, Any]]:
    """Segment scikit-image's stained tissue; write the results and ``demo.png``.

    Returns
    -------
    picture : Path
        The image and, beside it, the outlines of the objects found.
    summary : dict
        See :func:`napari_cvsuite.segmentation.files.segment_files`.

    Raises
    ------
    ImageError
        The image could not be segmented or a result not be written.
    """
    import skimage
    from PIL import Image as Picture
    from skimage.segmentation import mark_boundaries

    source = Path(skimage.__file__).parent / "data" / "ihc.png"
    # The membranes are stained brown; the nuclei show in the other stain alone.
    options = PredictOptions(model=model, stain="hematoxylin", objects="watershed", min_size=30)
    summary = segment_files([source], out, options, context)
    if summary["failed"]:
        raise ImageError(summary["inputs"][0]["error"])
    pixels = np.asarray(read(source).plane())[..., :3]
    classes = np.asarray(read(out / "ihc.labels.tif").plane())
    outlined = mark_boundaries(pixels, classes, color=(0.0, 1.0, 0.4), mode="inner")
    both = np.concatenate([pixels, np.rint(255 * outlined).astype(np.uint8)], axis=1)
    picture = out / "demo.png"
    Picture.fromarray(both).save(picture)
    return picture, summary
