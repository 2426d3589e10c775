"""How coarse or fine what paths write is over the patches, averaged over many images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.subject import Subject, opened
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths.decompose import collect
from napari_cvsuite.paths.fourier import Change, fourier, fourier_sum, frequency_change
from napari_cvsuite.paths.options import FrequencyOptions
from napari_cvsuite.paths.subject import (
    floats,
    names_of,
    normalised,
    numbers_of,
    provenance,
    quietly,
    slices,
    transformer,
)

__all__ = ["Frequencies", "run"]

BATCH = 8
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Frequencies:
    """Log amplitudes of what each path writes, relative to the mean of the image (DC).

    Parameters
    ----------
    names : tuple of str
        Of the P paths.
    frequencies : ndarray of float32, shape (F,)
        Along the diagonal of the grid of patches, in cycles a patch; the first is 0.
    curves : ndarray of float32, shape (P, F)
        Of each path; the first entry is 0.
    whole : ndarray of float32, shape (F,)
        Of the final sum.
    off : tuple of str
        Paths left out of the second sum.
    without : ndarray of float32, shape (F,), or None
        Of the sum without these.
    effect : str
        What they do: ``"raise"`` high frequencies (high-pass), ``"lower"`` them (low-pass) or
        ``"leave"`` them; empty where none was left out.
    words : str
        The same in a sentence.
    images : int
        Slices that were averaged.
    provenance : dict
    """

    names: tuple[str, ...]
    frequencies: Floats
    curves: Floats
    whole: Floats
    off: tuple[str, ...]
    without: Floats | None
    effect: str
    words: str
    images: int
    provenance: dict[str, Any]

    def finer(self) -> tuple[bool, ...]:
        """Return whether each path is finer than the sum, at the highest frequency."""
        return tuple(bool(one) for one in self.curves[:, -1] > self.whole[-1])

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each path and sum, with its curve."""
        named = [*zip(self.names, self.curves, strict=True), ("sum", self.whole)]
        if self.without is not None:
            named.append((f"sum without {'+'.join(self.off)}", self.without))
        return [
            {"path": name, "n": self.images}
            | {f"{f:.3f}": float(v) for f, v in zip(self.frequencies, curve, strict=True)}
            for name, curve in named
        ]


def run(images: Sequence[Image | Path], options: FrequencyOptions, context: Context) -> Frequencies:
    """Average the spectra of what paths write over all slices of some images.

    Parameters
    ----------
    images : sequence of Image or Path
        Files are read one at a time.
    options : FrequencyOptions
    context : Context

    Raises
    ------
    ImageError
        An image cannot be used, or there is none.
    OptionError
        There is no such path, or none would be left.
    ValueError
        The network's grid of patches is too small.
    UnknownModelError, CardError, WeightsError, DeviceError, Cancelled
    """
    with opened(options, context) as subject:
        model = transformer(subject)
        off, side = numbers_of(options.off, model), model.config.grid
        if len(off) == model.config.num_paths:
            raise OptionError("leave at least one path in the sum")
        if side < 3:
            raise ValueError(
                f"{options.model} has {side} x {side} patches, which know no frequency; choose a "
                "model with 3 x 3 or more"
            )
        sums, count = _summed(model, _batches(images, subject, options, context), off, context)
        means = sums / count
        whole, without = means[-2], means[-1]
        change = frequency_change(whole, without) if off else None
        return Frequencies(
            names_of(model),
            (np.arange(means.shape[1]) / side).astype(np.float32),
            floats(means[:-2]),
            floats(whole),
            tuple(names_of(model)[number] for number in off),
            floats(without) if off else None,
            change.effect if change else "",
            _words(change, count),
            count,
            provenance(subject, options, intervention="removed_final", images=count),
        )


def _batches(
    images: Sequence[Image | Path],
    subject: Subject,
    options: FrequencyOptions,
    context: Context,
) -> Iterator[Tensor]:
    found = slices(images, subject, options.limit, context)
    while part := list(islice(found, BATCH)):
        yield normalised(subject, torch.cat([seen.tensor() for _, seen in part]))


def _summed(
    model: VisionTransformer, images: Iterator[Tensor], off: list[int], context: Context
) -> tuple[Tensor, int]:
    """Return curves of the paths, of the sum and of the sum without some, times the images."""
    sums, count = torch.zeros(()), 0
    for x in images:
        paths = collect(model, x, quietly(context))
        curves = [*fourier(model, paths), fourier_sum(model, paths), fourier_sum(model, paths, off)]
        # A mean of logarithms over images: batches count by their size.
        sums = sums + len(x) * torch.stack(curves).double().cpu()
        count += len(x)
    if not count:
        raise ImageError("there are no images to average over; give one or more")
    return sums, count


def _words(change: Change | None, count: int) -> str:
    if change is None:
        return ""
    noisy = " One image is noisy; average more." if count == 1 else ""
    return change.sentence + noisy
