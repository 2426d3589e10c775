"""Channels of a layer: their mean and maximum, and the patches that excite them most."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.neurons.activations import activations
from napari_cvsuite.neurons.fields import ReceptiveField

__all__ = [
    "Channels",
    "Images",
    "TopImages",
    "boxes",
    "channels",
    "distinct_classes",
    "patch_distance",
    "patches",
    "top_images",
]


class Images(Protocol):
    """Images by number, so that they may be loaded one at a time; a list of tensors is one."""

    def __getitem__(self, number: int, /) -> Tensor:
        """Return an image, float in [0, 1], shape (3, H, W)."""


@dataclass(frozen=True)
class TopImages:
    """The k images in which each channel has its largest values, the largest first.

    Of equal values the earlier image comes first, and in it the first position by rows.

    Parameters
    ----------
    index : ndarray of int64, shape (U, k)
        Number of the image.
    position : ndarray of int64, shape (U, k, 2)
        Row and column in the layer's map.
    value : ndarray of float, shape (U, k)
    """

    index: NDArray[np.int64]
    position: NDArray[np.int64]
    value: NDArray[Any]


@dataclass(frozen=True)
class Channels:
    """Statistics of the channels of a layer over images.

    Parameters
    ----------
    mean, maximum : ndarray of float64, shape (U,)
        Over all positions and images.
    top : TopImages
    """

    mean: NDArray[np.float64]
    maximum: NDArray[np.float64]
    top: TopImages

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each channel, counted from 0."""
        pairs = zip(self.mean.tolist(), self.maximum.tolist(), strict=True)
        return [{"channel": n, "mean": m, "max": top} for n, (m, top) in enumerate(pairs)]


def top_images(acts: NDArray[Any], k: int) -> TopImages:
    """Return the images with the largest spatial maximum of each channel.

    Parameters
    ----------
    acts : ndarray of float, shape (N, U, h, w)
        Finite.
    k : int
        One or more; at most N images are returned.

    Raises
    ------
    ValueError
        There are no maps, they are not finite, or k is below one.
    """
    if k < 1:
        raise ValueError(f"k must be 1 or more; got {k}")
    if acts.ndim != 4 or acts.size == 0:
        raise ValueError(
            f"maps must have the shape N x U x h x w, none of them 0; got {acts.shape}"
        )
    if not np.isfinite(acts).all():
        raise ValueError("activations must be finite; check images and weights for NaN")
    flat = acts.reshape(*acts.shape[:2], -1)
    place = flat.argmax(axis=2)
    found = TopImages(
        index=np.tile(np.arange(len(acts)), (acts.shape[1], 1)),
        position=np.stack(np.divmod(place.T, acts.shape[3]), axis=2),
        value=np.take_along_axis(flat, place[..., None], axis=2)[..., 0].T,
    )
    return _largest(found, k)


def _largest(found: TopImages, k: int) -> TopImages:
    """Keep k images a channel; the sort is stable, so earlier ones win ties."""
    order = np.argsort(-found.value, axis=1, kind="stable")[:, :k]
    return TopImages(
        index=np.take_along_axis(found.index, order, axis=1),
        position=np.take_along_axis(found.position, order[..., None], axis=1),
        value=np.take_along_axis(found.value, order, axis=1),
    )


def channels(
    network: nn.Module,
    layer: str,
    images: Iterable[Tensor],
    k: int,
    context: Context,
    batch: int = 8,
) -> Channels:
    """Run a network once over images, and keep each channel's statistics and top images.

    Memory does not depend on the number of images.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    layer : str
    images : iterable of Tensor, shape (3, H, W)
        Float in [0, 1], all of one size.
    k : int
        Images kept a channel.
    context : Context
    batch : int
        Images that the network takes at once.

    Raises
    ------
    ValueError
        There are no images, they differ in shape or are not finite, the layer gives no finite
        maps, or k or batch is below one.
    Cancelled
        The job was cancelled.
    """
    if batch < 1:
        raise ValueError(f"batch must be 1 or more; got {batch}")
    total, done, positions = operator.length_hint(images), 0, 0
    sums: NDArray[np.float64] | None = None
    top: TopImages | None = None
    for held in _batches(images, batch):
        context.progress(done, total, "running the network")
        found = activations(network, held, [layer])[layer].cpu()
        maps = (found if found.dtype == torch.float64 else found.float()).numpy()
        here = top_images(maps, k)
        here = TopImages(here.index + done, here.position, here.value)
        total_here = maps.sum(axis=(0, 2, 3), dtype=np.float64)
        sums = total_here if sums is None else sums + total_here
        top = here if top is None else _largest(_joined(top, here), k)
        done, positions = done + len(maps), positions + maps[:, 0].size
    if sums is None or top is None:
        raise ValueError("there are no images; give one or more")
    return Channels(sums / positions, top.value[:, 0].astype(np.float64), top)


def _batches(images: Iterable[Tensor], batch: int) -> Iterator[Tensor]:
    source, shape = iter(images), None
    while held := list(islice(source, batch)):
        shape = shape or held[0].shape
        for image in held:
            if image.shape != shape:
                raise ValueError(
                    f"images have the shapes {tuple(shape)} and {tuple(image.shape)}; resize all "
                    "to the network's size"
                )
        yield torch.stack(held)


def _joined(first: TopImages, second: TopImages) -> TopImages:
    return TopImages(
        index=np.concatenate([first.index, second.index], axis=1),
        position=np.concatenate([first.position, second.position], axis=1),
        value=np.concatenate([first.value, second.value], axis=1),
    )


def boxes(top: TopImages, field: ReceptiveField, image_shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return what the top positions see: top, left, bottom, right (exclusive), in the image.

    Parameters
    ----------
    top : TopImages
    field : ReceptiveField
        Of the layer.
    image_shape : tuple of two int
        Height and width of the images.

    Returns
    -------
    ndarray of int64, shape (U, k, 4)
    """
    cells = top.position.reshape(-1, 2).tolist()
    found = [field.box((row, column), image_shape) for row, column in cells]
    return np.array(found, np.int64).reshape(*top.index.shape, 4)


def distinct_classes(index: NDArray[np.int64], classes: Sequence[int]) -> NDArray[np.int64]:
    """Return how many classes are among each channel's top images, shape (U,).

    Definition of this project for how many types of inputs a channel detects; not the measure of
    Chen et al. 2020, which is not published.

    Parameters
    ----------
    index : ndarray of int, shape (U, k)
        Of :class:`TopImages`.
    classes : sequence of int
        Class of every image.

    Raises
    ------
    ValueError
        There are fewer classes than images.
    """
    if index.max() >= len(classes):
        raise ValueError(f"image {index.max()} has no class; give the class of every image")
    known = np.asarray(classes)
    return np.array([len(np.unique(known[one])) for one in index], np.int64)


def patches(
    images: Images,
    top: TopImages,
    field: ReceptiveField,
    chosen: Sequence[int],
    context: Context,
    side: int = 32,
) -> Tensor:
    """Cut the top patches of some channels, resized to squares; each image is loaded once.

    Patches are what the position sees of the image, shrunk with averaging.

    Parameters
    ----------
    images : Images
        Those that `top` is of.
    top : TopImages
    field : ReceptiveField
        Of the layer.
    chosen : sequence of int
        Channels.
    context : Context
    side : int
        In pixels.

    Returns
    -------
    Tensor of float32, shape (len(chosen), k, 3, side, side)

    Raises
    ------
    ValueError
        There is no such channel, or `side` is below one.
    Cancelled
        The job was cancelled.
    """
    wanted = np.asarray(chosen, np.int64)
    if wanted.size == 0 or wanted.min() < 0 or wanted.max() >= len(top.index) or side < 1:
        raise ValueError(
            f"channels must lie between 0 and {len(top.index) - 1} and side be 1 or more; got "
            f"{list(chosen)} and {side}"
        )
    index, position = top.index[wanted], top.position[wanted]
    found = torch.empty(*index.shape, 3, side, side)
    numbers = np.unique(index).tolist()
    for done, number in enumerate(numbers):
        context.progress(done, len(numbers), "cutting patches")
        image = images[number]
        for channel, rank in np.argwhere(index == number).tolist():
            row, column = position[channel, rank].tolist()
            above, left, below, right = field.box((row, column), (image.shape[1], image.shape[2]))
            patch = image[None, :, above:below, left:right].float()
            found[channel, rank] = F.interpolate(
                patch, size=(side, side), mode="bilinear", align_corners=False, antialias=True
            )[0]
    return found


def patch_distance(cut: Tensor) -> NDArray[np.float64]:
    """Return the mean distance between the pairs of each channel's patches, shape (U,).

    The distance of two patches is the root of the mean squared difference of their values, in
    [0, 1]; channels that detect few types of inputs have small ones. A single patch has distance
    0. Definition of this project.

    Parameters
    ----------
    cut : Tensor of float, shape (U, k, 3, side, side)
        From :func:`patches`.

    Raises
    ------
    ValueError
        The shape is another.
    """
    if cut.ndim != 5:
        raise ValueError(f"patches must have the shape U x k x 3 x side x side; got {cut.shape}")
    flat = cut.flatten(2).double()
    count = flat.shape[1]
    if count == 1:
        return np.zeros(len(flat))
    means = [torch.nn.functional.pdist(one).mean() for one in flat / flat.shape[2] ** 0.5]
    return torch.stack(means).cpu().numpy()
