"""The demonstrations: real images, built-in models, pictures of the results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_cvsuite.images import ImageError, read
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.segmentation.options import PredictOptions

__all__ = ["DEMOS", "Demo", "run_demo"]


@dataclass(frozen=True)
class Demo:
    """An image that ships with scikit-image, and how to segment it.

    Parameters
    ----------
    file : str
        In the folder ``skimage/data``.
    options : PredictOptions
    show : {"automatic", "objects", "classes"}
        What the dock shows.
    """

    file: str
    options: PredictOptions
    show: str = "automatic"

    @property
    def path(self) -> Path:
        """Where the image lies on this machine."""
        import skimage

        return Path(skimage.__file__).parent / "data" / self.file


DEMOS = {
    # The membranes of this tissue are stained brown; the nuclei show in the other stain alone.
    "nuclei": Demo(
        "ihc.png",
        PredictOptions(model="qtseg-nuclei", stain="hematoxylin", objects="watershed", min_size=30),
    ),
    "vessels": Demo("retina.jpg", PredictOptions(model="qtseg-vessels", min_size=60), "classes"),
}


def run_demo(out: Path, name: str, context: Context) -> tuple[Path, dict[str, Any]]:
    """Segment one of :data:`DEMOS`; write the results and ``NAME.png``.

    Returns
    -------
    picture : Path
        The image and, beside it, the outlines of what was found.
    row : dict
        The image's entry in the summary; see
        :func:`napari_cvsuite.segmentation.files.segment_files`.

    Raises
    ------
    ImageError
        The image could not be segmented or a result not be written.
    """
    from PIL import Image as Picture
    from skimage.segmentation import mark_boundaries

    # Here, so that the list of demonstrations can be read without torch.
    from napari_cvsuite.segmentation.files import segment_files

    demo = DEMOS[name]
    summary = segment_files([demo.path], out, demo.options, context)
    if summary["failed"]:
        raise ImageError(summary["inputs"][0]["error"])
    pixels = np.asarray(read(demo.path).plane())[..., :3]
    classes = np.asarray(read(out / f"{demo.path.stem}.labels.tif").plane())
    outlined = mark_boundaries(pixels, classes, color=(0.0, 1.0, 0.4), mode="inner")
    both = np.concatenate([pixels, np.rint(255 * outlined).astype(np.uint8)], axis=1)
    picture = out / f"{name}.png"
    Picture.fromarray(both).save(picture)
    return picture, summary["inputs"][0]
