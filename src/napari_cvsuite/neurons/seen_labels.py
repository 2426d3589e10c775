"""Labels of an image, cut to what a network sees of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images import Image, ImageError, cut_along
from napari_cvsuite.images.resize import resize_nearest
from napari_cvsuite.models.planes import Planes
from napari_cvsuite.models.subject import Seen, Subject

__all__ = ["matching_labels", "seen_mask", "seen_plane"]


def matching_labels(labels: Image, planes: Planes, axis: str) -> Image:
    """Return labels cut like their image.

    Parameters
    ----------
    labels : Image
        With as many slices as the image, or one for all of them.
    planes : Planes
        Of the image.
    axis : str
        Along which the image was cut.

    Raises
    ------
    ImageError
        They are no integers, or of another size.
    """
    cut = cut_along(labels, axis).image
    if np.dtype(cut.data.dtype).kind not in "bui":
        raise ImageError(f"{labels.name} holds {cut.data.dtype}; labels are whole numbers")
    shape = (cut.size("y"), cut.size("x"))
    if shape != planes.shape or cut.n_planes not in (1, len(planes.indices())):
        raise ImageError(
            f"{labels.name} has {cut.n_planes} slices of {shape[1]} x {shape[0]} pixels, its image "
            f"{len(planes.indices())} of {planes.shape[1]} x {planes.shape[0]}; choose labels of "
            "the same size"
        )
    return cut


def seen_plane(labels: Image, index: Mapping[str, int], seen: Seen) -> NDArray[Any]:
    """Return the labels of what is seen, h x w, pixel for pixel.

    Parameters
    ----------
    labels : Image
        See :func:`matching_labels`.
    index : mapping of str to int
        Position of the plane along the stack axes of the image.
    seen : Seen
    """
    box = seen.box
    rows = slice(int(np.floor(box.top)), int(np.ceil(box.top + box.height)))
    columns = slice(int(np.floor(box.left)), int(np.ceil(box.left + box.width)))
    one = {axis: place for axis, place in index.items() if axis in labels.stack_axes}
    plane = labels.plane(one, rows=rows, columns=columns)
    return plane if plane.ndim == 2 else plane[..., 0]


def seen_mask(labels: Image, planes: Planes, seen: Seen, subject: Subject) -> NDArray[np.bool_]:
    """Return where the object is in what a network sees.

    Parameters
    ----------
    labels : Image
        Not 0 where the object is; of the size of the image, with as many slices or one.
    planes : Planes
        Of the image.
    seen : Seen
    subject : Subject

    Returns
    -------
    ndarray of bool, shape (S, S)

    Raises
    ------
    ImageError
        The labels are no integers or of another size, or there is none in what is seen.
    """
    cut = matching_labels(labels, planes, subject.options.axis)
    size = (subject.size, subject.size)
    mask: NDArray[np.bool_] = resize_nearest(seen_plane(cut, seen.index, seen), size) != 0
    if not mask.any():
        raise ImageError(
            f"{labels.name} marks nothing in what the network sees of this slice, or something "
            "smaller than its pixels; draw the object there, or choose another region"
        )
    return mask
