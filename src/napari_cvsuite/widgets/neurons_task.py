"""What the user of the Neurons dock chose to be done; knows no Qt and loads no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from napari_cvsuite.images import Image
from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.options import Options
from napari_cvsuite.neurons.options import NeuronOptions

__all__ = ["PairData", "Task"]


@dataclass(frozen=True)
class PairData:
    """Files that a report on a pair is made from; `out` is the folder that it is written into."""

    images: Path | None = None
    table: Path | None = None
    column: str = "label"
    stimuli: Path | None = None
    masks: Path | None = None
    names: Path | None = None
    out: Path | None = None


@dataclass(frozen=True)
class Task:
    """What the user chose.

    Parameters
    ----------
    options : Options
    models : tuple of str
        The model of the options first, then the one that it is compared with, if any.
    image : Image, optional
    folder : Path, optional
    labels : tuple of Image
        Labels layers that are concepts.
    together : bool
        Whether a Labels layer is one concept, not each of its numbers.
    mask : Image, optional
        A Labels layer that shows an object.
    data : PairData
        Of a report.
    """

    options: Options
    models: tuple[str, ...]
    image: Image | None = None
    folder: Path | None = None
    labels: tuple[Image, ...] = ()
    together: bool = True
    mask: Image | None = None
    data: PairData = field(default_factory=PairData)

    def each(self, context: Context) -> Iterator[tuple[Any, Context]]:
        """Yield the options of every model, with a context for its share of the work."""
        assert isinstance(self.options, NeuronOptions)
        for number, model in enumerate(self.models):
            inner = context
            if len(self.models) > 1:
                inner = context.part(number, len(self.models), model)
            yield replace(self.options, model=model), inner
