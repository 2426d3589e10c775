"""Windows of attention in Swin transformers (arXiv 2103.14030): cutting, joining, neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cut", "joined", "relative_index", "shift_mask"]


def cut(x: Tensor, window: int) -> Tensor:
    """Cut ``B x H x W x C`` into ``B*n x window^2 x C``, row by row."""
    b, h, w, c = x.shape
    x = x.view(b, h // window, window, w // window, window, c)
    return x.transpose(2, 3).reshape(-1, window**2, c)


def joined(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """Undo :func:`cut` for maps of ``height x width``."""
    c = windows.shape[-1]
    x = windows.view(-1, height // window, width // window, window, window, c)
    return x.transpose(2, 3).reshape(-1, height, width, c)


def relative_index(window: int) -> Tensor:
    """Return which entry of a table of ``(2 window - 1)^2`` two places of a window share."""
    # Never on the meta device, where this would load torch's compiler.
    steps = torch.arange(window, device="cpu")
    y, x = (one.flatten() for one in torch.meshgrid(steps, steps, indexing="ij"))
    dy = y[:, None] - y[None, :] + window - 1
    dx = x[:, None] - x[None, :] + window - 1
    return dy * (2 * window - 1) + dx


def shift_mask(window: int, sides: tuple[int, int], shifts: tuple[int, int]) -> Tensor:
    """Return -100 between places of a shifted window that are no neighbours, else 0.

    Parameters
    ----------
    window : int
    sides, shifts : tuple of int
        Height and width of the map, and how far it was rolled along each; 0 for not at all.

    Returns
    -------
    Tensor, shape (n, window^2, window^2)
    """
    y, x = (_regions(window, *one) for one in zip(sides, shifts, strict=True))
    regions = (3 * y[:, None] + x[None, :])[None, :, :, None]
    numbers = cut(regions, window).squeeze(-1)
    return (numbers[:, :, None] != numbers[:, None, :]).float() * -100.0


def _regions(window: int, side: int, shift: int) -> Tensor:
    region = torch.zeros(side, device="cpu")
    if shift:
        region[side - window : side - shift] = 1
        region[side - shift :] = 2
    return region
