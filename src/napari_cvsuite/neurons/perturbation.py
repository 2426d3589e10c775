"""Maps by hiding parts of the image: occlusion and RISE."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_cvsuite.jobs.context import Context

__all__ = ["occlusion", "random_masks", "rise"]


def occlusion(
    scores: nn.Module,
    image: Tensor,
    window: int = 32,
    stride: int = 16,
    fill: float = 0.5,
    batch: int = 16,
    context: Context | None = None,
) -> Tensor:
    """Return how far the score falls if a square is filled (Zeiler and Fergus 2013).

    Parameters
    ----------
    scores : nn.Module
        Maps ``B x 3 x H x W`` to ``B``.
    image : Tensor, shape (3, H, W)
    window, stride : int
        Side of the square and its steps, in pixels; at the right and lower border it is cut.
    fill : float
        In [0, 1].
    batch : int
        Images at a time.
    context : Context, optional

    Returns
    -------
    Tensor, shape (H, W)
        Fall of the score; the mean over the squares that cover a pixel.

    Raises
    ------
    ValueError
        The square is larger than the image, or its steps are larger than itself.
    """
    context = context or Context()
    height, width = image.shape[1:]
    if not 1 <= window <= min(height, width):
        raise ValueError(
            f"a window of {window} pixels does not fit an image of {width} x {height}; choose one "
            f"of 1 to {min(height, width)}"
        )
    if not 1 <= stride <= window:
        raise ValueError(f"the stride must be 1 to {window}, the window; got {stride}")
    corners = [(y, x) for y in range(0, height, stride) for x in range(0, width, stride)]
    total, count = torch.zeros_like(image[0]), torch.zeros_like(image[0])
    with torch.no_grad():
        whole = scores(image[None])[0]
        for start in range(0, len(corners), batch):
            context.progress(start, len(corners), "squares filled")
            part = corners[start : start + batch]
            copies = image.repeat(len(part), 1, 1, 1)
            for copy, (y, x) in zip(copies, part, strict=True):
                copy[:, y : y + window, x : x + window] = fill
            for fall, (y, x) in zip(whole - scores(copies), part, strict=True):
                total[y : y + window, x : x + window] += fall
                count[y : y + window, x : x + window] += 1
    return total / count


def rise(
    scores: nn.Module,
    image: Tensor,
    masks: int = 1000,
    cells: int = 7,
    shown: float = 0.5,
    seed: int = 0,
    batch: int = 16,
    context: Context | None = None,
) -> Tensor:
    """Return how much higher the score is while a pixel is shown (RISE).

    Petsiuk et al. 2018, arXiv 1806.07421, give the mean score weighted by the masks. Here the mean
    score of all masks is subtracted, so that zero means no influence (definition of this project).

    Parameters
    ----------
    scores, image, batch, context
        See :func:`occlusion`.
    masks, cells, shown, seed
        See :func:`random_masks`; what is hidden is black.

    Returns
    -------
    Tensor, shape (H, W)

    Raises
    ------
    ValueError
        See :func:`random_masks`.
    """
    context = context or Context()
    generator = torch.Generator().manual_seed(seed)
    size = (image.shape[1], image.shape[2])
    weighted, weight = torch.zeros_like(image[0]), torch.zeros_like(image[0])
    with torch.no_grad():
        whole = scores(image[None])[0]
        total = torch.zeros_like(whole)
        for start in range(0, masks, batch):
            context.progress(start, masks, "random masks")
            number = min(batch, masks - start)
            part = random_masks(number, size, cells, shown, generator).to(image)
            # From the score of the whole image on, sums lose fewer digits.
            change = scores(part[:, None] * image) - whole
            weighted += (change[:, None, None] * part).sum(0)
            weight += part.sum(0)
            total += change.sum()
    return (weighted - total / masks * weight) / weight.clamp_min(torch.finfo(weight.dtype).tiny)


def random_masks(
    number: int, size: tuple[int, int], cells: int, shown: float, generator: torch.Generator
) -> Tensor:
    """Draw the masks of RISE: a coarse random grid, enlarged bilinearly and moved.

    Parameters
    ----------
    number : int
    size : tuple of int
        Height and width.
    cells : int
        Cells of the grid in each direction.
    shown : float
        Probability that a cell is shown, between 0 and 1.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    Tensor of float32, shape (number, H, W)
        In [0, 1].

    Raises
    ------
    ValueError
        There are more cells than pixels.
    """
    if not 1 <= cells <= min(size):
        raise ValueError(f"the grid must have 1 to {min(size)} cells a side; got {cells}")
    grid = (torch.rand((number, 1, cells, cells), generator=generator) < shown).float()
    cell = [-(-side // cells) for side in size]
    large = F.interpolate(
        grid, [(cells + 1) * side for side in cell], mode="bilinear", align_corners=False
    )[:, 0].clamp(0, 1)
    tops, lefts = (torch.randint(side, (number,), generator=generator).tolist() for side in cell)
    return torch.stack(
        [
            mask[top : top + size[0], left : left + size[1]]
            for mask, top, left in zip(large, tops, lefts, strict=True)
        ]
    )
