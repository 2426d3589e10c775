"""Teach a network what somebody corrected by painting, and say what that is worth.

A quarter of what was corrected is held out: every fourth plane, or of fewer planes a quarter
of each. The network learns from the rest, and is better only if it finds the quarter it has not
learned from better than before.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_cvsuite.images import Image, channel_numbers, cut_along, read
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.plain import plain
from napari_cvsuite.models.catalog import Catalogue, ModelCard
from napari_cvsuite.models.weights import read_state_dict
from napari_cvsuite.segmentation.corrected import Corrected, CorrectionError
from napari_cvsuite.segmentation.data import IGNORE, find_pairs
from napari_cvsuite.segmentation.options import RetrainOptions, TrainOptions
from napari_cvsuite.segmentation.source import PlaneSource
from napari_cvsuite.training.publish import require_new, write_derived

if TYPE_CHECKING:
    from napari_cvsuite.segmentation.train import Example

__all__ = ["RetrainResult", "check", "keep", "read_corrected", "run"]

SIDE, BATCH, CROPS = 256, 4, 48
"""Side of the random parts, how many a step sees, and how many an epoch shows at least."""
QUARTERS = 4
LEAST_SIDE = 128
"""An image of which a quarter is held out is at least as long as this."""
_MARGIN = 64
"""What a network sees beside the quarter that is measured."""


@dataclass(frozen=True, eq=False)
class RetrainResult:
    """Outcome of a retraining.

    Parameters
    ----------
    base : str
        Name of the model it began with.
    n : int
        Number of planes.
    dice_before, dice_after : float
        Mean Dice of the held-out part, of the model as it was and as it became. The second is
        the best of about four measured on the way, so it leans to the bright side.
    better : bool
        Whether the second is higher.
    state : mapping of str to Tensor
        The new weights.
    classes : tuple of str
        Names of the classes, background first.
    training : mapping
        The options of the training.
    kept : str
        Name of the new model; empty if it was not kept.
    """

    base: str
    n: int
    dice_before: float
    dice_after: float
    better: bool
    state: Mapping[str, Tensor]
    classes: tuple[str, ...]
    training: Mapping[str, Any]
    kept: str = ""

    def facts(self) -> dict[str, Any]:
        """Return all but the weights, as plain data."""
        left_out = ("state", "training")
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}
        return dict(plain(kept))

    def in_words(self) -> str:
        """Return what was found out about the held-out part."""
        return (
            f"Dice of the held-out quarter: {self.dice_before:.3f} before, "
            f"{self.dice_after:.3f} after learning from {_planes(self.n)}."
        )


def _planes(count: int) -> str:
    return "1 plane" if count == 1 else f"{count} planes"


def read_corrected(images: Path, labels: Path) -> list[Corrected]:
    """Open the images of a folder and their labels, which have the same names in another.

    Raises
    ------
    ValueError
        A folder is missing, or no file has labels.
    ImageError
        A file cannot be read.
    """
    return [
        Corrected(read(pair.image), _grey(read(pair.mask))) for pair in find_pairs(images, labels)
    ]


def _grey(labels: Image) -> NDArray[Any]:
    if "c" in labels.axes:
        raise CorrectionError(
            f"the labels {labels.name} are coloured; save them as gray values, one for each class"
        )
    return np.asarray(labels.data)


def run(corrected: Sequence[Corrected], options: RetrainOptions, context: Context) -> RetrainResult:
    """Train a model on corrected images.

    Parameters
    ----------
    corrected : sequence of Corrected
    options : RetrainOptions
        With a name, the new model is kept if it is better than the one it began with.
    context : Context

    Raises
    ------
    CorrectionError
        Labels do not fit their image or the model, or there is too little to learn from.
    OptionError
        There are not as many names as classes.
    ImageError, UnknownModelError, WeightsError, DeviceError, Cancelled
    RunFolderError
        The disk is full.
    """
    # Here, since the loop loads torch's compiler, which must not get into napari's process.
    from napari_cvsuite.segmentation.train import SCORE, fit_examples, measure, network_of

    card = _base(options)
    examples = [example for one in corrected for example in _examples(one, card, options, context)]
    learned, held = _hold_out(examples)
    chosen = _training(card, options, len(learned))
    network = network_of(chosen)
    network.to(context.device)
    context.progress(0, chosen.epochs, "measuring the model as it is")
    with torch.inference_mode():
        before = measure(network.eval(), held, chosen, context)[SCORE]
    with tempfile.TemporaryDirectory(prefix="napari-cvsuite-") as folder:
        outcome = fit_examples(network, learned, held, chosen, Path(folder), context)
        state = read_state_dict(Path(folder) / "best.pt")
    result = RetrainResult(
        base=card.name,
        n=len(examples),
        dice_before=before,
        dice_after=outcome.best,
        better=outcome.best > before,
        state=state,
        classes=tuple(chosen.names or card.classes),
        training={**asdict(chosen), "start": card.name},
    )
    if not options.name or not result.better:
        return result
    return replace(result, kept=keep(result, options.name))


def check(corrected: Sequence[Corrected], options: RetrainOptions, context: Context) -> None:
    """Raise what `run` would raise of the labels and the options, at once.

    Looks at no image, and loads nothing that trains.

    Parameters
    ----------
    corrected : sequence of Corrected
    options : RetrainOptions
    context : Context

    Raises
    ------
    CorrectionError, OptionError, UnknownModelError, WeightsError, Cancelled
        As of `run`.
    ImageError
        A stack has no such axis.
    """
    card = _base(options)
    planes: list[Example] = []
    for one in corrected:
        for _, _, mask in _labelled(one, card, options, context):
            # Of more planes a whole one is held out, which is always possible.
            if len(planes) < QUARTERS:
                planes.append((np.broadcast_to(np.float32(0), mask.shape), mask))
    learned, _ = _hold_out(planes)
    _training(card, options, len(learned))


def keep(result: RetrainResult, name: str) -> str:
    """Write the new model into the user's folder; return its name.

    Raises
    ------
    WeightsError
        The name is taken, or the files cannot be written.
    """
    card = Catalogue().get(result.base)
    changes = {
        "description": f"{card.name}, retrained on {_planes(result.n)} of the user's own.",
        "data": f"{card.data} Then {_planes(result.n)} of the user's own, a quarter held out.",
        "classes": list(result.classes),
        "metrics": {"dice_before": result.dice_before, "dice_held_out": result.dice_after},
        "training": dict(result.training),
    }
    return write_derived(result.state, card, name, changes).name


def _base(options: RetrainOptions) -> ModelCard:
    """Return the model that learns."""
    if options.name:
        require_new(options.name)
    card = Catalogue().get(options.model)
    if card.architecture != "qtseg" or card.input.mode != "native":
        raise CorrectionError(
            f"{card.name} does not segment images part by part, so it cannot learn from "
            "corrections; choose another model"
        )
    return card


def _training(card: ModelCard, options: RetrainOptions, count: int) -> TrainOptions:
    """Return the options of the training: as the model was trained, but gently."""
    width = int(card.options["n_channel"])
    known = {k: card.training[k] for k in ("orientation", "ignore") if k in card.training}
    return TrainOptions(
        start=card.name,
        classes=len(card.classes),
        class_names=options.class_names,
        width=width,
        size=SIDE,
        scale=card.input.scale,
        tile=card.input.tile or 0,
        batch=BATCH,
        crops=math.ceil(CROPS / count),
        epochs=options.epochs,
        validate_every=max(1, options.epochs // 4),
        lr=options.lr,
        ema=0.95,
        scale_range=1.25,
        augment=0.3,
        seed=options.seed,
        **known,
    )


def _examples(
    one: Corrected, card: ModelCard, options: RetrainOptions, context: Context
) -> Iterator[Example]:
    """Yield the labelled planes as the network learns from them."""
    channels = channel_numbers(options.channels)
    for cut, index, mask in _labelled(one, card, options, context):
        source = PlaneSource(cut, index, channels, options.stain, context.check)
        yield source.read(0, 0, *source.shape), mask


def _labelled(
    one: Corrected, card: ModelCard, options: RetrainOptions, context: Context
) -> Iterator[tuple[Image, Mapping[str, int], NDArray[np.int64]]]:
    """Yield the cut image, and where its planes with labels are, with the class of each pixel."""
    image = one.image
    axes = "".join(axis for axis in image.axes if axis != "c")
    expected = tuple(image.size(axis) for axis in axes)
    if one.labels.shape != expected:
        raise CorrectionError(
            f"the labels of {image.name} are of shape {one.labels.shape}, the image of "
            f"{expected}; both must lie over each other"
        )
    labels = cut_along(Image(one.labels, axes, name=image.name), options.axis).image
    cut = cut_along(image, options.axis).image
    found = False
    for index in cut.planes():
        context.check()
        painted = labels.plane(index)
        if painted.any():
            found = True
            yield cut, index, _classes(painted, card, image.name)
    if not found:
        raise CorrectionError(f"nothing is labelled in {image.name}; paint what should be found")


def _classes(painted: NDArray[Any], card: ModelCard, name: str) -> NDArray[np.int64]:
    """Return the class of every pixel."""
    if painted.dtype.kind not in "bui":
        raise CorrectionError(
            f"the labels of {name} are of type {painted.dtype}; give whole numbers"
        )
    count = len(card.classes)
    mask = (painted != 0).astype(np.int64) if count == 2 else painted.astype(np.int64)
    if mask.min() < 0 or mask.max() >= count:
        raise CorrectionError(
            f"the labels of {name} reach from {mask.min()} to {mask.max()}, but {card.name} has "
            f"the classes 0 to {count - 1}; show and correct classes, not objects"
        )
    mask[mask == card.training.get("ignore", -1)] = IGNORE
    return mask


def _hold_out(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Return what is learned from, and the quarter that is not."""
    if not examples:
        raise CorrectionError("nothing was corrected; give an image and its labels")
    if len(examples) >= QUARTERS:
        last = QUARTERS - 1
        held = list(examples[last::QUARTERS])
        return [one for i, one in enumerate(examples) if i % QUARTERS != last], held
    learned, held = [], []
    for image, mask in examples:
        part = _quarter(mask)
        if part is None:
            learned.append((image, mask))
            continue
        rest = mask.copy()
        rest[part] = IGNORE
        learned.append((image, rest))
        held.append(_around(image, mask, part))
    if not held:
        raise CorrectionError(
            "too little is corrected to hold a quarter of it out; correct an image of "
            f"{LEAST_SIDE} pixels or more, with objects in several places, or four images"
        )
    return learned, held


def _quarter(mask: NDArray[np.int64]) -> tuple[slice, slice] | None:
    """Return the quarter across the longer side that is labelled most like the whole, if any."""
    axis = int(np.argmax(mask.shape))
    if mask.shape[axis] < LEAST_SIDE:
        return None
    marked = (mask > 0).sum(axis=1 - axis)
    parts = np.array_split(np.arange(len(marked)), QUARTERS)
    sums = np.array([marked[part].sum() for part in parts])
    usable = [i for i, found in enumerate(sums) if 0 < found < sums.sum()]
    if not usable:
        return None
    best = min(usable, key=lambda i: abs(sums[i] - sums.mean()))
    along = slice(int(parts[best][0]), int(parts[best][-1]) + 1)
    return (along, slice(None)) if axis == 0 else (slice(None), along)


def _around(
    image: NDArray[np.float32], mask: NDArray[np.int64], part: tuple[slice, slice]
) -> Example:
    """Return the part with a margin that the network sees and nothing counts."""
    counted = np.full_like(mask, IGNORE)
    counted[part] = mask[part]
    seen = tuple(
        slice(None)
        if one == slice(None)
        else slice(max(0, one.start - _MARGIN), one.stop + _MARGIN)
        for one in part
    )
    return image[seen], counted[seen]
