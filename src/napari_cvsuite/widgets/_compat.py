"""The few things that napari offers no lasting public name for."""

from __future__ import annotations

from collections.abc import Sequence

from napari.viewer import Viewer

__all__ = ["look_at", "theme_colours"]


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
