"""A changed transformer as a model of its own: weights, card, and the recipe that made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_cvsuite.models.cnn import Classifier
from napari_cvsuite.models.subject import Subject
from napari_cvsuite.models.vit import VisionTransformer
from napari_cvsuite.reports.files import write_facts
from napari_cvsuite.training.publish import FACTS, MODEL, write_of_run

__all__ = ["RECIPE", "write_variant"]

RECIPE = "recipe.json"
"""Name of the file that says how a model was made."""


def write_variant(
    subject: Subject,
    model: VisionTransformer,
    folder: Path,
    description: str,
    recipe: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> Path:
    """Write a changed transformer into a folder, ready to be imported by the folder's name.

    Every number is kept as it is, so that the imported model gives the same logits.

    Parameters
    ----------
    subject : Subject
        The classifier that it was made from.
    model : VisionTransformer
    folder : Path
        Made if needed.
    description : str
        What was changed, for people.
    recipe : mapping
        Plain data.
    metrics : mapping of str to float
        What was measured of it.

    Returns
    -------
    Path
        The weight file; its card and :data:`RECIPE` lie beside it.

    Raises
    ------
    WeightsError, ImageError
        A file cannot be written.
    """
    before, card = subject.network, subject.card.to_dict()
    assert isinstance(before, Classifier)
    norm = before.normalize
    network = Classifier(model, norm.mean.tolist(), norm.std.tolist(), bool(norm.clamp))
    facts = {key: card[key] for key in FACTS}
    options = {k: v for k, v in card["options"].items() if k in ("resize", "clamp")}
    facts |= {
        "options": {**model.config.to_dict(), **options},
        "description": f"{description} Made from {subject.card.name}. {card['description']}",
    }
    write_of_run(network.state_dict(), folder, facts, metrics, half=False)
    write_facts(folder / RECIPE, recipe)
    return folder / MODEL
