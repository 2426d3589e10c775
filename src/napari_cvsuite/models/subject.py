"""What is looked at: a classifier, and what it sees of an image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_cvsuite.images import Grid, Image, ImageError
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.catalog import CardError, Catalogue, ModelCard
from napari_cvsuite.models.cnn import default_layers
from napari_cvsuite.models.device import choose_device
from napari_cvsuite.models.local import completed
from napari_cvsuite.models.planes import Pixels, Planes
from napari_cvsuite.models.store import default_store
from napari_cvsuite.models.view import Box, look, view_box
from napari_cvsuite.models.view_options import ViewOptions
from napari_cvsuite.version import __version__

__all__ = [
    "Likely",
    "Seen",
    "Subject",
    "class_number",
    "class_pair",
    "classifier_card",
    "opened",
    "see",
    "see_plane",
]


@dataclass(frozen=True)
class Seen:
    """What a network sees of an image.

    Parameters
    ----------
    pixels : ndarray of float32, shape (S, S, 3)
        In [0, 1].
    box : Box
        The part of the plane that is seen.
    index : dict
        Position of the plane along the stack axes.
    window : str
        What became black and white, in words.
    """

    pixels: Pixels
    box: Box
    index: dict[str, int]
    window: str

    def tensor(self, device: torch.device | str = "cpu") -> Tensor:
        """Return the pixels as ``1 x 3 x S x S``."""
        moved = np.ascontiguousarray(self.pixels.transpose(2, 0, 1))
        return torch.from_numpy(moved)[None].to(device)

    def grid(self, shape: tuple[int, int]) -> Grid:
        """Return where the values of a map of `shape` lie on the plane."""
        return self.box.grid(shape)


@dataclass(frozen=True)
class Likely:
    """A class with its probability and logit."""

    name: str
    probability: float
    logit: float


class Subject:
    """A classifier that a job may hook, edit and differentiate: a private plain copy.

    Parameters
    ----------
    network : nn.Module
    card : ModelCard
    device : str
    options : ViewOptions
    """

    def __init__(
        self, network: nn.Module, card: ModelCard, device: str, options: ViewOptions
    ) -> None:
        self.network, self.card, self.device, self.options = network, card, device, options

    @property
    def size(self) -> int:
        """Side of what the network sees."""
        return self.card.input.tile

    def layers(self) -> list[str]:
        """Return the layers to choose from; see :func:`default_layers`."""
        return default_layers(self.network)

    def logits(self, seen: Seen) -> Tensor:
        """Return the logits of an image, K values."""
        with torch.inference_mode():
            out: Tensor = self.network(seen.tensor(self.device))[0].float().cpu()
        return out

    def likely(self, logits: Tensor, count: int = 5) -> tuple[Likely, ...]:
        """Return the likeliest classes, the first one first."""
        shares = logits.double().softmax(dim=0)
        order = shares.argsort(descending=True, stable=True)[:count].tolist()
        return tuple(
            Likely(self.card.classes[k], float(shares[k]), float(logits[k])) for k in order
        )

    def provenance(self, seen: Seen | None = None) -> dict[str, Any]:
        """Return what made a result."""
        known: dict[str, Any] = {
            "model": self.card.name,
            "weights_sha256": completed(self.card).weights.sha256,
            "options": asdict(self.options),
            "version": __version__,
            "device": self.device,
            "precision": "float32",
            "threads": torch.get_num_threads(),
        }
        if seen is not None:
            known |= {"seen": asdict(seen.box), "index": seen.index, "window": seen.window}
        return known


def classifier_card(name: str) -> ModelCard:
    """Return the card of a classifier.

    Raises
    ------
    UnknownModelError
        There is none of that name.
    CardError
        It is for another task.
    """
    card = Catalogue().get(name)
    if card.task != "classification":
        raise CardError(f"{name} is for {card.task}, not for classification; choose a classifier")
    return card


@contextmanager
def opened(options: ViewOptions, context: Context, model: str = "") -> Iterator[Subject]:
    """Lend the classifier of some options for the length of a ``with`` block.

    Parameters
    ----------
    options : ViewOptions
    context : Context
    model : str
        Another model than that of the options.

    Raises
    ------
    UnknownModelError, CardError, WeightsError, DeviceError
        The model or the device is not to be had.
    """
    card = classifier_card(model or options.model)
    device = choose_device(context.device)
    with default_store().lease(card, device, "float32", exclusive=True) as network:
        yield Subject(network.requires_grad_(False), card, device, options)


def see(image: Image, subject: Subject, context: Context) -> Seen:
    """Return what a network sees of one plane of an image.

    Raises
    ------
    ImageError
        The image has no such slice, cannot be read, or holds no finite pixel.
    """
    planes = Planes(image, subject.options, context.check)
    return see_plane(planes, subject.options.plane, subject)


def see_plane(planes: Planes, number: int, subject: Subject) -> Seen:
    """Return what a network sees of one of several planes; see :func:`see`."""
    options, indices = subject.options, planes.indices()
    if number >= len(indices):
        raise ImageError(
            f"the image has {len(indices)} slices, 0 to {len(indices) - 1}; choose one of them "
            f"instead of {number}"
        )
    size = subject.size
    resized = int(subject.card.options.get("resize", size)) or size
    crop = min(1.0, size / resized)
    box = view_box(planes.shape, options.view, options.region, crop)
    pixels = look(planes, indices[number], box, size)
    window = planes.window
    return Seen(pixels, box, indices[number], window.rule if window else "each slice its own")


def class_number(text: str, card: ModelCard) -> int:
    """Return the number of a class that is given by its name or number.

    Raises
    ------
    OptionError
        There is no such class.
    """
    if text in card.classes:
        return card.classes.index(text)
    if text.isdecimal() and int(text) < len(card.classes):
        return int(text)
    some = ", ".join(card.classes[:12]) + (" ..." if len(card.classes) > 12 else "")
    raise OptionError(f"{card.name} has no class {text!r}; its classes are {some}")


def class_pair(text: str, card: ModelCard) -> tuple[tuple[int, int | None], str]:
    """Return the class that is asked for, the one it is compared with, and words for both.

    Parameters
    ----------
    text : str
        A class by name or number, or ``CLASS-CLASS`` for a difference.
    card : ModelCard

    Raises
    ------
    OptionError
        There is no such class.
    """
    # Names of classes can hold a dash themselves.
    if text not in card.classes:
        for place, letter in enumerate(text):
            sides = text[:place], text[place + 1 :]
            if letter == "-" and all(side in card.classes or side.isdecimal() for side in sides):
                one, other = (class_number(side, card) for side in sides)
                return (one, other), f"{card.classes[one]} - {card.classes[other]}"
    number = class_number(text, card)
    return (number, None), card.classes[number]
