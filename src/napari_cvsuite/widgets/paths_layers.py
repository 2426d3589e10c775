"""Maps of paths as napari layers on the grid of the patches; nothing of the image changes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Layer
from napari.viewer import Viewer

from napari_cvsuite.widgets.neurons_layers import (
    GROWING,
    SIGNED,
    Spot,
    add_image,
    clicked,
    hide_earlier,
    replace_image,
    show_seen,
)

if TYPE_CHECKING:
    from napari_cvsuite.paths.maps import PathMap

__all__ = ["MapLayers"]


class MapLayers:
    """The layers of the dock: maps that hear of clicks, and the outline of what is seen.

    Parameters
    ----------
    viewer : napari Viewer
    clicked : callable
        Told of the row and column of a patch that is clicked on a map.
    """

    def __init__(self, viewer: Viewer, clicked: Callable[[int, int], None]) -> None:
        self._viewer, self._clicked = viewer, clicked
        self._outline: Layer | None = None
        self._last: Image | None = None
        self._listening: list[Image] = []

    def show_seen(self, spot: Spot, box: dict[str, float]) -> None:
        """Draw what part of the image was seen."""
        self._outline = show_seen(self._viewer, spot, box, self._outline)

    def add(self, found: PathMap, spot: Spot, model: str, again: bool = False) -> Image:
        """Show a map as a layer.

        Parameters
        ----------
        found : PathMap
        spot : Spot
            Where the image lay.
        model : str
        again : bool
            Show it in the layer that showed the last one, for clicks from path to path.
        """
        name, facts = f"{found.name}, {model}", self._facts(found)
        low, high = _limits(found)
        layer = self._last if again else None
        shape = (1,) * spot.extra + found.values.shape
        if layer is not None and layer in self._viewer.layers and layer.data.shape == shape:
            replace_image(layer, spot, name, found.values, found.grid, facts, (low, high))
            layer.colormap = SIGNED if found.signed else GROWING
            self._listen(layer)
            return layer
        hide_earlier(self._viewer)
        layer = add_image(
            self._viewer,
            spot,
            name,
            found.values,
            found.grid,
            facts,
            colormap=SIGNED if found.signed else GROWING,
            contrast_limits=(low, high),
            interpolation2d="nearest",
            opacity=0.6,
        )
        self._listen(layer)
        self._last = layer
        return layer

    def _listen(self, layer: Image) -> None:
        if self._pressed not in layer.mouse_drag_callbacks:
            layer.mouse_drag_callbacks.append(self._pressed)
            self._listening.append(layer)

    def release(self) -> None:
        """Hear of clicks no more: what was computed last is of another image now."""
        for layer in self._listening:
            if self._pressed in layer.mouse_drag_callbacks:
                layer.mouse_drag_callbacks.remove(self._pressed)
        self._listening = []

    def _facts(self, found: PathMap) -> dict[str, Any]:
        options = found.provenance["options"]
        return {
            **found.provenance,
            "kind": found.kind,
            "path": options["path"],
            "own": found.own,
            "total": found.total,
        }

    def _pressed(self, layer: Image, event: Any) -> Generator[None, None, None]:
        """Tell of a click, which is no drag."""
        if not (yield from clicked(event)):
            return
        y, x = (round(float(one)) for one in layer.world_to_data(event.position)[-2:])
        height, width = layer.data.shape[-2:]
        if 0 <= y < height and 0 <= x < width:
            self._clicked(y, x)

    def close_down(self) -> None:
        """Let go of the layers."""
        self.release()
        self._outline = self._last = None
        self._clicked = lambda y, x: None


def _limits(found: PathMap) -> tuple[float, float]:
    """Return limits of colours: symmetric about 0 where values are signed."""
    low, high = float(found.values.min()), float(found.values.max())
    if found.signed:
        most = max(-low, high) or 1.0
        return -most, most
    low = low if found.kind == "token_norm" else 0.0
    return low, high if high > low else low + 1.0
