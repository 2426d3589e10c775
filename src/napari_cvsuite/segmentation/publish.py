"""Turn a training run into a weight file with its card."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_cvsuite.models.adapters import infer_qtseg_config
from napari_cvsuite.models.catalog import ModelCard
from napari_cvsuite.models.weights import read_state_dict, write_safetensors

__all__ = ["publish"]


def publish(weights: Path, folder: Path, name: str, tile: int, facts: Mapping[str, Any]) -> Path:
    """Write ``NAME.safetensors`` (half precision) and ``NAME.json`` into `folder`.

    Parameters
    ----------
    weights : Path
        State dict of a QTSeg network, such as the ``best.pt`` of a run.
    folder : Path
        Where both files go; ``NAPARI_CVSUITE_HOME/models`` makes the model known at once.
    name : str
        Name of the model.
    tile : int
        Side of the crops it was trained on, in pixels.
    facts : mapping
        The rest of the card: ``classes``, ``license``, ``description``, ``data``, ``citation``
        and ``metrics``.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    WeightsError
        The weights cannot be read or written.
    CardError
        A fact is missing, unknown or of the wrong form.
    """
    state = read_state_dict(weights)
    config = infer_qtseg_config(state)
    path = write_safetensors(state, folder / f"{name}.safetensors", metadata={"name": name})
    content = path.read_bytes()
    card = ModelCard.from_dict(
        {
            **facts,
            "name": name,
            "task": "segmentation",
            "architecture": "qtseg",
            "options": config.to_dict(),
            "input": {"mode": "native", "tile": tile},
            "weights": {
                "filename": path.name,
                "sha256": hashlib.sha256(content).hexdigest(),
                "size": len(content),
            },
        }
    )
    target = folder / f"{name}.json"
    target.write_text(card.to_json() + "\n", encoding="utf-8")
    return target
