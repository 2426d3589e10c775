"""napari-cvsuite: networks for medical and microscopy images, on your own machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_cvsuite.segmentation.predict import SegmentResult

__all__ = ["__version__", "segment"]

__version__ = "0.1.0"


def segment(image: Any, *, device: str = "auto", **options: Any) -> SegmentResult:
    """Segment an image.

    Parameters
    ----------
    image : array or Image
        2D to 4D, any real type; see :meth:`napari_cvsuite.images.Image.from_array` for how axes
        are guessed.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda:0"``, ``"mps"``.
    **options
        Fields of :class:`napari_cvsuite.segmentation.options.PredictOptions`.

    Returns
    -------
    SegmentResult

    Raises
    ------
    ImageError, OptionError, UnknownModelError, WeightsError, DeviceError
        Each message says what to do.
    """
    # Here, so that importing the package stays quick and loads no torch.
    from napari_cvsuite.images import Image
    from napari_cvsuite.jobs.queues import default_scheduler
    from napari_cvsuite.models.device import choose_device
    from napari_cvsuite.segmentation.options import PredictOptions
    from napari_cvsuite.segmentation.predict import run

    wrapped = image if isinstance(image, Image) else Image.from_array(image)
    chosen = PredictOptions(**options)
    return default_scheduler().run_inline(
        lambda context: run(wrapped, chosen, context), choose_device(device), name="segment"
    )
