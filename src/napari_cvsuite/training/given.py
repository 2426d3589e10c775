"""Classifiers that a training is given: to start from, or to learn from."""

from __future__ import annotations

from pathlib import Path

from napari_cvsuite.models.adapters import describe
from napari_cvsuite.models.catalog import Catalogue, ModelCard
from napari_cvsuite.models.cnn import Classifier
from napari_cvsuite.models.store import BUILDERS, build_model
from napari_cvsuite.models.weights import WeightsError, card_beside, read_state_dict

__all__ = ["given_classifier"]


def given_classifier(source: str) -> tuple[Classifier, ModelCard]:
    """Return the network, in eval mode, and the card of a model or weight file.

    Parameters
    ----------
    source : str
        Name in the catalogue, or path of a file; the card beside the file is used.

    Raises
    ------
    WeightsError
        The weights cannot be used, or are not those of a classifier.
    UnknownModelError
        There is neither a file nor a model of that name.
    """
    path = Path(source)
    if not path.is_file():
        card = Catalogue().get(source)
        made = build_model(card, "plain") if card.task == "classification" else None
    else:
        state, beside = read_state_dict(path), card_beside(path)
        if isinstance(beside, ModelCard):
            card = beside
        else:
            card = describe(state, path.stem, beside or {}, b"")
        made = BUILDERS[card.architecture](card, state, "plain")
    if not isinstance(made, Classifier):
        raise WeightsError(f"{source} is for {card.task}; choose a classifier")
    return made, card
