"""Which input pixels the cells of a layer see."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from napari_cvsuite.neurons.activations import check_maps, find_layer

__all__ = ["ReceptiveField", "receptive_field"]

SHORTEST, LONGEST = 64, 4096
"""Sides in pixels between which a receptive field is searched."""


class _Reached(Exception):
    """The layer has run; the rest of the network is not needed."""


@dataclass(frozen=True)
class ReceptiveField:
    """Which input pixels the cells of a layer depend on, along rows and along columns.

    Cell (i, j) sees the rows from ``start[0] + i * stride[0]``, ``size[0]`` of them, and likewise
    columns. The start is negative where the network pads.

    Parameters
    ----------
    size, stride, start : tuple of two int
        In input pixels.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    start: tuple[int, int]

    def box(self, cell: tuple[int, int], image_shape: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return top, left, bottom and right (exclusive) of a cell's field within the image."""
        low = [self.start[a] + cell[a] * self.stride[a] for a in (0, 1)]
        top, left = (max(0, edge) for edge in low)
        bottom, right = (min(image_shape[a], low[a] + self.size[a]) for a in (0, 1))
        return top, left, bottom, right


def receptive_field(network: nn.Module, layer: str) -> ReceptiveField:
    """Measure the receptive field of a layer.

    Rows of the input are set to NaN, which convolutions, pooling, ReLU and additions all pass on
    whatever the weights are: a cell sees a row if and only if it turns into NaN. With the first
    rows spoilt up to i, the cells that begin at i or before are NaN; bisection over i gives where
    a cell begins, and the last rows give where it ends. It needs no knowledge of the network's
    structure, and no gradient, which ReLU and max pooling would cut off. The network runs on the
    CPU, where convolutions do not mix neighbouring windows as Winograd's on a GPU do; from a GPU a
    copy is taken. Definition of this project.

    Parameters
    ----------
    network : nn.Module
        In eval mode.
    layer : str

    Raises
    ------
    ValueError
        There is no such layer, it gives no maps, or a cell's field has no end within 4096 pixels,
        as after global pooling.
    """
    find_layer(network, layer)
    weight = next(network.parameters(), torch.zeros(()))
    network = network if weight.device.type == "cpu" else copy.deepcopy(network).cpu()
    sides = [_measured_side(network, layer, axis) for axis in (0, 1)]
    size, stride, start = zip(*sides, strict=True)
    return ReceptiveField(size, stride, start)


def _measured_side(network: nn.Module, layer: str, axis: int) -> tuple[int, int, int]:
    """Return size, stride and start along an axis."""
    length = SHORTEST
    while length <= LONGEST:
        probe = _Probe(network, layer, axis, length)
        middle = length // 2
        # The first cell that begins in the lower half, and the last one that ends in the upper.
        upper, lower = probe(slice(0, middle)), probe(slice(middle, length))
        first = max(upper.nonzero()[:, 0].tolist(), default=-1) + 1
        last = min(lower.nonzero()[:, 0].tolist(), default=len(lower)) - 1
        if last >= 0 and first + 1 < len(upper):
            break
        length *= 2
    else:
        raise ValueError(
            f"the receptive field of layer {layer!r} has no end within {LONGEST} pixels; "
            "choose an earlier layer"
        )
    begins = probe.begin(first, middle - 1)
    stride = probe.begin(first + 1, begins) - begins
    ends = probe.end(last, middle)
    return ends - begins + (first - last) * stride + 1, stride, begins - first * stride


class _Probe:
    """Runs a strip with NaN in it up to a layer."""

    def __init__(self, network: nn.Module, layer: str, axis: int, length: int) -> None:
        self.network, self.layer, self.axis, self.length = network, layer, axis, length

    def __call__(self, spoilt: slice) -> Tensor:
        """Return which cells along the axis depend on spoilt rows or columns."""
        strip = torch.full((1, 3, self.length, SHORTEST), 0.5)
        strip[:, :, spoilt] = float("nan")
        weight = next(self.network.parameters(), strip)
        strip = strip.transpose(2, 2 + self.axis).to(weight.dtype)
        found: list[Any] = []

        def stop(module: nn.Module, inputs: Any, output: Any) -> None:
            found.append(output)
            raise _Reached

        hook = find_layer(self.network, self.layer).register_forward_hook(stop)
        try:
            with torch.no_grad():
                self.network(strip)
        except _Reached:
            pass
        except RuntimeError as error:
            raise ValueError(
                f"the network does not run on {self.length} x {SHORTEST} pixels, which measuring "
                f"the receptive field of layer {self.layer!r} needs: {error}"
            ) from error
        finally:
            hook.remove()
        check_maps(self.network, [self.layer], {self.layer: found[0]} if found else {})
        return torch.as_tensor(found[0].isnan().any(dim=1)[0].any(dim=1 - self.axis))

    def begin(self, cell: int, before: int) -> int:
        """Return the first row that a cell sees, known to be behind `before`."""
        low, high = before, self.length - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self(slice(0, middle + 1))[cell] else (middle, high)
        return high

    def end(self, cell: int, behind: int) -> int:
        """Return the last row that a cell sees, known to be before `behind`."""
        low, high = 0, behind
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self(slice(middle, self.length))[cell] else (low, middle)
        return low
