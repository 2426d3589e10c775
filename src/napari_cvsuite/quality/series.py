"""Series of ever worse crops of good images, with their labels, kept on disk."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from napari_cvsuite.jobs.context import Context
from napari_cvsuite.quality.distortions import DISTORTIONS, LEVELS, Distortion, distort

__all__ = ["KINDS", "LENGTH", "Bank", "Plan", "Series", "bank", "draw", "strength_at"]

KINDS = ("none", *DISTORTIONS)
"""What a network can name, in the order of its outputs."""
LENGTH = 4
"""Crops of a series: the crop itself, and three levels of a distortion."""
UInt8 = NDArray[np.uint8]
_FLAT = 3.0
"""Mean gradient, in steps of 8 bits, of crops in which there is too little to spoil."""
_SHRUNK, _ENLARGED = 0.3, 0.25
"""Shares of crops that are resized before they are spoilt."""
_NOISY = 0.7
"""Share of the enlarged crops that get the faint noise of a sensor, which blur would take away."""
_JOINED = 0.3
"""Share of crops that are joined of two images, so that there is more to see than images."""


@dataclass(frozen=True)
class Plan:
    """What decides how series look; the same plan gives the same series.

    Parameters
    ----------
    count : int
        Number of series.
    size : int
        Side of the crops.
    second : float
        Share of series with a second distortion beneath the first, the same in all crops.
    seed : int
    """

    count: int
    size: int
    second: float
    seed: int


@dataclass(frozen=True)
class Series:
    """One series.

    Parameters
    ----------
    reference : ndarray of uint8, shape (S, S, 3)
        The crop before all distortions.
    crops : ndarray of uint8, shape (L, S, S, 3)
    kind : int
        Of the distortion that grows, in :data:`KINDS`.
    levels : ndarray of float32, shape (L,)
        Its level in each crop.
    other, other_level : int, float
        The second distortion; 0 for none.
    """

    reference: UInt8
    crops: UInt8
    kind: int
    levels: NDArray[np.float32]
    other: int = 0
    other_level: float = 0.0


def strength_at(distortion: Distortion, level: float) -> float:
    """Return the strength between those of the five levels, by geometric interpolation."""
    given = np.log(distortion.strengths)
    steps = np.arange(1, LEVELS + 1)
    if level < 1:
        # Below the first level, as far as the step above it.
        return float(np.exp(given[0] - (1 - level) * (given[1] - given[0])))
    return float(np.exp(np.interp(level, steps, given)))


def draw(images: Sequence[UInt8], plan: Plan, number: int) -> Series:
    """Make one series; a function of its arguments alone.

    Parameters
    ----------
    images : sequence of ndarray of uint8, shape (H, W, 3)
        Good images, no smaller than the crops.
    plan : Plan
    number : int
        Which series of the plan.
    """
    rng = np.random.default_rng((plan.seed, number))
    reference = _crop(images[int(rng.integers(len(images)))], plan.size, rng)
    if rng.random() < _JOINED:
        other_image = images[int(rng.integers(len(images)))]
        reference = _joined(reference, _crop(other_image, plan.size, rng), rng)
    coloured = _is_coloured(reference)
    usable = [
        i for i, name in enumerate(KINDS) if i and (coloured or not DISTORTIONS[name].needs_colour)
    ]
    # In turn, so that all are seen equally often.
    kind = usable[number % len(usable)]
    chosen = np.sort(rng.choice(np.arange(1, LEVELS + 1), LENGTH - 1, replace=False))
    moved = np.clip(chosen + rng.uniform(-0.4, 0.4, LENGTH - 1), 0.6, LEVELS)
    levels = np.concatenate([[0.0], np.sort(moved)]).astype(np.float32)
    other, other_level, base = 0, 0.0, reference
    if rng.random() < plan.second:
        other = int(rng.choice([i for i in usable if i != kind]))
        other_level = float(rng.uniform(0.8, 3.0))
        base = _spoil(reference, other, other_level, int(rng.integers(2**31)))
    seed = int(rng.integers(2**31))
    crops = np.stack([_spoil(base, kind, float(level), seed) for level in levels])
    return Series(reference, crops, kind, levels, other, other_level)


def _spoil(image: UInt8, kind: int, level: float, seed: int) -> UInt8:
    if level == 0:
        return image
    name = KINDS[kind]
    worse = strength_at(DISTORTIONS[name], level)
    return distort(image, name, max(1, round(level)), seed, worse)


def _crop(image: UInt8, size: int, rng: np.random.Generator) -> UInt8:
    """Cut a square in which there is something to see; resize, turn and recolour it at random."""
    largest = min(image.shape[:2])
    best: UInt8 = image[:size, :size]
    most = -1.0
    for _ in range(4):
        # What is averaged to fewer pixels stays good, and is sharper and less noisy; what is
        # sampled more finely than its optics resolve is good as well, and softer.
        chance, side = rng.random(), size
        if chance < _SHRUNK:
            side = int(size * rng.uniform(1.0, max(1.0, min(2.0, largest / size))))
        elif chance < _SHRUNK + _ENLARGED:
            side = round(size / rng.uniform(1.0, 2.0))
        top, left = (int(rng.integers(0, extent - side + 1)) for extent in image.shape[:2])
        cut = image[top : top + side, left : left + side]
        seen = _activity(cut)
        if seen > most:
            best, most = cut, seen
        if most >= _FLAT:
            break
    if best.shape[0] != size:
        picture = Picture.fromarray(np.ascontiguousarray(best))
        fewer = best.shape[0] > size
        kernel = Picture.Resampling.BOX if fewer else Picture.Resampling.BICUBIC
        best = np.asarray(picture.resize((size, size), kernel))
        if not fewer and rng.random() < _NOISY:
            shape = (size, size, 3 if _is_coloured(best) else 1)
            noise = rng.uniform(0.4, 1.5) * rng.standard_normal(shape)
            best = np.clip(np.rint(best + noise), 0, 255).astype(np.uint8)
    turned = np.rot90(best, int(rng.integers(4)))
    turned = turned[:, ::-1] if rng.random() < 0.5 else turned
    return _recoloured(np.ascontiguousarray(turned), rng)


def _joined(one: UInt8, other: UInt8, rng: np.random.Generator) -> UInt8:
    """Put blobs of one crop on another, with edges a pixel wide."""
    size = one.shape[0]
    coarse = rng.standard_normal((int(rng.integers(3, 11)),) * 2).astype(np.float32)
    field = np.asarray(Picture.fromarray(coarse).resize((size, size), Picture.Resampling.BICUBIC))
    steepness = np.hypot(*np.gradient(field)) + 1e-6
    share = np.clip(field / steepness + 0.5, 0, 1)[..., None]
    joined: UInt8 = np.rint(share * one + (1 - share) * other).astype(np.uint8)
    return joined


def _is_coloured(image: UInt8) -> bool:
    return bool((image.max(axis=2) != image.min(axis=2)).any())


def _activity(cut: UInt8) -> float:
    gray = cut.mean(axis=2)
    return float(np.abs(np.diff(gray, axis=0)).mean() + np.abs(np.diff(gray, axis=1)).mean())


def _recoloured(image: UInt8, rng: np.random.Generator) -> UInt8:
    """Vary gamma and the order of channels, and invert some: stains and instruments differ."""
    x = image.astype(np.float32) / np.float32(255)
    if rng.random() < 0.15:
        x = 1 - x
    if rng.random() < 0.3:
        x = x[..., rng.permutation(3)]
    if rng.random() < 0.5:
        x = x ** np.float32(math.exp(rng.uniform(-0.35, 0.35)))
    if rng.random() < 0.1:
        x = np.repeat(x.mean(axis=2, keepdims=True), 3, axis=2)
    return np.rint(255 * x).astype(np.uint8)


@dataclass(frozen=True)
class Bank:
    """All series of a plan, mapped from disk.

    Parameters
    ----------
    references : ndarray of uint8, shape (N, S, S, 3)
    crops : ndarray of uint8, shape (N, L, S, S, 3)
    facts : ndarray of float32, shape (N, L, 5)
        Label, kind, level, second kind, and its level.
    """

    references: UInt8
    crops: UInt8
    facts: NDArray[np.float32]


def bank(
    images: Sequence[UInt8], names: Sequence[str], plan: Plan, folder: Path, context: Context
) -> Bank:
    """Make the series of a plan, or go on with those that `folder` holds.

    Parameters
    ----------
    images : sequence of ndarray of uint8, shape (H, W, 3)
    names : sequence of str
        Of the images; a folder with series of others is made anew.
    plan : Plan
    folder : Path
        Gets ``references.npy``, ``crops.npy`` and ``facts.npy``: 150 kB a series at 192 pixels
        for each of five crops.
    context : Context

    Raises
    ------
    OSError
        The folder cannot be written.
    Cancelled
        What is done is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stated = json.dumps({"plan": asdict(plan), "images": list(names), "kinds": KINDS}, indent=1)
    note = folder / "plan.json"
    if not note.exists() or note.read_text(encoding="utf-8") != stated:
        note.unlink(missing_ok=True)
        side = (plan.size, plan.size, 3)
        _blank(folder / "references.npy", np.uint8, (plan.count, *side))
        _blank(folder / "crops.npy", np.uint8, (plan.count, LENGTH, *side))
        _blank(folder / "facts.npy", np.float32, (plan.count, LENGTH, 5))[:] = np.nan
        note.write_text(stated, encoding="utf-8")
    made = Bank(
        *(
            np.load(folder / f"{name}.npy", mmap_mode="r+")
            for name in ("references", "crops", "facts")
        )
    )
    for number in range(plan.count):
        if not np.isnan(made.facts[number]).any():
            continue
        context.progress(number, plan.count, "making distorted series")
        _fill(made, images, plan, number)
    return made


def _blank(path: Path, dtype: type[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        # A full disk would kill a process that maps a sparse file.
        with path.open("r+b") as handle:
            os.posix_fallocate(handle.fileno(), 0, path.stat().st_size)
    return array


def _fill(made: Bank, images: Sequence[UInt8], plan: Plan, number: int) -> None:
    import torch

    from napari_cvsuite.quality.target import target

    one = draw(images, plan, number)

    def tensor(pixels: UInt8) -> torch.Tensor:
        return torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))

    made.references[number], made.crops[number] = one.reference, one.crops
    label = np.ones(LENGTH, np.float32)
    spoilt = (one.levels > 0) | (one.other > 0)
    before = tensor(one.reference[None]).expand(int(spoilt.sum()), -1, -1, -1)
    label[spoilt] = target(tensor(one.crops[spoilt]), before).numpy()
    # Last, as what has facts counts as done.
    made.facts[number] = np.stack(
        [label, *np.broadcast_arrays(one.kind, one.levels, one.other, one.other_level)], axis=1
    )
