"""Cut a volume into planes along any of its axes, and put results back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from napari_cvsuite.images.image import Image, ImageError

__all__ = ["Cut", "cut_along"]


@dataclass(frozen=True)
class Cut:
    """An image seen as planes, and the way back.

    Parameters
    ----------
    image : Image
        Its y and x are the rows and columns of the planes, whatever they are in the original.
    source : tuple of str
        For every axis of a result (stack axes, then y and x) the original's axis it runs along.
    axes : str
        Stack axes, then y and x, in the order of the original.
    """

    image: Image
    source: tuple[str, ...]
    axes: str

    def restore(self, array: NDArray[Any], inner: int = 0) -> NDArray[Any]:
        """Return a result in the axis order of the original, as a view.

        Parameters
        ----------
        array : ndarray, shape (stack axes..., inner..., H, W)
        inner : int
            Number of axes between the stack and the plane; they keep their place.
        """
        between = tuple(f"inner {number}" for number in range(inner))
        have = (*self.source[:-2], *between, *self.source[-2:])
        want = (*self.axes[:-2], *between, *self.axes[-2:])
        return array.transpose([have.index(axis) for axis in want])

    def index(
        self, plane: Mapping[str, int], rows: slice, columns: slice
    ) -> tuple[int | slice, ...]:
        """Return the index of a part of a plane in a restored result."""
        stack = [plane[axis] for axis in self.image.stack_axes]
        at: list[int | slice] = [*stack, rows, columns]
        found = dict(zip(self.source, at, strict=True))
        return tuple(found[axis] for axis in self.axes)


def cut_along(image: Image, axis: str = "auto") -> Cut:
    """See an image as planes along an axis; nothing is loaded.

    Parameters
    ----------
    image : Image
    axis : str
        "auto", or one of the stack axes, leaves y and x as the planes. With "y" or "x" the last
        stack axis takes its place: a volume zyx cut along y has planes of z and x.

    Raises
    ------
    ImageError
        The image has no such axis, or is a single plane.
    """
    axes = "".join(image.stack_axes) + "yx"
    if axis == "auto" or axis in image.stack_axes:
        return Cut(image, tuple(axes), axes)
    if axis not in axes:
        raise ImageError(
            f"the image has no axis {axis!r} to cut along, only {', '.join(axes)}; "
            "choose one of these or 'auto'"
        )
    if not image.stack_axes:
        raise ImageError(f"a single plane cannot be cut along {axis!r}; choose axis 'auto'")
    last = image.stack_axes[-1]
    roles = {last: axis, "y": last, "x": "x" if axis == "y" else "y"}
    order = [image.axes.index(roles.get(letter, letter)) for letter in image.axes]
    turned = replace(
        image,
        data=_transposed(image.data, order),
        scale=tuple(image.scale[i] for i in order),
        translate=tuple(image.translate[i] for i in order),
        units=tuple(image.units[i] for i in order),
    )
    return Cut(turned, tuple(roles.get(letter, letter) for letter in axes), axes)


def _transposed(data: Any, order: list[int]) -> Any:
    if hasattr(data, "transpose"):
        return data.transpose(order)
    # zarr arrays cannot be turned; dask does it without loading them.
    import dask.array

    return dask.array.from_array(data).transpose(order)
