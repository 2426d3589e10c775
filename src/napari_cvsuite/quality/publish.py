"""Turn a training run into a weight file with its card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

from napari_cvsuite.models.topiq import CFANet
from napari_cvsuite.quality.series import KINDS

__all__ = ["PART", "card_fields", "calibrate", "temperature"]

PART = 1024
"""Side of the parts in which larger images are scored."""
_LAST = "distortion_head.layers.3"


def temperature(logits: Tensor, kinds: Tensor) -> float:
    """Return the number by which logits are divided for the best likelihood (Guo et al. 2017).

    Parameters
    ----------
    logits : Tensor, shape (N, K)
    kinds : Tensor of int64, shape (N,)
    """

    def cost(log_temperature: float) -> float:
        return float(F.cross_entropy(logits / np.exp(log_temperature), kinds))

    return float(np.exp(minimize_scalar(cost, bounds=(-2.0, 3.0), method="bounded").x))


def calibrate(state: Mapping[str, Tensor], by: float) -> dict[str, Tensor]:
    """Return a state dict whose logits of kinds are divided by a temperature."""
    scaled = dict(state)
    for name in ("weight", "bias"):
        value = state[f"{_LAST}.{name}"].clone()
        # The first half of the outputs are the logits, the second the strengths.
        value[: len(value) // 2] /= by
        scaled[f"{_LAST}.{name}"] = value
    return scaled


def card_fields(network: CFANet, training: Mapping[str, Any], data: str) -> dict[str, Any]:
    """Return what the card of a trained network says besides its metrics."""
    compares = network.config.use_ref
    return {
        "task": "quality",
        "architecture": "topiq",
        "options": network.config.to_dict(),
        "classes": list(KINDS),
        "license": "not stated",
        "description": (
            f"Quality {'against a reference' if compares else 'without reference'}, 0 to about 1, "
            "higher is better. Trained on synthetic distortions, not on human opinion."
        ),
        "data": data,
        "input": {"mode": "native", "tile": PART, "normalisation": "unit"},
        "training": dict(training),
    }
