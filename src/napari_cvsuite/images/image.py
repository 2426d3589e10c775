"""An array that knows its axes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Image", "ImageError"]

_STACK = "tzc"


class ImageError(ValueError):
    """An image cannot be used; the message says why and what to do.

    Attributes
    ----------
    blank : bool
        Whether no pixel of it is finite, so that the other planes of a stack may still be good.
    """

    blank = False

    @classmethod
    def of_blank(cls) -> ImageError:
        """Return the error of an image without a finite pixel."""
        error = cls("the image has no finite pixel (all NaN or infinite); load another")
        error.blank = True
        return error


@dataclass(frozen=True, eq=False)
class Image:
    """A lazy array with axes, pixel size and units.

    Parameters
    ----------
    data : array
        Anything with ``shape``, ``dtype``, ``ndim`` and ``[]``: NumPy, memory map, dask, zarr.
    axes : str
        One letter an axis from ``tzcyx``; a ``c`` at the end is interleaved colour (RGB or
        RGBA), a ``c`` before ``y`` holds separate channels.
    scale, translate : tuple of float
        Pixel size and position of the first pixel per axis; 1 and 0 for ``c``.
    units : tuple of str
        Unit per axis; empty for none.
    name : str
    metadata : mapping
    """

    data: Any
    axes: str
    scale: tuple[float, ...] = ()
    translate: tuple[float, ...] = ()
    units: tuple[str, ...] = ()
    name: str = "image"
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ndim, axes = len(self.data.shape), self.axes
        if len(set(axes)) != len(axes) or set(axes) - set("tzcyx") or len(axes) != ndim:
            raise ImageError(
                f"axes {axes!r} do not describe an array of {ndim} dimensions; "
                "use each of the letters t, z, c, y, x at most once"
            )
        if not axes.replace("c", "").endswith("yx"):
            raise ImageError(f"axes {axes!r} must end with 'yx' or 'yxc'; move the axes first")
        if 0 in self.data.shape:
            raise ImageError(f"the image is empty (shape {tuple(self.data.shape)}); load another")
        if np.dtype(self.data.dtype).kind not in "buif":
            raise ImageError(
                f"pixels of type {self.data.dtype} are not supported; "
                "convert them to integers or real numbers"
            )
        for name, default in (("scale", 1.0), ("translate", 0.0), ("units", "")):
            value = tuple(getattr(self, name)) or (default,) * ndim
            if len(value) != ndim:
                raise ImageError(f"{name} has {len(value)} entries for {ndim} axes; give one each")
            object.__setattr__(self, name, value)

    @classmethod
    def from_array(
        cls,
        array: Any,
        axes: str | None = None,
        rgb: bool | None = None,
        scale: Sequence[float] = (),
        translate: Sequence[float] = (),
        units: Sequence[str] = (),
        name: str = "image",
        metadata: Mapping[str, Any] | None = None,
    ) -> Image:
        """Wrap an array; without `axes` they are guessed from its shape.

        Of a multiscale image, a list of arrays from fine to coarse, the finest is taken.

        Raises
        ------
        ImageError
            The array has a shape or type that cannot be an image.
        """
        if _is_multiscale(array):
            array = array[0]
        if not hasattr(array, "shape") or not hasattr(array, "dtype"):
            array = np.asarray(array)
        guess = axes or _guess_axes(tuple(array.shape), np.dtype(array.dtype), rgb)
        return cls(
            array, guess, tuple(scale), tuple(translate), tuple(units), name, dict(metadata or {})
        )

    @classmethod
    def from_layer(cls, layer: Any) -> Image:
        """Wrap the data of a napari Image or Labels layer (its finest level if multiscale)."""
        data = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
        rgb = bool(getattr(layer, "rgb", False))
        extra = 1 if rgb else 0
        units = [str(u) for u in (getattr(layer, "units", None) or [""] * (data.ndim - extra))]
        return cls.from_array(
            data,
            rgb=rgb,
            scale=[*map(float, layer.scale), *[1.0] * extra],
            translate=[*map(float, layer.translate), *[0.0] * extra],
            units=[*units, *[""] * extra],
            name=str(layer.name),
        )

    @property
    def stack_axes(self) -> tuple[str, ...]:
        """Axes besides y, x and c."""
        return tuple(axis for axis in self.axes if axis not in "yxc")

    def size(self, axis: str) -> int:
        """Return the number of pixels along an axis."""
        return int(self.data.shape[self.axes.index(axis)])

    @property
    def pixel_size(self) -> tuple[float, float]:
        """Height and width of a pixel, in the units of y and x."""
        return self.scale[self.axes.index("y")], self.scale[self.axes.index("x")]

    @property
    def n_planes(self) -> int:
        """Number of 2D planes."""
        return int(np.prod([self.size(axis) for axis in self.stack_axes], dtype=int))

    def planes(self) -> Iterator[dict[str, int]]:
        """Yield the index of every plane, the last stack axis running fastest."""
        for index in itertools.product(*(range(self.size(axis)) for axis in self.stack_axes)):
            yield dict(zip(self.stack_axes, index, strict=True))

    def plane(
        self,
        index: Mapping[str, int] | None = None,
        channels: Sequence[int] | None = None,
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> NDArray[Any]:
        """Return one plane, or a part of it, in memory.

        Parameters
        ----------
        index : mapping of axis to position
            Every stack axis.
        channels : sequence of int, optional
            Channels to keep, in this order.
        rows, columns : slice
            The part to read; nothing else is loaded.

        Returns
        -------
        ndarray, shape (H, W) or (H, W, C)
        """
        within = {"y": rows, "x": columns, "c": slice(None), **(index or {})}
        plane = np.asarray(self.data[tuple(within[axis] for axis in self.axes)])
        if "c" in self.axes and self.axes.index("c") < self.axes.index("y"):
            plane = np.moveaxis(plane, 0, -1)
        return plane if channels is None or plane.ndim == 2 else plane[..., list(channels)]


def _is_multiscale(array: Any) -> bool:
    """Return whether `array` is a list of images that become smaller; not a list of planes."""
    if not isinstance(array, (list, tuple)) or len(array) < 2:
        return False
    sizes = [int(np.prod(one.shape)) for one in array if hasattr(one, "shape")]
    return len(sizes) == len(array) and sizes == sorted(set(sizes), reverse=True)


def _guess_axes(shape: tuple[int, ...], dtype: np.dtype[Any], rgb: bool | None) -> str:
    ndim = len(shape)
    if rgb is None:
        rgb = ndim >= 3 and shape[-1] in (3, 4) and min(shape[-3:-1]) > 4 and dtype.kind in "uf"
    spatial = ndim - bool(rgb)
    if not 2 <= spatial <= 4:
        raise ImageError(
            f"an array of shape {shape} has {spatial} axes besides colour; images have 2 to 4 "
            "(name them with axes=..., for example 'tzyx', or pick a part of the array)"
        )
    return "tzyx"[-spatial:] + ("c" if rgb else "")
