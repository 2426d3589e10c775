"""Turn a training run into a weight file with its card."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from napari_cvsuite.models.adapters import describe
from napari_cvsuite.models.catalog import CardError, Catalogue, ModelCard, user_folder
from napari_cvsuite.models.files import into
from napari_cvsuite.models.weights import (
    WeightsError,
    card_beside,
    read_state_dict,
    write_safetensors,
)

__all__ = [
    "MODEL",
    "publish",
    "read_facts",
    "require_new",
    "write_derived",
    "write_model",
    "write_of_run",
]

MODEL = "model.safetensors"
"""Name of the weight file in the folder of a run."""
FACTS = (
    "task",
    "architecture",
    "options",
    "input",
    "classes",
    "license",
    "description",
    "data",
    "citation",
    "metrics",
    "training",
    "url",
    "threshold",
)


def write_model(
    state: Mapping[str, Tensor],
    path: Path,
    name: str,
    facts: Mapping[str, Any],
    half: bool = True,
) -> ModelCard:
    """Write a weight file and, beside it, its card.

    Parameters
    ----------
    state : mapping of str to Tensor
        State dict of a network whose architecture shows in its keys.
    path : Path
        The weight file, ending in ``.safetensors``; the card ends in ``.json``.
    name : str
        Name of the model.
    facts : mapping
        Fields of the card; those that show in the weights can be left out.
    half : bool
        Store matrices in half precision; False keeps every number as it is.

    Raises
    ------
    WeightsError
        The files cannot be written.
    CardError
        A fact is unknown or of the wrong form.
    """
    write_safetensors(state, path, half, {"name": name})
    card = describe(state, name, {**facts, "name": name}, path.read_bytes())
    with into(path.with_suffix(".json")) as temporary:
        temporary.write_text(card.to_json(), encoding="utf-8")
    return card


def require_new(name: str) -> None:
    """Raise :class:`WeightsError` if there is a model of this name, or can be none."""
    if name in Catalogue():
        raise WeightsError(f"there is a model called {name!r} already; choose another name")
    if Path(name).name != name:
        raise WeightsError(f"{name!r} is no name of a model; leave out what parts folders")


def write_derived(
    state: Mapping[str, Tensor], base: ModelCard, name: str, changes: Mapping[str, Any]
) -> ModelCard:
    """Write a model that was made from another one into the user's folder.

    Parameters
    ----------
    state : mapping of str to Tensor
        See :func:`write_model`.
    base : ModelCard
        Of the model it was made from.
    name : str
        New.
    changes : mapping
        What its card says else than that of `base`.

    Raises
    ------
    WeightsError
        The name is taken, or the files cannot be written.
    """
    require_new(name)
    facts = {k: v for k, v in base.to_dict().items() if k != "weights"}
    path = user_folder() / f"{name}.safetensors"
    return write_model(state, path, name, {**facts, **changes})


def write_of_run(
    state: Mapping[str, Tensor],
    folder: Path,
    facts: Mapping[str, Any],
    metrics: Mapping[str, float],
    half: bool = True,
) -> ModelCard:
    """Write the model of a run, named after its folder, into it, ready to be imported.

    Parameters
    ----------
    state : mapping of str to Tensor
        See :func:`write_model`.
    folder : Path
        Of the run; the file is :data:`MODEL`.
    facts : mapping
        Fields of the card.
    metrics : mapping of str to float
        What was measured; what is not finite is left out.
    half : bool
        See :func:`write_model`.

    Raises
    ------
    WeightsError, CardError
        As :func:`write_model`.
    """
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", folder.resolve().name).strip("-._+") or "model"
    finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
    return write_model(state, folder / MODEL, stem[:100], {**facts, "metrics": finite}, half)


def publish(
    weights: Path,
    folder: Path,
    name: str,
    tile: int = 0,
    facts: Mapping[str, Any] | None = None,
    scale: float = 0.0,
) -> Path:
    """Write ``NAME.safetensors`` (half precision) and ``NAME.json`` into `folder`.

    What is not given is taken from the card that a training run writes beside its weights.

    Parameters
    ----------
    weights : Path
        State dict of a network, such as the ``best.pt`` of a run.
    folder : Path
        Where both files go, made if needed; ``NAPARI_CVSUITE_HOME/models`` makes the model known
        at once.
    name : str
        Name of the model.
    tile : int
        Side of the tiles in pixels of the image; 0 takes that of the run, or the usual one.
    facts : mapping, optional
        The rest of the card: ``classes``, ``license``, ``description``, ``data``, ``citation``
        and ``metrics``.
    scale : float
        Pixels that the network sees for each pixel of the image; 0 takes that of the run, or 1.

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
    beside = card_beside(weights)
    of_run = beside.to_dict() if isinstance(beside, ModelCard) else dict(beside or {})
    fields = {**{key: of_run[key] for key in FACTS if key in of_run}, **(facts or {})}
    chosen = {key: value for key, value in (("tile", tile), ("scale", scale)) if value}
    if chosen:
        stated = fields.get("input") or asdict(describe(state, name, fields, b"").input)
        fields["input"] = {**stated, **chosen}
    card = write_model(state, folder / f"{name}.safetensors", name, fields)
    return folder / f"{card.name}.json"


def read_facts(path: Path) -> dict[str, Any]:
    """Read the facts of a model from a JSON file.

    Raises
    ------
    CardError
        The file cannot be read or holds no table.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CardError(f"{path} cannot be read ({error}); give a JSON file of facts") from error
    if not isinstance(found, dict):
        raise CardError(f'{path} must hold a table of facts such as {{"license": "MIT"}}')
    return found
