"""Which class leads at each place of an image: what a classifier has to say of a pixel."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.images import Grid, Image
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.subject import Likely, Subject, opened, see
from napari_cvsuite.neurons.activations import activations
from napari_cvsuite.neurons.class_map_options import ClassMapOptions

__all__ = ["MEASURES", "ClassMap", "position_logits", "run", "window_logits"]

MEASURES = {
    "positions": "At each position of the last layer the class with the largest of the logits "
    "that the linear layer gives this position alone; their mean over all positions is the "
    "network's own logit (definition of this project, after class activation mapping, arXiv "
    "1512.04150).",
    "windows": "At each place the class that the network predicts where what it sees is moved so "
    "that its middle lies there; what is beyond the edge is mirrored (definition of this "
    "project).",
}
"""How the class of a place is found, in words, by the name of the measure."""
BATCH = 16
"""Windows at a time."""


@dataclass(frozen=True)
class ClassMap:
    """The class that leads at each place of what a network sees.

    Parameters
    ----------
    numbers : ndarray of int64, shape (h, w)
        Classes, from 0.
    classes : tuple of str
        Names of all classes of the network.
    grid : Grid
        Where the values lie on the plane.
    measure : str
        One of :data:`MEASURES`.
    likely : tuple of Likely
        The likeliest classes of all that is seen.
    provenance : dict
    """

    numbers: NDArray[np.int64]
    classes: tuple[str, ...]
    grid: Grid
    measure: str
    likely: tuple[Likely, ...]
    provenance: dict[str, Any]

    @property
    def words(self) -> str:
        """What the map shows."""
        return MEASURES[self.measure]

    @property
    def labels(self) -> NDArray[np.uint16]:
        """The classes counted from 1, as 0 is no label."""
        return (self.numbers + 1).astype(np.uint16)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row a class that leads anywhere, the most frequent first.

        Each has the class, its label and the share of places at which it leads.
        """
        counts = Counter(self.numbers.ravel().tolist())
        return [
            {"class": self.classes[k], "label": k + 1, "share": count / self.numbers.size}
            for k, count in counts.most_common()
        ]

    def class_at(self, y: float, x: float) -> str | None:
        """Return the class at a place of the plane; None where the network does not see it.

        Parameters
        ----------
        y, x : float
            In pixels of the plane, whose centres are whole numbers.
        """
        steps = zip((y, x), self.grid.origin, self.grid.step, strict=True)
        cell = [int(np.floor((place - start) / step + 0.5)) for place, start, step in steps]
        if not all(0 <= one < side for one, side in zip(cell, self.numbers.shape, strict=True)):
            return None
        return self.classes[int(self.numbers[cell[0], cell[1]])]


def run(image: Image, options: ClassMapOptions, context: Context) -> ClassMap:
    """Find the class that leads at each place of what a network sees.

    Parameters
    ----------
    image : Image
    options : ClassMapOptions
    context : Context

    Raises
    ------
    ImageError
        The image cannot be used; the message says what to do.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    with opened(options, context) as subject:
        seen = see(image, subject, context)
        x, logits = seen.tensor(subject.device), subject.logits(seen)
        found, measure = position_logits(subject, x, logits), "positions"
        if found is None:
            found = window_logits(subject.network, x, options.cells, context)
            measure = "windows"
        numbers = found.argmax(dim=2).numpy()
        return ClassMap(
            numbers,
            subject.card.classes,
            seen.grid((numbers.shape[0], numbers.shape[1])),
            measure,
            subject.likely(logits),
            subject.provenance(seen),
        )


def position_logits(subject: Subject, x: Tensor, logits: Tensor) -> Tensor | None:
    """Return the logits that each position of the last layer has by itself.

    A linear layer behind a mean over positions may as well stand before it. Whether a network ends
    so is not read from its structure but tried: the mean of the result has to be its logits.

    Parameters
    ----------
    subject : Subject
    x : Tensor, shape (1, 3, S, S)
        What the network sees.
    logits : Tensor, shape (K,)
        Of all that is seen.

    Returns
    -------
    Tensor, shape (h, w, K), or None
        On the CPU; None if the network ends in another way.
    """
    layers = subject.layers()
    linear = [one for one in subject.network.modules() if isinstance(one, nn.Linear)]
    if not layers or not linear:
        return None
    maps = activations(subject.network, x, layers[-1:])[layers[-1]][0]
    head = linear[-1]
    if len(maps) != head.in_features or len(logits) != head.out_features:
        return None
    with torch.inference_mode():
        found = F.linear(maps.permute(1, 2, 0), head.weight, head.bias).float().cpu()
    close = 1e-4 * float(logits.abs().max())
    return found if torch.allclose(found.mean((0, 1)), logits, rtol=0, atol=close) else None


def window_logits(network: nn.Module, x: Tensor, cells: int, context: Context) -> Tensor:
    """Return the logits of windows of the size of an image, their middles on a grid over it.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    x : Tensor, shape (1, 3, S, S)
        Mirrored at its border, without doubling the pixels there.
    cells : int
        Windows along a side.
    context : Context

    Returns
    -------
    Tensor, shape (cells, cells, K)
        On the CPU.
    """
    side = x.shape[-1]
    margin = side // 2
    wide = F.pad(x, (margin,) * 4, mode="reflect")
    starts = [margin + round((cell + 0.5) * side / cells - side / 2) for cell in range(cells)]
    places = [(top, left) for top in starts for left in starts]
    found = []
    for first in range(0, len(places), BATCH):
        context.progress(first, len(places), "windows")
        windows = [
            wide[0, :, top : top + side, left : left + side]
            for top, left in places[first : first + BATCH]
        ]
        with torch.inference_mode():
            found.append(network(torch.stack(windows)).float().cpu())
    return torch.cat(found).view(cells, cells, -1)
