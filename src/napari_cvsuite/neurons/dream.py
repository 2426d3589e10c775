"""The image that a channel likes most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.subject import opened
from napari_cvsuite.neurons.maximise import maximise
from napari_cvsuite.neurons.options import MaximiseOptions
from napari_cvsuite.neurons.subject import layer_name
from napari_cvsuite.neurons.target import Target

__all__ = ["Dream", "run"]


@dataclass(frozen=True)
class Dream:
    """Outcome of an activation maximisation.

    Parameters
    ----------
    image : ndarray of float32, shape (S, S, 3)
        In [0, 1].
    layer : str
    channel : int
    scores : tuple of float
        Mean of the channel at each step.
    provenance : dict
    """

    image: NDArray[np.float32]
    layer: str
    channel: int
    scores: tuple[float, ...]
    provenance: dict[str, Any]


def run(options: MaximiseOptions, context: Context) -> Dream:
    """Search the image for which the mean of a channel is largest.

    Parameters
    ----------
    options : MaximiseOptions
    context : Context
        Told of every step, with the image so far.

    Raises
    ------
    OptionError, ValueError
        There is no such layer or channel.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    with opened(options, context) as subject:
        layer = layer_name(options.layer, subject)
        chosen = options.resolved(subject.size)
        target = Target(layer=layer, channel=options.channel)
        found = maximise(subject.network, target, chosen, context)
        pixels = found.image.permute(1, 2, 0).float().contiguous().numpy()
        layer = layer.removeprefix("model.")
        return Dream(pixels, layer, options.channel, found.scores, subject.provenance())
