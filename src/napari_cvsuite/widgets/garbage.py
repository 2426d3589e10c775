"""Python's garbage collector, kept from stopping the window."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["GarbagePause", "leave_out_what_stays", "no_collection"]

_left_out = False


def leave_out_what_stays() -> None:
    """Leave what exists out of all garbage collections to come: modules, and widgets that stay.

    Python starts one now and then, napari whenever a layer is removed. A full one looks at every
    object while all threads stand still: with torch loaded, for a quarter of a second.
    """
    global _left_out
    gc.collect()
    gc.freeze()
    _left_out = True


@contextmanager
def no_collection() -> Iterator[None]:
    """Put off all collections to the end of the block, for a moment that must not grow longer."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class GarbagePause:
    """Leaves what exists out of garbage collections for a while, such as that of one run.

    Of that, what is garbage by then is freed after the end only, so it is not for hours.
    """

    def __init__(self) -> None:
        self._lasts = False

    def begin(self) -> None:
        """Begin, or begin anew with what has come since.

        Needless after :func:`leave_out_what_stays`, which :meth:`end` would undo.
        """
        if not _left_out:
            gc.freeze()
            self._lasts = True

    def end(self) -> None:
        """End what :meth:`begin` began, if anything."""
        if self._lasts:
            gc.unfreeze()
            self._lasts = False
