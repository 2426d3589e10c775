"""From an image to the planes, in [0, 1], that networks see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_cvsuite.images import Image, ImageError, Window, cut_along, usable_channels, window_of
from napari_cvsuite.models.plane_options import PlaneOptions

__all__ = ["Pixels", "Planes"]

Pixels = NDArray[np.float32]
"""H x W x 3 in [0, 1]."""
SAMPLED_PLANES = 16
"""Slices of a stack that its window is found from."""


class Planes:
    """The planes of an image in [0, 1], all in one window or each in its own.

    Parameters
    ----------
    image : Image
    options : PlaneOptions
    check : callable
        Called between planes; raises to stop.
    window : Window, optional
        Instead of one found by the options.

    Raises
    ------
    ImageError
        The image cannot be used; the message says why.
    """

    def __init__(
        self,
        image: Image,
        options: PlaneOptions,
        check: Callable[[], None] = lambda: None,
        window: Window | None = None,
    ) -> None:
        self.image = cut_along(image, options.axis).image
        self.shape = (self.image.size("y"), self.image.size("x"))
        self._options, self._check = options, check
        self._channels = usable_channels(self.image, options.channel_numbers)
        self._fixed = window
        if window is None and options.per == "stack":
            self._fixed = self._shared_window()

    @property
    def window(self) -> Window | None:
        """The window of all planes; None where each has its own."""
        return self._fixed

    def indices(self) -> list[dict[str, int]]:
        """Return the index of every plane."""
        return list(self.image.planes())

    def raw(
        self,
        index: Mapping[str, int],
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> NDArray[Any]:
        """Return a plane, or a part of it, as it is stored, H x W or H x W x C.

        Raises
        ------
        ImageError
            It cannot be read.
        """
        self._check()
        try:
            return self.image.plane(index, self._channels, rows, columns)
        except OSError as error:
            raise ImageError(
                f"{self.image.name} cannot be read any further ({error.strerror or error}); "
                "check the disk or the connection and try again"
            ) from error

    def read(self, index: Mapping[str, int]) -> Pixels:
        """Return a plane, H x W x 3 in [0, 1]; see :meth:`raw` and :class:`Window`."""
        plane = self.raw(index)
        return self.window_at(plane).apply(plane)

    def window_at(self, plane: NDArray[Any]) -> Window:
        """Return the window of a raw plane."""
        options = self._options
        return self._fixed or window_of([plane], options.intensity, options.low, options.high)

    def _shared_window(self) -> Window:
        options, every = self._options, self.indices()
        chosen = np.unique(np.linspace(0, len(every) - 1, SAMPLED_PLANES).round().astype(int))
        planes = (self.raw(every[number]) for number in chosen)
        return window_of(planes, options.intensity, options.low, options.high)
