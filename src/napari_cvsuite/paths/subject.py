"""What the jobs on paths look at: a vision transformer, images, and a class or two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_cvsuite.images import Image, read
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.catalog import CardError, Catalogue
from napari_cvsuite.models.cnn import Classifier
from napari_cvsuite.models.local import is_here
from napari_cvsuite.models.planes import Planes
from napari_cvsuite.models.subject import Seen, Subject, class_pair, opened, see_plane
from napari_cvsuite.models.vit import VisionTransformer, path_names
from napari_cvsuite.paths.labelled_options import LabelledOptions, ModelOptions
from napari_cvsuite.paths.options import PathOptions, path_list
from napari_cvsuite.paths.swin import looks_like_swin
from napari_cvsuite.training.labelled import Labelled, find_labelled, read_labelled, spread, tensors

__all__ = [
    "LabelledInputs",
    "OnlySharesError",
    "Target",
    "batches",
    "floats",
    "inner",
    "labelled_images",
    "model_opened",
    "names_of",
    "normalised",
    "number_of",
    "numbers_of",
    "provenance",
    "quietly",
    "slices",
    "target_of",
    "transformer",
]


class OnlySharesError(CardError):
    """A Swin transformer, of whose paths only the shares are known; the message says what to do."""


@dataclass(frozen=True)
class LabelledInputs:
    """Where labelled images are; see :func:`napari_cvsuite.training.labelled.find_labelled`."""

    images: Path
    table: Path | None = None
    column: str = "label"


@dataclass(frozen=True)
class Target:
    """A class whose logit is looked at, or the difference of two logits.

    Parameters
    ----------
    one : int
    minus : int or None
    name : str
        In words, such as ``"cat"`` or ``"cat - dog"``.
    """

    one: int
    minus: int | None
    name: str

    @property
    def classes(self) -> tuple[int, ...]:
        """The numbers of the one or two classes."""
        return (self.one,) if self.minus is None else (self.one, self.minus)

    def of(self, values: Any) -> Any:
        """Return the value of the target from an array or tensor ``... x K``."""
        one = values[..., self.one]
        return one if self.minus is None else one - values[..., self.minus]

    def chosen(self, values: Any) -> Any:
        """Return the same from one ``... x C`` that holds :attr:`classes` alone."""
        return values[..., 0] if self.minus is None else values[..., 0] - values[..., 1]


def target_of(text: str, subject: Subject, logits: Tensor) -> Target:
    """Return the class, or the difference of two, that is asked for; empty takes the predicted one.

    Raises
    ------
    OptionError
        There is no such class.
    """
    if not text:
        best = int(logits.argmax())
        return Target(best, None, subject.card.classes[best])
    (one, minus), name = class_pair(text, subject.card)
    return Target(one, minus, name)


def inner(subject: Subject) -> nn.Module:
    """Return the network of a subject without the normalisation around it."""
    network = subject.network
    return network.model if isinstance(network, Classifier) else network


def transformer(subject: Subject) -> VisionTransformer:
    """Return the vision transformer of a subject.

    Raises
    ------
    OnlySharesError
        It is a Swin transformer.
    CardError
        It is another network; the message names models that are vision transformers.
    """
    model = inner(subject)
    if isinstance(model, VisionTransformer):
        return model
    # Those whose weights are on this machine first, as they can be used at once.
    cards = [card for card in Catalogue() if card.architecture == "vit"]
    known = [card.name for card in sorted(cards, key=lambda card: not is_here(card))]
    choice = ", ".join(known[:6]) or "none yet: import one, or train one with --arch vit-tiny"
    if looks_like_swin(model):
        raise OnlySharesError(
            f"{subject.card.name} is a Swin transformer, which merges its stream between stages: "
            "only the direct shares of its paths and removed_final are known, which paths "
            f"contributions gives; for all else choose a vision transformer ({choice})"
        )
    raise CardError(
        f"{subject.card.name} is a {type(model).__name__}, which is no sum of paths; choose a "
        f"vision transformer ({choice})"
    )


def normalised(subject: Subject, x: Tensor) -> Tensor:
    """Return images ``B x 3 x S x S`` in [0, 1] as the transformer itself wants them."""
    network = subject.network
    x = x.to(subject.device)
    if isinstance(network, Classifier):
        x = network.normalize(x)
    return x


def names_of(model: VisionTransformer) -> tuple[str, ...]:
    """Return the names of the paths, in the order of the sum."""
    return tuple(path_names(model.config.num_layers))


def numbers_of(text: str, model: VisionTransformer) -> list[int]:
    """Return the numbers of the paths that are named.

    Raises
    ------
    OptionError
        The network has no such path.
    """
    names = names_of(model)
    return [number_of(name, names) for name in path_list(text)]


def number_of(name: str, names: Sequence[str]) -> int:
    """Return the place of a path among names; raises OptionError if there is none."""
    if name not in names:
        raise OptionError(
            f"there is no path {name!r}; the network has {names[0]} and {names[1]} to {names[-1]}"
        )
    return names.index(name)


@contextmanager
def model_opened(options: ModelOptions, context: Context) -> Iterator[Subject]:
    """Lend the transformer of options that look at no single image.

    Raises
    ------
    UnknownModelError, CardError, WeightsError, DeviceError
        The model or the device is not to be had, or it is no vision transformer.
    """
    with opened(PathOptions(model=options.model), context) as subject:
        transformer(subject)
        yield subject


def labelled_images(
    inputs: LabelledInputs, options: LabelledOptions, subject: Subject, context: Context
) -> Labelled:
    """Read labelled images as the transformer sees them, at most ``options.limit``.

    Raises
    ------
    ValueError
        There are fewer than two classes, or a label is no class of the network.
    ImageError
        An image cannot be read.
    CardError
        The network has but one class.
    """
    if len(subject.card.classes) < 2:
        raise CardError(
            f"{subject.card.name} has one class, so that it is always right; choose a classifier "
            "of two classes or more"
        )
    found = find_labelled(inputs.images, inputs.table, inputs.column)
    # By name, so that the order of work, and with it rounding, does not depend on the limit.
    chosen = sorted(spread(found, options.limit, options.seed))
    return read_labelled(chosen, subject.size, context, subject.card.classes)


def batches(
    data: Labelled, size: int, subject: Subject, context: Context
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalised images and their labels, `size` at a time, on the device."""
    for start in range(0, len(data), size):
        context.progress(start, len(data), "running images")
        here = slice(start, start + size)
        labels = torch.from_numpy(data.labels[here]).to(subject.device)
        yield normalised(subject, tensors(data.images[here])), labels


def quietly(context: Context) -> Context:
    """Return a context that is cancelled with another, but tells of no progress."""
    return Context(context.device, context.job_class, context.token, log=context.log)


def slices(
    images: Sequence[Image | Path], subject: Subject, limit: int, context: Context
) -> Iterator[tuple[str, Seen]]:
    """Yield what the network sees of the slices of some images, with the image's name.

    Raises
    ------
    ImageError
        An image cannot be used.
    Cancelled
    """
    met = 0
    for number, one in enumerate(images):
        context.progress(number, len(images), "reading")
        image = read(one) if isinstance(one, Path) else one
        planes = Planes(image, subject.options, context.check)
        for place in range(len(planes.indices())):
            if met == limit:
                return
            met += 1
            yield image.name, see_plane(planes, place, subject)


def provenance(
    subject: Subject, options: Any, seen: Seen | None = None, **more: Any
) -> dict[str, Any]:
    """Return what made a result: model, weights, options, version, device, threads, and more."""
    return subject.provenance(seen) | {"options": asdict(options)} | more


def floats(values: Tensor) -> NDArray[np.float32]:
    """Return a tensor as an array of float32."""
    found: NDArray[np.float32] = values.float().cpu().numpy()
    return found
