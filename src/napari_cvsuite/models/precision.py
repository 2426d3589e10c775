"""Reduced precision only for networks whose answer it does not change.

Channel attention without scaling can amplify rounding a hundredfold, depending on the weights
alone. So a checkpoint is compared with float32 once, on one picture, before it is trusted.
"""

from __future__ import annotations

import threading

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from napari_cvsuite.jobs.context import Context, current_context
from napari_cvsuite.models.catalog import ModelCard
from napari_cvsuite.models.store import ModelStore

__all__ = ["AGREEMENT", "agreement", "forget_precisions", "gated_precision"]

AGREEMENT = 0.995
"""Least share of pixels with the same class as in float32 for which a precision is used."""

_SIDES = (64, 512)
_known: dict[tuple[str, str, str], float] = {}
_lock = threading.Lock()


def gated_precision(
    store: ModelStore,
    card: ModelCard,
    device: str,
    precision: str,
    context: Context | None = None,
) -> str:
    """Return `precision`, or float32 where the network does not bear it.

    The comparison is made once in a process for each weight file, device and precision.

    Parameters
    ----------
    store : ModelStore
        Lends the network.
    card : ModelCard
    device : str
        Such as ``"cuda:0"``.
    precision : {"float32", "bfloat16", "float16"}
        From :func:`napari_cvsuite.models.device.choose_precision`.
    context : Context, optional
        Gets the warning; default the current one.

    Raises
    ------
    WeightsError
        The network cannot be loaded.
    """
    if precision == "float32":
        return precision
    key = (card.weights.sha256, device, precision)
    with _lock:
        share = _known.get(key)
    if share is None:
        side = round(card.input.tile * card.input.scale) // 32 * 32
        picture = _picture(min(max(side, _SIDES[0]), _SIDES[1]), card.input.channels)
        with store.lease(card, device, precision) as network:
            share = agreement(network, picture.to(device), precision)
        with _lock:
            _known[key] = share
    if share >= AGREEMENT:
        return precision
    (context or current_context()).warn(
        f"{card.name} computes in float32: in {precision} only {share:.2%} of the pixels of a test "
        f"picture keep their class ({AGREEMENT:.2%} are needed)."
    )
    return "float32"


def agreement(network: nn.Module, picture: Tensor, precision: str) -> float:
    """Return the share of pixels that have the same class in `precision` as in float32.

    Parameters
    ----------
    network : nn.Module
        Returns (logits, embedding); in eval mode, on the device of `picture`.
    picture : Tensor of float32, shape (B, C, H, W)
    precision : {"bfloat16", "float16"}

    Returns
    -------
    float
        In [0, 1]; 0 where the reduced precision gives NaN or infinity.
    """
    with torch.inference_mode():
        exact = network(picture)[0]
        with torch.autocast(picture.device.type, getattr(torch, precision)):
            reduced = network(picture)[0]
    if not torch.isfinite(reduced).all():
        return 0.0
    return float((_classes(exact) == _classes(reduced)).double().mean())


def forget_precisions() -> None:
    """Compare every network anew from now on."""
    with _lock:
        _known.clear()


def _classes(logits: Tensor) -> Tensor:
    return logits > 0 if logits.shape[1] == 1 else logits.float().argmax(dim=1, keepdim=True)


def _picture(side: int, channels: int) -> Tensor:
    """Return a picture with bright and dark blobs of several sizes, 1 x channels x side x side."""
    rng = np.random.default_rng(0)
    planes = np.zeros((channels, side, side))
    for blur in (1.5, 4.0, 12.0):
        # The same blobs in every channel, and a little of its own for each.
        shared = rng.standard_normal((1, side, side)) + rng.standard_normal(planes.shape) / 4
        layer = ndimage.gaussian_filter(shared, (0, blur, blur), mode="wrap")
        planes += layer / layer.std()
    planes += rng.standard_normal(planes.shape) / 4
    low, high = planes.min(), planes.max()
    return torch.from_numpy((2 * (planes - low) / (high - low) - 1).astype(np.float32))[None]
