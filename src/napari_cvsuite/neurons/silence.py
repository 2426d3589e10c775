"""Silence channels of a layer and see what the prediction of an image becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images import Image
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.subject import Likely, opened, see
from napari_cvsuite.neurons.ablation import ablate, ablate_each, channel_means
from napari_cvsuite.neurons.options import AblateOptions, channel_list
from napari_cvsuite.neurons.subject import layer_name

__all__ = ["Silenced", "run"]


@dataclass(frozen=True)
class Silenced:
    """Outcome for one image.

    Parameters
    ----------
    layer, mode : str
    channels : tuple of int
        Channels that were changed together; empty where each was changed in turn.
    target : str
        The class predicted before.
    before, after : tuple of Likely
        The likeliest classes; `after` is empty where each channel was changed in turn.
    drop : ndarray of float64, shape (C,)
        How much less probable the class became: one value for each channel in turn, or one for
        all together.
    changed : ndarray of bool, shape (C,)
        Whether the prediction changed.
    provenance : dict
    """

    layer: str
    mode: str
    channels: tuple[int, ...]
    target: str
    before: tuple[Likely, ...]
    after: tuple[Likely, ...]
    drop: NDArray[np.float64]
    changed: NDArray[np.bool_]
    provenance: dict[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each change: channels, drop and whether the prediction changed."""
        names = [",".join(map(str, self.channels))] if self.channels else range(len(self.drop))
        return [
            {"channels": str(name), "drop": float(drop), "changed": bool(changed)}
            for name, drop, changed in zip(names, self.drop, self.changed, strict=True)
        ]


def run(image: Image, options: AblateOptions, context: Context) -> Silenced:
    """Change channels of a layer, all those named together or each channel in turn.

    Parameters
    ----------
    image : Image
    options : AblateOptions
    context : Context

    Raises
    ------
    ImageError, OptionError, ValueError
        The image cannot be used, or there is no such layer or channel.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    channels = channel_list(options.silenced)
    with opened(options, context) as subject:
        seen = see(image, subject, context)
        network, x = subject.network, seen.tensor(subject.device)
        layer = layer_name(options.layer, subject)
        plain = subject.logits(seen)
        best = int(plain.argmax())
        means = channel_means(network, layer, x) if options.mode == "mean" else None
        if channels:
            given = {layer: means} if means is not None else None
            logits = ablate(network, x, {layer: channels}, options.mode, given).cpu()
        else:
            logits = ablate_each(network, x, layer, options.mode, means, context=context)[
                :, 0
            ].cpu()
        share = logits.double().softmax(dim=1)[:, best].numpy()
        return Silenced(
            layer.removeprefix("model."),
            options.mode,
            channels,
            subject.card.classes[best],
            subject.likely(plain),
            subject.likely(logits[0].float()) if channels else (),
            float(plain.double().softmax(dim=0)[best]) - share,
            (logits.argmax(dim=1) != best).numpy(),
            subject.provenance(seen),
        )
