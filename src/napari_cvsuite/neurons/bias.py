"""Shape or texture: what a classifier decides on cue-conflict images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.subject import opened
from napari_cvsuite.neurons.options import BiasOptions
from napari_cvsuite.neurons.shape_bias import (
    ShapeBias,
    categories16,
    categories_of,
    parse_name,
    shape_bias,
)
from napari_cvsuite.training.labelled import read_labelled, tensors

__all__ = ["Conflict", "conflict", "find_stimuli"]

IMAGENET = 1000


@dataclass(frozen=True)
class Conflict:
    """Outcome on a folder of cue-conflict images.

    Parameters
    ----------
    bias : ShapeBias
    categories : tuple of str
        Those of the 16 that the classifier has.
    note : str
        What the numbers may be compared with.
    provenance : dict
    """

    bias: ShapeBias
    categories: tuple[str, ...]
    note: str
    provenance: dict[str, Any]

    def in_words(self) -> str:
        """Return one line."""
        total = self.bias.total
        rate = total.bias
        shown = "none" if rate is None else f"{rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]"
        return (
            f"shape bias {shown}; shape {total.shape_share:.3f}, texture "
            f"{total.texture_share:.3f} of {total.n} images. {self.note}"
        ).strip()


def find_stimuli(folder: Path) -> list[Path]:
    """Return the cue-conflict images in a folder and its folders, by name.

    Raises
    ------
    ValueError
        There is none.
    """
    found = []
    for path in sorted(folder.rglob("*.png")):
        try:
            parse_name(path.name)
        except ValueError:
            continue
        found.append(path)
    if not found:
        raise ValueError(
            f"{folder} holds no cue-conflict image; they are named SHAPE1-TEXTURE1.png, such as "
            "cat3-elephant1.png"
        )
    return found


def conflict(folder: Path, options: BiasOptions, context: Context) -> Conflict:
    """Count decisions for shape and for texture on cue-conflict images (Geirhos et al. 2019).

    Parameters
    ----------
    folder : Path
        Of images named ``SHAPE1-TEXTURE1.png``.
    options : BiasOptions
        With the model.
    context : Context

    Raises
    ------
    ValueError, ImageError
        There is no such image, one cannot be read, or the classifier knows fewer than two of the
        categories.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    paths = find_stimuli(folder)
    with opened(options, context) as subject:
        card = subject.card
        known = categories16() if len(card.classes) == IMAGENET else categories_of(card.classes)
        usable = [path for path in paths if set(parse_name(path.name)) <= set(known)]
        if not usable:
            raise ValueError(f"no image of {folder} has categories that {card.name} knows")
        logits = []
        for start in range(0, len(usable), options.batch):
            context.progress(start, len(usable), "deciding")
            part = [(path, "") for path in usable[start : start + options.batch]]
            data = read_labelled(part, subject.size, Context(token=context.token), ("",))
            with torch.inference_mode():
                logits.append(subject.network(tensors(data.images).to(subject.device)).cpu())
        names = [path.name for path in usable]
        found = shape_bias(torch.cat(logits).float(), names, known, options.rule)
        note = ""
        if len(card.classes) != IMAGENET:
            note = "Own classes: not comparable with published values."
        return Conflict(found, tuple(known), note, subject.provenance())
