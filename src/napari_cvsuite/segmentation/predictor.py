"""Predict planes tile by tile, showing each tile and giving way when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from napari_cvsuite.images import Cut, Image, ImageError, Tile, plan_tiles
from napari_cvsuite.jobs.context import Context
from napari_cvsuite.jobs.ladder import Ladder, Plan
from napari_cvsuite.models.catalog import ModelCard
from napari_cvsuite.models.device import choose_device, choose_precision
from napari_cvsuite.models.precision import gated_precision
from napari_cvsuite.models.store import default_store
from napari_cvsuite.segmentation.options import PredictOptions, plane_numbers
from napari_cvsuite.segmentation.plane import (
    flips_mean,
    forward,
    predict_bands,
    usable_halo,
    working_tile,
)
from napari_cvsuite.segmentation.source import PlaneSource, row_blocks
from napari_cvsuite.segmentation.whole import enlarge_rows, predict_small
from napari_cvsuite.version import __version__

__all__ = ["Bands", "Predictor", "TilePreview", "skipped_planes"]

T = TypeVar("T")
Bands = Iterator[tuple[int, NDArray[np.float32]]]
MIN_TILE = 64
"""The memory ladder makes tiles no smaller; the network needs the context."""


@dataclass(frozen=True, eq=False)
class TilePreview:
    """A finished tile, for a door that shows the result while it grows.

    Parameters
    ----------
    plane : tuple of int
        Position of its plane along the axes that are cut.
    y, x : int
        Row and column of its first pixel in the plane.
    classes : ndarray of uint8, shape (h, w)
        Most probable class, before overlapping tiles are blended.
    index : tuple of int and slice
        Where ``classes`` belongs in an array shaped like ``SegmentResult.classes``:
        ``array[preview.index] = preview.classes``.
    """

    plane: tuple[int, ...]
    y: int
    x: int
    classes: NDArray[np.uint8]
    index: tuple[int | slice, ...]


def skipped_planes(options: PredictOptions, image: Image) -> set[int]:
    """Return the numbers of the planes to leave out.

    Raises
    ------
    ImageError
        The image has no such plane, or no other one.
    """
    ranges = plane_numbers(options.skip)
    last = max((numbers[-1] for numbers in ranges), default=0)
    if last >= image.n_planes:
        have = f"planes 0 to {image.n_planes - 1}" if image.n_planes > 1 else "plane 0 alone"
        raise ImageError(f"plane {last} is to be left out (skip), but the image has {have}")
    skipped = {number for numbers in ranges for number in numbers}
    if len(skipped) == image.n_planes:
        raise ImageError("all planes are left out (skip); leave out fewer")
    return skipped


class Predictor:
    """Predict the planes of one image.

    What the memory ladder changes for one plane stays in force for those that follow.

    Parameters
    ----------
    card : ModelCard
    options : PredictOptions
    cut : Cut
        The image as planes.
    context : Context

    Raises
    ------
    DeviceError
        The device or precision is not to be had.
    """

    def __init__(
        self, card: ModelCard, options: PredictOptions, cut: Cut, context: Context
    ) -> None:
        self._card, self._options, self._cut, self._context = card, options, cut, context
        self._shape = (cut.image.size("y"), cut.image.size("x"))
        device = choose_device(context.device)
        # The plan speaks of "half" and "full", so that the ladder knows no library's names.
        self._asked = choose_precision(device, options.precision)
        full = self._asked == "float32"
        self._whole = card.input.mode == "resize"
        tile = None if self._whole else working_tile(self._shape, options.tile or card.input.tile)
        if self._whole and options.tile:
            context.warn(f"{card.name} sees the whole image at once; the tile size does not count.")
        self._plan = Plan(1, tile, "full" if full else "half", device)
        # A precision asked for by name is never replaced by another on the same device.
        self._ladder = Ladder(
            allow_half=options.precision == "auto",
            min_tile=MIN_TILE,
            release=default_store().evict_all,
        )
        self._steps: list[str] = []
        context.progress(0, self.n_tiles, f"loading {card.name}")

    @property
    def n_tiles(self) -> int:
        """Number of tiles of all planes."""
        return self._cut.image.n_planes * self.tiles_per_plane

    @property
    def tiles_per_plane(self) -> int:
        """Number of tiles of one plane, as the memory ladder left it."""
        return self._tiles_of_a_plane(self._plan)

    def _tiles_of_a_plane(self, plan: Plan) -> int:
        if plan.tile is None:
            return 1
        return len(plan_tiles(self._shape, plan.tile, usable_halo(plan.tile, self._options.halo)))

    def _precision(self, plan: Plan) -> str:
        if plan.precision == "full":
            return "float32"
        if self._asked != "float32":
            return self._asked
        found = choose_precision(plan.device, "auto")
        return "float16" if found == "float32" else found

    def _checked(self, plan: Plan) -> str:
        """Return the precision of a plan, or float32 where these weights do not bear it."""
        precision, context = self._precision(plan), self._context
        return gated_precision(default_store(), self._card, plan.device, precision, context)

    def predict(self, number: int, plane: Mapping[str, int], consume: Callable[[Bands], T]) -> T:
        """Predict one plane.

        Parameters
        ----------
        number : int
            Which of the planes it is, from 0 on.
        plane : mapping of axis to position
        consume : callable
            Takes the bands of probabilities (first row, ``K x rows x W``), from top to bottom.
            Called anew, from the first row on, whenever memory runs out.

        Raises
        ------
        ImageError, WeightsError, MemoryExhausted, Cancelled
        """
        options = self._options
        source = PlaneSource(
            self._cut.image, plane, options.channel_numbers, options.stain, self._context.check
        )

        def attempt(plan: Plan) -> T:
            store = default_store()
            with (
                store.lease(self._card, plan.device, self._checked(plan)) as model,
                torch.inference_mode(),
            ):
                bands = self._whole_bands if plan.tile is None else self._bands
                return consume(bands(model, source, number, plane, plan))

        result, self._plan, steps = self._ladder.run(attempt, self._plan, self._context)
        self._steps += steps
        return result

    def _bands(
        self,
        model: torch.nn.Module,
        source: PlaneSource,
        number: int,
        plane: Mapping[str, int],
        plan: Plan,
    ) -> Bands:
        precision, scale = self._checked(plan), self._card.input.scale
        assert plan.tile is not None
        each = self._tiles_of_a_plane(plan)
        planes = self._cut.image.n_planes
        done = number * each

        def one(region: NDArray[np.float32]) -> NDArray[np.float32]:
            self._context.check()
            return forward(model, region, plan.device, precision, scale)

        def compute(tile: Tile) -> NDArray[np.float32]:
            nonlocal done
            region = source.read(tile.y, tile.x, tile.height, tile.width)
            found = flips_mean(one, region) if self._options.tta else one(region)
            done += 1
            where = f"plane {number + 1} of {planes}, " if planes > 1 else ""
            message = f"segmenting: {where}tile {done - number * each} of {each}"
            self._context.progress(done, planes * each, message, self._preview(plane, tile, found))
            return found

        return predict_bands(self._shape, plan.tile, self._options.halo, compute)

    def _whole_bands(
        self,
        model: torch.nn.Module,
        source: PlaneSource,
        number: int,
        plane: Mapping[str, int],
        plan: Plan,
    ) -> Bands:
        """Predict a plane in one go, and enlarge the result band by band."""
        planes = self._cut.image.n_planes
        where = f": plane {number + 1} of {planes}" if planes > 1 else ""
        self._context.progress(number, planes, f"segmenting{where}")
        precision = self._checked(plan)
        small = predict_small(
            model, source.pixels(), self._card.input, plan.device, precision, self._options.tta
        )
        height, width = self._shape
        for rows in row_blocks(self._shape):
            self._context.check()
            band = enlarge_rows(small, self._shape, rows.start, rows.stop)
            done = number + rows.stop / height
            shown = self._preview(plane, Tile(rows.start, 0, rows.stop - rows.start, width), band)
            self._context.progress(done, planes, f"segmenting{where}", shown)
            yield rows.start, band

    def _preview(
        self, plane: Mapping[str, int], tile: Tile, found: NDArray[np.float32]
    ) -> TilePreview:
        rows, columns = slice(tile.y, tile.y + tile.height), slice(tile.x, tile.x + tile.width)
        return TilePreview(
            tuple(plane.values()),
            tile.y,
            tile.x,
            found.argmax(axis=0).astype(np.uint8),
            self._cut.index(plane, rows, columns),
        )

    def provenance(self) -> dict[str, Any]:
        """Return what made the result, with the settings that the last plane was made with."""
        plan = self._plan
        tile = plan.tile or self._card.input.tile
        return {
            "model": self._card.name,
            "weights_sha256": self._card.weights.sha256,
            "options": asdict(self._options),
            "version": __version__,
            "device": plan.device,
            "precision": self._checked(plan),
            "tile": tile,
            "halo": 0 if plan.tile is None else usable_halo(tile, self._options.halo),
            "ladder": list(self._steps),
            "threads": torch.get_num_threads(),
        }
