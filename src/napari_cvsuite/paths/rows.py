"""What the classifier reads of every path, kept for a set of images, and scores made from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.paths.decompose import Paths, collect
from napari_cvsuite.paths.decompose import rows as rows_read
from napari_cvsuite.paths.exact import exact
from napari_cvsuite.paths.reading import checked, classify_rows

__all__ = [
    "LIMIT",
    "Rows",
    "RowsMemoryError",
    "Score",
    "cache_rows",
    "check_alpha",
    "chunks",
    "combined",
    "logits_of",
    "rows_from",
    "score",
    "score_of",
]

LIMIT = 2 * 1024**3
"""Bytes that :func:`cache_rows` keeps at most."""
_CHUNK = 64 * 1024**2


class RowsMemoryError(ValueError):
    """The rows of so many images take more memory than was allowed; the message says how much."""


@dataclass(frozen=True, eq=False, repr=False)
class Rows:
    """What the heads read of every path of a set of images.

    Parameters
    ----------
    values : Tensor of float32, shape (P, N, Q, R, D)
        For N images, Q heads (2 in distilled networks) and R rows of each: 1, or all patches
        where the norm comes before the average.
    labels : Tensor of int64, shape (N,), or None
    """

    values: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return self.values.shape[1]

    def wanted(self, classes: int) -> Tensor:
        """Return the labels.

        Raises
        ------
        ValueError
            There are none, or one is no class of the network.
        """
        if self.labels is None:
            raise ValueError("the images have no labels; put them into one folder a class")
        if not len(self):
            raise ValueError("there are no images")
        if self.labels.min() < 0 or self.labels.max() >= classes:
            raise ValueError(
                f"labels must lie in 0..{classes - 1}; got {int(self.labels.min())}.."
                f"{int(self.labels.max())}"
            )
        return self.labels


@dataclass(frozen=True)
class Score:
    """How good predictions are.

    Parameters
    ----------
    loss : float
        Mean cross-entropy.
    accuracy : float
        Share of the images whose class is found.
    images : int
    """

    loss: float
    accuracy: float
    images: int


def cache_rows(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor | None]],
    context: Context | None = None,
    limit: int = LIMIT,
) -> Rows:
    """Run a network over a set of images once and keep what its heads read of every path.

    Parameters
    ----------
    model : nn.Module
    batches : iterable of (Tensor, Tensor)
        Normalised images ``B x 3 x S x S`` and labels ``B``, or None in place of these.
    context : Context, optional
        Asked for cancellation between modules; told of progress.
    limit : int
        Most bytes to keep.

    Raises
    ------
    NotDecomposableError
        The network is no vision transformer.
    RowsMemoryError
        The limit is passed.
    ValueError
        Images do not fit, or there are none; labels are not whole numbers, one an image.
    Cancelled
    """
    context = context or Context()
    total = len(batches) if isinstance(batches, list | tuple) else 0
    parts: list[Rows] = []
    size = 0
    for done, (x, labels) in enumerate(batches):
        context.progress(done, total, "running images")
        parts.append(rows_from(model, collect(model, x, context), labels))
        values = parts[-1].values
        size += values.numel() * values.element_size()
        if size > limit:
            images = sum(map(len, parts))
            raise RowsMemoryError(
                f"what the classifier reads of {images} images takes more than "
                f"{limit / 1024**2:.0f} MiB ({size / images / 1024**2:.2f} MiB an image); use "
                f"at most {int(limit * images / size)} images"
            )
    if not parts:
        raise ValueError("there are no images; choose a folder or layer that has some")
    labelled = [part.labels for part in parts if part.labels is not None]
    if labelled and len(labelled) != len(parts):
        raise ValueError("some images have labels and some have none")
    values = torch.cat([part.values for part in parts], dim=1)
    return Rows(values, torch.cat(labelled) if labelled else None)


@exact()
def rows_from(model: nn.Module, paths: Paths, labels: Tensor | None = None) -> Rows:
    """Return the rows of images whose paths are at hand.

    Raises
    ------
    ValueError
        The labels are not whole numbers, one an image.
    """
    count = len(paths.logits)
    if labels is not None and (labels.is_floating_point() or tuple(labels.shape) != (count,)):
        raise ValueError(f"give one whole number as label for each of {count} images")
    kept = None if labels is None else labels.to(paths.logits.device, torch.int64)
    return Rows(rows_read(model, paths), kept)


def chunks(rows: Rows) -> Iterator[slice]:
    """Yield slices of the images, small enough to be worked on at once."""
    one = max(1, rows.values[:, :1].numel() * rows.values.element_size())
    step = max(1, _CHUNK // one)
    for start in range(0, len(rows), step):
        yield slice(start, start + step)


def logits_of(model: nn.Module, rows: Rows, alpha: Tensor | None = None) -> Tensor:
    """Return the logits ``N x K`` of the sum of the paths, weighed.

    Parameters
    ----------
    model : nn.Module
    rows : Rows
    alpha : Tensor, shape (P,) or (P, D), optional
        Weights of the paths, in addition to those of an EnsembleScale; default 1.

    Raises
    ------
    ValueError
        The weights have another shape.
    """
    network = checked(model)
    if alpha is not None:
        check_alpha(network, alpha)
    found = [classify_rows(network, combined(rows.values[:, part], alpha)) for part in chunks(rows)]
    return torch.cat(found)


def check_alpha(model: VisionTransformer, alpha: Tensor) -> None:
    """Raise ValueError if weights fit neither the paths nor their channels."""
    config = model.config
    if tuple(alpha.shape) not in ((config.num_paths,), (config.num_paths, config.hidden_dim)):
        raise ValueError(
            f"the weights must have shape {config.num_paths}, or {config.num_paths} x "
            f"{config.hidden_dim}; got {' x '.join(map(str, alpha.shape))}"
        )


def combined(values: Tensor, alpha: Tensor | None) -> Tensor:
    """Return the weighed sum ``N x Q x R x D`` of rows ``P x N x Q x R x D``."""
    if alpha is None:
        return values.sum(dim=0)
    # Faster than a product of matrices that are as long as they are thin.
    summed = values[0] * alpha[0]
    for part, weight in zip(values[1:], alpha[1:], strict=True):
        summed = torch.addcmul(summed, part, weight)
    return summed


def score_of(logits: Tensor, labels: Tensor) -> Score:
    """Return the mean cross-entropy and the accuracy of logits ``N x K``."""
    loss = F.cross_entropy(logits, labels)
    right = (logits.argmax(dim=1) == labels).double().mean()
    return Score(float(loss), float(right), len(labels))


@exact()
def score(model: nn.Module, rows: Rows, alpha: Tensor | None = None) -> Score:
    """Return how good the predictions of a weighed sum are.

    Raises
    ------
    ValueError
        The images have no labels, or one that is no class; the weights have another shape.
    """
    network = checked(model)
    labels = rows.wanted(network.config.num_classes)
    return score_of(logits_of(network, rows, alpha), labels)
