"""Find and check the weights of a card on this machine, else fetch them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from napari_cvsuite.jobs.context import current_context
from napari_cvsuite.models.catalog import Catalogue, ModelCard, builtin_folder, user_folder
from napari_cvsuite.models.download import download
from napari_cvsuite.models.files import WeightsError, forget_hashes, into, require_hash, sha256

__all__ = [
    "completed",
    "fetch",
    "find",
    "is_here",
    "locate",
    "require_free",
    "verify",
    "write_card",
]


def locate(card: ModelCard) -> Path:
    """Return a verified weight file of `card`, downloading it if it is nowhere on this machine.

    Looks in the user folder, the folders of ``NAPARI_CVSUITE_WEIGHTS``, the package, then the
    network. A local file with the wrong hash is reported as a warning and passed over.

    Raises
    ------
    WeightsError
        The weights are in none of the places; the message tells how to supply them.
    """
    path, problems = _local(card)
    if path is not None:
        return path
    for problem in problems:
        current_context().warn(problem)
    return download(card, problems, accepted=False)


def fetch(card: ModelCard, accept_license: bool = False) -> Path:
    """Return the weight file, downloading it into the user folder where none is local.

    Parameters
    ----------
    card : ModelCard
    accept_license : bool
        The user agrees to `card.license`; needed once where the card demands it.

    Raises
    ------
    WeightsError
        The licence is not accepted, or no address delivers; the message says what to do.
    """
    path, problems = _local(card)
    return path if path is not None else download(card, problems, accepted=accept_license)


def verify(card: ModelCard) -> Path:
    """Hash the local file anew and return its path; never downloads.

    Raises
    ------
    WeightsError
        No local file, or none with the hash of the card.
    """
    forget_hashes()
    path, problems = _local(card)
    if path is None:
        missing = f"{card.weights.filename} is not on this machine."
        detail = "\n".join(problems) or missing
        raise WeightsError(
            f"Model {card.name!r} has no verified weights.\n{detail}\n"
            f"Get them with: napari-cvsuite models fetch {card.name}"
        )
    return path


def find(card: ModelCard) -> Path | None:
    """Return the verified local weight file; None where there is none. Never downloads."""
    return _local(card)[0]


def is_here(card: ModelCard) -> bool:
    """Return whether a file of the right name is on this machine, without reading it."""
    return any(path.is_file() for path in _places(card))


def completed(card: ModelCard) -> ModelCard:
    """Return the card with the whole hash and the size of its file, if that is on this machine.

    Cards of published files may know only the first digits of the hash, and no size.
    """
    path = find(card)
    if path is None:
        return card
    file = replace(card.weights, sha256=sha256(path), size=path.stat().st_size)
    return replace(card, weights=file)


def _places(card: ModelCard) -> list[Path]:
    extra = os.environ.get("NAPARI_CVSUITE_WEIGHTS", "").split(os.pathsep)
    folders = [user_folder(), *(Path(f) for f in extra if f), builtin_folder()]
    return [folder / card.weights.filename for folder in folders]


def _local(card: ModelCard) -> tuple[Path | None, list[str]]:
    """Return the first local file with the right hash, and what is wrong with the others."""
    problems: list[str] = []
    for path in _places(card):
        try:
            if path.is_file():
                require_hash(path, card)
                return path, problems
        except (OSError, WeightsError) as error:
            problems.append(str(error))
    return None, problems


def require_free(card: ModelCard) -> None:
    """Refuse to shadow another model by name, or to overwrite another model's file."""
    for other in Catalogue():
        waits = not other.weights.sha256 and other.name == card.name
        if waits or other.weights.is_same(card.weights):
            continue
        if other.name == card.name:
            raise WeightsError(f"A different model called {card.name!r} exists; use another name.")
        if other.weights.filename == card.weights.filename:
            raise WeightsError(
                f"{card.weights.filename} is the file of model {other.name!r}; use another name."
            )


def write_card(card: ModelCard) -> None:
    """Write `card` into the user folder, complete or not at all.

    Not for a model of the package, whose own card is the one that counts if it has a hash.
    """
    if any(card.name == own.name and own.weights.sha256 for own in Catalogue().packaged()):
        return
    with into(user_folder() / f"{card.name}.json") as temporary:
        temporary.write_text(card.to_json(), encoding="utf-8")
