"""Licences that a user must accept before a download, and the memory of having done so."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from napari_cvsuite.models.catalog import ModelCard, user_folder
from napari_cvsuite.models.files import into

__all__ = ["accept", "is_accepted", "terms"]

_writing = threading.Lock()


def terms(card: ModelCard) -> str:
    """Return what a user should read before accepting the licence of a model's weights."""
    lines = [f"The weights of {card.name} are licensed by their authors: {card.license}."]
    lines += [f"Authors: {card.citation}."] if card.citation else []
    lines += [f"From: {card.url}"] if card.url else []
    return "\n".join(lines)


def is_accepted(card: ModelCard) -> bool:
    """Return whether the weights may be downloaded: nothing to accept, or accepted before."""
    return not card.weights.license_must_be_accepted or _read().get(card.name) == card.license


def accept(card: ModelCard) -> None:
    """Remember that the user accepts the licence of this model; another licence is asked anew.

    Raises
    ------
    WeightsError
        The user folder cannot be written.
    """
    if is_accepted(card):
        return
    with _writing, into(_path()) as temporary:
        known = {**_read(), card.name: card.license}
        temporary.write_text(json.dumps(known, indent=2, ensure_ascii=False), encoding="utf-8")


def _path() -> Path:
    # Beside the folder of the models, in which every JSON file is a card.
    return user_folder().with_name("licences.json")


def _read() -> dict[str, str]:
    """Return the accepted licence of each model; nothing where the file is missing or damaged."""
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
