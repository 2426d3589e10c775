"""Channels of a layer and their top patches in the viewer: montages, clicks, where they lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Layer
from napari.viewer import Viewer
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_cvsuite.images import Grid
from napari_cvsuite.widgets import neurons_words as words
from napari_cvsuite.widgets._compat import look_at
from napari_cvsuite.widgets.neurons_actions import CHANNELS, FOLDER_PATCHES, PATCHES
from napari_cvsuite.widgets.neurons_job import Browsed
from napari_cvsuite.widgets.neurons_layers import (
    GROWING,
    Spot,
    add_image,
    clicked,
    height_of,
    outline,
    replace_image,
)
from napari_cvsuite.widgets.neurons_results import Panel
from napari_cvsuite.widgets.neurons_task import Task

if TYPE_CHECKING:
    from napari_cvsuite.neurons.browse import Activated
    from napari_cvsuite.neurons.favourites import Favourites

__all__ = ["Browser", "Run", "Step"]

Step = Callable[[], object]


@dataclass(frozen=True)
class Run:
    """A run of an action: what was asked, and where the image lay.

    Parameters
    ----------
    action : str
    task : Task
    spot : Spot or None
    layer : Layer or None
        The image, which may be gone when the result is ready.
    """

    action: str
    task: Task
    spot: Spot | None
    layer: Layer | None


class Browser(QObject):
    """The channels that were computed last, and the layers that show them.

    Parameters
    ----------
    viewer : napari Viewer
    panels : dict of str to Panel
        By action.

    Signals
    -------
    channel_chosen (int)
        A channel was clicked.
    """

    channel_chosen = Signal(int)

    def __init__(
        self, viewer: Viewer, panels: dict[str, Panel], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._panels = viewer, panels
        self._run: Run | None = None
        self._browsed: list[Browsed] = []
        self._montages: list[tuple[Layer, Callable[..., Any]]] = []
        self._favourites: dict[str, tuple[Run, list[Favourites]]] = {}
        self._activation: Image | None = None
        self._tiles: Image | None = None
        self._patch: Layer | None = None
        panels[CHANNELS].row_chosen.connect(self._channel_row)
        for name in (PATCHES, FOLDER_PATCHES):
            panels[name].row_chosen.connect(partial(self._patch_row, name))

    # Channels ----------------------------------------------------------------------------------

    def channels(self, run: Run, found: Sequence[Browsed]) -> list[Step]:
        """Return the steps that show all channels of a layer."""

        def forget() -> None:
            self._release()
            self._run, self._browsed = run, list(found)

        def add(number: int) -> None:
            one = found[number]
            assert run.spot is not None
            height = height_of(one.found.grid, one.found.maps.shape[1:])
            grid = run.spot.beside(one.montage.shape, height, number)
            layer = add_image(
                self._viewer,
                run.spot,
                f"channels of {one.found.layer}, {words.model_of(one.found)}",
                one.montage,
                grid,
                one.found.provenance,
                colormap=GROWING,
                contrast_limits=(0.0, 1.0),
            )
            callback = partial(self._clicked, number)
            layer.mouse_drag_callbacks.append(callback)
            self._montages.append((layer, callback))

        def tell() -> None:
            rows = [
                {"model": words.model_of(one.found), **row} for one in found for row in one.rows
            ]
            best = [
                f"<b>{words.model_of(one.found)}</b>, {one.found.layer}: "
                f"{len(one.found.channels)} channels, most active "
                f"{', '.join(map(str, one.found.strongest()[:5]))}."
                for one in found
            ]
            best.append("Click a tile or a row to lay the channel over the image.")
            self._panels[CHANNELS].show_result("<br>".join(best), rows)

        return [forget, *(partial(add, number) for number in range(len(found))), tell]

    def _clicked(self, number: int, layer: Layer, event: Any) -> Any:
        """Show the channel whose tile is clicked; a drag moves the view."""
        from napari_cvsuite.neurons.browse import channel_of_montage

        if not (yield from clicked(event)):
            return
        maps = self._browsed[number].found.maps
        place = layer.world_to_data(event.position)[-2:]
        channel = channel_of_montage(place, maps.shape)
        if channel is not None:
            self.show_channel(channel, number)

    def show_channel(self, channel: int, number: int = 0) -> None:
        """Lay one channel of the last result over the image."""
        run = self._run
        if run is None or run.spot is None or number >= len(self._browsed):
            return
        found = self._browsed[number].found
        if 0 <= channel < len(found.maps):
            self.lay(run.spot, found, channel)
            self.channel_chosen.emit(channel)

    def lay(self, spot: Spot, found: Activated, channel: int) -> None:
        """Lay a channel over the image, in the layer that is there for channels."""
        values = found.maps[found.channels.index(channel)]
        low, high = float(min(0.0, values.min())), float(values.max())
        name = f"{found.layer} channel {channel}, {words.model_of(found)}"
        self._activation = self._show(
            self._activation,
            spot,
            name,
            values,
            found.grid,
            found.provenance,
            colormap=GROWING,
            contrast_limits=(low, high if high > low else low + 1.0),
            opacity=0.7,
        )

    def _show(
        self,
        layer: Image | None,
        spot: Spot | None,
        name: str,
        data: NDArray[np.float32],
        grid: Grid,
        facts: dict[str, Any],
        **look: Any,
    ) -> Image:
        """Show an array in the layer that showed the last one: adding a layer takes napari long."""
        active = self._viewer.layers.selection.active
        if layer is not None and layer in self._viewer.layers and self._fits(layer, spot, data):
            replace_image(layer, spot, name, data, grid, facts, look.get("contrast_limits"))
        else:
            layer = add_image(self._viewer, spot, name, data, grid, facts, **look)
        # A montage stays the layer that hears of clicks.
        if active in self._viewer.layers:
            self._viewer.layers.selection.active = active
        return layer

    def _fits(self, layer: Image, spot: Spot | None, data: NDArray[np.float32]) -> bool:
        extra = spot.extra if spot is not None else 0
        return bool(layer.data.shape == (1,) * extra + data.shape)

    def _channel_row(self, row: dict[str, Any]) -> None:
        names = [words.model_of(one.found) for one in self._browsed]
        self.show_channel(int(row["channel"]), names.index(row["model"]))

    # Patches -----------------------------------------------------------------------------------

    def patches(self, run: Run, found: Sequence[Favourites]) -> list[Step]:
        """Return the steps that show the patches that channels like most."""

        def tell() -> None:
            said = [f"<b>{words.model_of(one)}</b>, {one.layer}: {one.n} slices." for one in found]
            said.append("Click a row to see the patches of its channel, and where it lies.")
            rows = [{"model": words.model_of(one), **row} for one in found for row in one.table()]
            self._panels[run.action].show_result("<br>".join(said), rows)
            self._favourites[run.action] = (run, list(found))

        return [tell]

    def _patch_row(self, action: str, row: dict[str, Any]) -> None:
        """Show the patches of a channel, go to the one that was clicked, and draw its box."""
        run, favourites = self._favourites[action]
        found = next(one for one in favourites if words.model_of(one) == row["model"])
        layer, spot = run.layer, run.spot
        if layer is not None and layer in self._viewer.layers:
            spot = Spot.of_slice(layer, int(row["slice"]))
            box = [row[key] for key in ("top", "left", "height", "width")]
            middle = [box[0] + box[2] / 2 - 0.5, box[1] + box[3] / 2 - 0.5]
            start = spot.place.source.selection.start[:-2]
            point = list(self._viewer.dims.point)
            point[-layer.ndim :] = layer.data_to_world((*start, *middle))
            look_at(self._viewer, [float(value) for value in point])
            self._patch = outline(self._viewer, spot, "patch", box, self._patch)
        if int(row["channel"]) in found.channels:
            self._show_patches(spot, found, int(row["channel"]))

    def _show_patches(self, spot: Spot | None, found: Favourites, channel: int) -> None:
        """Lay the patches of one channel beside the image, the strongest first."""
        tiles = found.pictures[found.channels.index(channel)]
        columns = int(np.ceil(np.sqrt(len(tiles))))
        side = tiles.shape[1]
        picture = np.zeros((-(-len(tiles) // columns) * side, columns * side, 3), np.float32)
        for number, tile in enumerate(tiles):
            y, x = (side * place for place in divmod(number, columns))
            picture[y : y + side, x : x + side] = tile
        grid = Grid((1.0, 1.0), (0.0, 0.0))
        if spot is not None:
            grid = spot.beside(picture.shape, float(spot.height))
        name = f"top patches of {found.layer} channel {channel}, {words.model_of(found)}"
        self._tiles = self._show(self._tiles, spot, name, picture, grid, found.provenance, rgb=True)

    # The end -----------------------------------------------------------------------------------

    def _release(self) -> None:
        """Hear of clicks on the montages no more."""
        for layer, callback in self._montages:
            if callback in layer.mouse_drag_callbacks:
                layer.mouse_drag_callbacks.remove(callback)
        self._montages = []

    def close_down(self) -> None:
        """Let go of the layers."""
        self._release()
        self._run, self._browsed, self._favourites = None, [], {}
        self._activation = self._tiles = self._patch = None
