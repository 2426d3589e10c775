"""The few things that napari offers no lasting public name for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from napari.layers import Labels
from napari.viewer import Viewer

__all__ = ["leave_brushes_out", "look_at", "theme_colours"]


def leave_brushes_out(layer: Labels) -> list[Callable[[], object]]:
    """Leave out of a new layer what is drawn while somebody paints; return what brings it back.

    It takes napari as long to add as the layer itself.
    """
    brushes = [one for one in getattr(layer, "_overlays", {}).values() if one.visible]
    for brush in brushes:
        brush.visible = False
    return [partial(setattr, brush, "visible", True) for brush in brushes]


def look_at(viewer: Viewer, point: Sequence[float]) -> None:
    """Move the sliders and the camera to a point in world coordinates."""
    viewer.dims.point = tuple(point)
    # The camera moved into the scene in napari 0.9; the old name warns.
    camera = viewer.scene.camera if hasattr(viewer, "scene") else viewer.camera
    camera.center = tuple(point)[-3:] if len(point) >= 3 else (0.0, *point)


def theme_colours(viewer: Viewer) -> tuple[str, str]:
    """Return the colours of text and background of the window's theme."""
    from napari.utils.theme import get_theme

    theme = get_theme(viewer.theme)
    return theme.text.as_hex(), theme.background.as_hex()
