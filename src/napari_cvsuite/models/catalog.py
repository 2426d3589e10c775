"""The catalogue of the models of the package and of those that the user added."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import platformdirs

from napari_cvsuite.models.cards import CardError, InputSpec, ModelCard, WeightFile

__all__ = [
    "CardError",
    "Catalogue",
    "InputSpec",
    "ModelCard",
    "UnknownModelError",
    "WeightFile",
    "builtin_folder",
    "known_folder",
    "user_folder",
]


class UnknownModelError(LookupError):
    """No model of that name; the message suggests near ones."""


def user_folder() -> Path:
    """Return the folder of the user's cards and weights; it may not exist yet.

    ``$NAPARI_CVSUITE_HOME/models`` where that variable is set.
    """
    home = os.environ.get("NAPARI_CVSUITE_HOME")
    base = Path(home) if home else Path(platformdirs.user_data_dir("napari-cvsuite", False))
    return base / "models"


def builtin_folder() -> Path:
    """Return the folder of the models shipped with the package."""
    return Path(str(resources.files("napari_cvsuite.models").joinpath("builtin")))


def known_folder() -> Path:
    """Return the folder of the cards of models that the package names but does not ship."""
    return Path(str(resources.files("napari_cvsuite.models").joinpath("known")))


class Catalogue:
    """The models of the package, those that it knows where to fetch, and the user's.

    Cards that cannot be read are left out, and named in :attr:`problems`: one bad file must not
    hide the other models. A model of the package wins over a user's of the same name, so that a
    name in a paper or a macro keeps its meaning; but one without a hash gives way to the user's.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._cards: dict[str, ModelCard] = {}
        self._of_package: frozenset[str] = frozenset()
        self.refresh()

    def refresh(self) -> None:
        """Read the folders again."""
        cards: dict[str, ModelCard] = {}
        problems: list[str] = []
        for folder in (builtin_folder(), known_folder(), user_folder()):
            if folder == user_folder():
                self._of_package = frozenset(cards)
            for path in sorted(folder.glob("*.json")):
                try:
                    card = ModelCard.from_json(path.read_text(encoding="utf-8"))
                except (OSError, ValueError) as error:
                    problems.append(f"{path}: {error}")
                    continue
                taken = cards.get(card.name)
                # A row without a hash waits for the file that the user brings.
                if taken is None or not taken.weights.sha256:
                    cards[card.name] = card
                elif taken != card:
                    problems.append(f"{path}: the name {card.name!r} is taken by another model")
        self._cards, self.problems = cards, problems

    def __iter__(self) -> Iterator[ModelCard]:
        return iter(self._cards.values())

    def __len__(self) -> int:
        return len(self._cards)

    def __contains__(self, name: object) -> bool:
        return name in self._cards

    def names(self) -> list[str]:
        """Return the names, those of the package first."""
        return list(self._cards)

    def packaged(self) -> list[ModelCard]:
        """Return the cards that came with the package."""
        return [card for card in self if card.name in self._of_package]

    def get(self, name: str) -> ModelCard:
        """Return the card called `name`; raises :class:`UnknownModelError`."""
        if name in self._cards:
            return self._cards[name]
        near = difflib.get_close_matches(name, self._cards, n=3, cutoff=0.5)
        if near:
            hint = "Did you mean " + " or ".join(repr(n) for n in near) + "?"
        else:
            hint = "Known models: " + (", ".join(sorted(self._cards)) or "none") + "."
        raise UnknownModelError(f"There is no model called {name!r}. {hint}")
