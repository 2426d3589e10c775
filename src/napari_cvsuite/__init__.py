"""napari-cvsuite: networks for medical and microscopy images, on your own machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_cvsuite.version import __version__

if TYPE_CHECKING:
    from napari_cvsuite.images import Image
    from napari_cvsuite.jobs import Context
    from napari_cvsuite.neurons.class_map import ClassMap
    from napari_cvsuite.neurons.explain import Explained, Predicted
    from napari_cvsuite.neurons.mislead import Misled
    from napari_cvsuite.neurons.report import PairReport
    from napari_cvsuite.paths.contributions import Contributions
    from napari_cvsuite.paths.maps import PathMap
    from napari_cvsuite.paths.report import PathReport
    from napari_cvsuite.paths.stack import StackEffects
    from napari_cvsuite.quality.map import QualityMap
    from napari_cvsuite.quality.score import ScoreResult
    from napari_cvsuite.segmentation.predict import SegmentResult
    from napari_cvsuite.segmentation.retrain import RetrainResult

__all__ = [
    "__version__",
    "attack",
    "class_map",
    "classify",
    "contributions",
    "pair_report",
    "path_map",
    "path_report",
    "path_stack",
    "quality_map",
    "retrain",
    "saliency",
    "score_quality",
    "segment",
]

T = TypeVar("T")


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
    from napari_cvsuite.segmentation.options import PredictOptions
    from napari_cvsuite.segmentation.predict import run

    wrapped, chosen = _wrapped(image), PredictOptions(**options)
    return _compute(lambda context: run(wrapped, chosen, context), device, "segment")


def retrain(
    images: Sequence[Any], labels: Sequence[Any], *, device: str = "auto", **options: Any
) -> RetrainResult:
    """Teach a segmentation model what was corrected by painting.

    Parameters
    ----------
    images : sequence of array or Image
        See :func:`segment`.
    labels : sequence of array of int
        The corrected labels of each, of its shape without colour; see
        :class:`napari_cvsuite.segmentation.corrected.Corrected`.
    device : str
        See :func:`segment`.
    **options
        Fields of :class:`napari_cvsuite.segmentation.options.RetrainOptions`; with a `name` the
        new model is kept if it is better.

    Returns
    -------
    RetrainResult
        Dice before and after, on a quarter that is not learned from.

    Raises
    ------
    ValueError
        There are not as many labels as images.
    CorrectionError, ImageError, OptionError, UnknownModelError, WeightsError, DeviceError
        Each message says what to do.
    """
    import numpy as np

    from napari_cvsuite.segmentation.corrected import Corrected
    from napari_cvsuite.segmentation.options import RetrainOptions
    from napari_cvsuite.segmentation.retrain import run

    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images have {len(labels)} labels; give one to each")
    pairs = zip(images, labels, strict=True)
    corrected = [Corrected(_wrapped(image), np.asarray(painted)) for image, painted in pairs]
    chosen = RetrainOptions(**options)
    return _compute(lambda context: run(corrected, chosen, context), device, "retrain")


def score_quality(
    image: Any, reference: Any = None, *, device: str = "auto", **options: Any
) -> ScoreResult:
    """Score the quality of every slice of an image; higher is better.

    Parameters
    ----------
    image : array or Image
        2D to 4D, any real type; see :meth:`napari_cvsuite.images.Image.from_array` for how axes
        are guessed.
    reference : array or Image, optional
        What it should look like: one slice, or one for each.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda:0"``, ``"mps"``.
    **options
        Fields of :class:`napari_cvsuite.quality.options.ScoreOptions`.

    Returns
    -------
    ScoreResult

    Raises
    ------
    ImageError, OptionError, UnknownModelError, CardError, WeightsError, DeviceError
        Each message says what to do.
    """
    from napari_cvsuite.quality.options import ScoreOptions
    from napari_cvsuite.quality.score import run

    wrapped, chosen = _wrapped(image), ScoreOptions(**options)
    other = None if reference is None else _wrapped(reference)
    return _compute(lambda context: run(wrapped, chosen, context, other), device, "score")


def quality_map(
    image: Any, reference: Any = None, *, device: str = "auto", **options: Any
) -> QualityMap:
    """Score overlapping windows of every slice of an image.

    Parameters
    ----------
    image, reference, device
        See :func:`score_quality`.
    **options
        Fields of :class:`napari_cvsuite.quality.options.MapOptions`.

    Returns
    -------
    QualityMap

    Raises
    ------
    ImageError, OptionError, UnknownModelError, CardError, WeightsError, DeviceError
        Each message says what to do.
    """
    from napari_cvsuite.quality.map import run
    from napari_cvsuite.quality.options import MapOptions

    wrapped, chosen = _wrapped(image), MapOptions(**options)
    other = None if reference is None else _wrapped(reference)
    return _compute(lambda context: run(wrapped, chosen, context, other), device, "map quality")


def classify(image: Any, *, device: str = "auto", **options: Any) -> Predicted:
    """Name the likeliest classes of what a classifier sees of an image.

    Parameters
    ----------
    image : array or Image
        2D to 4D, any real type; one plane is seen.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda:0"``, ``"mps"``.
    **options
        Fields of :class:`napari_cvsuite.neurons.options.NeuronOptions`.

    Returns
    -------
    Predicted

    Raises
    ------
    ImageError, OptionError, UnknownModelError, CardError, WeightsError, DeviceError
        Each message says what to do.
    """
    from napari_cvsuite.neurons.explain import predict
    from napari_cvsuite.neurons.options import NeuronOptions

    wrapped, chosen = _wrapped(image), NeuronOptions(**options)
    return _compute(lambda context: predict(wrapped, chosen, context), device, "classify")


def saliency(image: Any, mask: Any = None, *, device: str = "auto", **options: Any) -> Explained:
    """Map which pixels a class or a neuron of a classifier depends on.

    Parameters
    ----------
    image, device
        See :func:`classify`.
    mask : array or Image, optional
        Labels of the size of the image, not 0 where an object is: what share of the map is on it?
    **options
        Fields of :class:`napari_cvsuite.neurons.options.SaliencyOptions`.

    Returns
    -------
    Explained

    Raises
    ------
    ImageError, OptionError, UnknownModelError, CardError, WeightsError, DeviceError
        Each message says what to do.
    """
    from napari_cvsuite.neurons.explain import run
    from napari_cvsuite.neurons.options import SaliencyOptions

    wrapped, chosen = _wrapped(image), SaliencyOptions(**options)
    marked = None if mask is None else _wrapped(mask)
    return _compute(lambda context: run(wrapped, chosen, context, marked), device, "saliency")


def class_map(image: Any, *, device: str = "auto", **options: Any) -> ClassMap:
    """Map which class leads at each place of what a classifier sees of an image.

    Parameters
    ----------
    image, device
        See :func:`classify`.
    **options
        Fields of :class:`napari_cvsuite.neurons.class_map_options.ClassMapOptions`.

    Returns
    -------
    ClassMap

    Raises
    ------
    ImageError, OptionError, UnknownModelError, CardError, WeightsError, DeviceError
        Each message says what to do.
    """
    from napari_cvsuite.neurons.class_map import run
    from napari_cvsuite.neurons.class_map_options import ClassMapOptions

    wrapped, chosen = _wrapped(image), ClassMapOptions(**options)
    return _compute(lambda context: run(wrapped, chosen, context), device, "classes")


def attack(image: Any, *, device: str = "auto", **options: Any) -> Misled:
    """Search a small change of an image that misleads a classifier.

    Parameters
    ----------
    image, device
        See :func:`classify`.
    **options
        Fields of :class:`napari_cvsuite.neurons.options.AttackOptions`.

    Returns
    -------
    Misled

    Raises
    ------
    ImageError, OptionError, UnknownModelError, CardError, WeightsError, DeviceError
        Each message says what to do.
    """
    from napari_cvsuite.neurons.mislead import run
    from napari_cvsuite.neurons.options import AttackOptions

    wrapped, chosen = _wrapped(image), AttackOptions(**options)
    return _compute(lambda context: run(wrapped, chosen, context), device, "attack")


def pair_report(
    images: PathLike[str] | str | None = None,
    *,
    table: PathLike[str] | str | None = None,
    column: str = "label",
    stimuli: PathLike[str] | str | None = None,
    masks: PathLike[str] | str | None = None,
    names: PathLike[str] | str | None = None,
    out: PathLike[str] | str | None = None,
    device: str = "auto",
    **options: Any,
) -> PairReport:
    """Report what adversarial training changed in a pair of classifiers.

    Parameters
    ----------
    images : path, optional
        Folder with a folder of images for each class; with a table, of images.
    table : path, optional
        CSV file of labels.
    column : str
        Of the labels in the table.
    stimuli : path, optional
        Folder of cue-conflict images named ``SHAPE1-TEXTURE1.png``.
    masks : path, optional
        Folder of label images named like the images; or of such folders, one a group.
    names : path, optional
        JSON file of the names of labels.
    out : path, optional
        Folder for ``report.html`` and ``report.json``, made if there is none; without it nothing
        is written.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda:0"``, ``"mps"``.
    **options
        Fields of :class:`napari_cvsuite.neurons.options.ReportOptions`.

    Returns
    -------
    PairReport
        Sections that lack their data say so.

    Raises
    ------
    ImageError, OptionError, ValueError, UnknownModelError, CardError, WeightsError, DeviceError
        Each message says what to do.
    """
    from napari_cvsuite.neurons.options import ReportOptions
    from napari_cvsuite.neurons.report import ReportInputs, run
    from napari_cvsuite.neurons.report_run import report_into

    chosen = ReportOptions(**options)
    inputs = ReportInputs(
        _path(images), _path(table), column, _path(stimuli), _path(masks), _path(names)
    )
    if out is None:
        return _compute(lambda context: run(inputs, chosen, context), device, "report")
    folder = Path(out)
    return _compute(lambda c: report_into(folder, inputs, chosen, c)[0], device, "report")


def contributions(
    image: Any, other: Any = None, *, device: str = "auto", **options: Any
) -> Contributions:
    """Split the prediction of a vision transformer into the direct shares of its paths.

    Parameters
    ----------
    image, device
        See :func:`classify`.
    other : array or Image, optional
        A second image, whose shares are subtracted.
    **options
        Fields of :class:`napari_cvsuite.paths.options.ContributionOptions`.

    Returns
    -------
    Contributions

    Raises
    ------
    ImageError, OptionError, UnknownModelError, CardError, WeightsError, DeviceError
        Each message says what to do.
    """
    from napari_cvsuite.paths.contributions import run
    from napari_cvsuite.paths.options import ContributionOptions

    wrapped, chosen = _wrapped(image), ContributionOptions(**options)
    second = None if other is None else _wrapped(other)
    return _compute(lambda context: run(wrapped, chosen, context, second), device, "contributions")


def path_map(image: Any, *, device: str = "auto", **options: Any) -> PathMap:
    """Map what paths of a vision transformer take from the patches of an image.

    Parameters
    ----------
    image, device
        See :func:`classify`.
    **options
        Fields of :class:`napari_cvsuite.paths.options.MapOptions`.

    Returns
    -------
    PathMap

    Raises
    ------
    ImageError, OptionError, UnknownModelError, CardError, WeightsError, DeviceError
        Each message says what to do.
    """
    from napari_cvsuite.paths.maps import run
    from napari_cvsuite.paths.options import MapOptions

    wrapped, chosen = _wrapped(image), MapOptions(**options)
    return _compute(lambda context: run(wrapped, chosen, context), device, "map")


def path_stack(
    image: Any, others: Sequence[Any] = (), *, device: str = "auto", **options: Any
) -> StackEffects:
    """Take paths of a vision transformer away, or weigh them, in every slice of a stack.

    Parameters
    ----------
    image : array or Image
        2D to 4D, any real type; slices of a lazy array are loaded one at a time.
    others : sequence of array or Image
        What the replacement is made from; default the other slices.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda:0"``, ``"mps"``.
    **options
        Fields of :class:`napari_cvsuite.paths.options.WhatIfOptions`, with ``off`` or ``weights``.

    Returns
    -------
    StackEffects

    Raises
    ------
    ImageError, OptionError, UnknownModelError, CardError, WeightsError, DeviceError
        Each message says what to do.
    """
    from napari_cvsuite.paths.options import WhatIfOptions
    from napari_cvsuite.paths.stack import run

    wrapped, chosen = _wrapped(image), WhatIfOptions(**options)
    references = [_wrapped(one) for one in others]
    return _compute(lambda context: run(wrapped, chosen, context, references), device, "stack")


def path_report(
    images: PathLike[str] | str,
    *,
    table: PathLike[str] | str | None = None,
    column: str = "label",
    studies: Sequence[PathLike[str] | str] = (),
    out: PathLike[str] | str | None = None,
    device: str = "auto",
    **options: Any,
) -> PathReport:
    """Report what the paths of a vision transformer do, and whether the paper's claims hold.

    Parameters
    ----------
    images : path
        Folder with a folder of images for each class; with a table, of images.
    table : path, optional
        CSV file of labels.
    column : str
        Of the labels in the table.
    studies : sequence of path
        Files of studies; without any, those that come with the package.
    out : path, optional
        Folder for ``report.html`` and ``report.json``, made if there is none; without it nothing
        is written.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda:0"``, ``"mps"``.
    **options
        Fields of :class:`napari_cvsuite.paths.report_options.ReportOptions`.

    Returns
    -------
    PathReport
        Sections that lack their data say so.

    Raises
    ------
    ImageError, OptionError, ValueError, UnknownModelError, CardError, WeightsError, DeviceError
        Each message says what to do.
    """
    from napari_cvsuite.paths.report import ReportInputs, run
    from napari_cvsuite.paths.report_options import ReportOptions
    from napari_cvsuite.paths.report_run import report_into

    chosen = ReportOptions(**options)
    inputs = ReportInputs(Path(images), _path(table), column, tuple(map(Path, studies)))
    if out is None:
        return _compute(lambda context: run(inputs, chosen, context), device, "report")
    folder = Path(out)
    return _compute(lambda c: report_into(folder, inputs, chosen, c)[0], device, "report")


def _path(given: PathLike[str] | str | None) -> Path | None:
    return None if given is None else Path(given)


def _wrapped(image: Any) -> Image:
    from napari_cvsuite.images import Image

    return image if isinstance(image, Image) else Image.from_array(image)


def _compute(job: Callable[[Context], T], device: str, name: str) -> T:
    """Run a job on the queue of a device and wait for it."""
    from napari_cvsuite.jobs.queues import default_scheduler
    from napari_cvsuite.models.device import choose_device

    return default_scheduler().run_inline(job, choose_device(device), name=name)
