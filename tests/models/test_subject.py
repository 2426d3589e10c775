"""What is looked at: a classifier, one plane of an image, and a class or two."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.catalog import CardError
from napari_cvsuite.models.subject import class_number, class_pair, classifier_card, opened, see
from napari_cvsuite.models.view_options import ViewOptions


def test_a_slice_is_chosen_by_number(tiny_classifier: str) -> None:
    stack = np.zeros((2, 3, 32, 32), np.uint8)
    stack[1, 0] = 255
    chosen = ViewOptions(model=tiny_classifier, plane=3)
    with opened(chosen, Context()) as subject:
        seen = see(Image.from_array(stack), subject, Context())
        assert seen.pixels.min() == 1 and seen.index == {"t": 1, "z": 0}
    with (
        opened(replace(chosen, plane=6), Context()) as subject,
        pytest.raises(ImageError, match="6 slices, 0 to 5"),
    ):
        see(Image.from_array(stack), subject, Context())


def test_models_of_other_tasks_are_refused(tiny_model: str) -> None:
    with pytest.raises(CardError, match="not for classification"):
        classifier_card(tiny_model)


@pytest.mark.parametrize(
    ("text", "pair", "words"),
    [
        ("dog", (1, None), "dog"),
        ("2", (2, None), "bird"),
        ("dog-cat", (1, 0), "dog - cat"),
        ("2-0", (2, 0), "bird - cat"),
        ("bird-0", (2, 0), "bird - cat"),
    ],
)
def test_classes_and_their_differences_by_name(
    tiny_classifier: str, text: str, pair: tuple[int, int | None], words: str
) -> None:
    assert class_pair(text, classifier_card(tiny_classifier)) == (pair, words)


def test_names_of_classes_can_hold_a_dash(tiny_classifier: str) -> None:
    card = replace(classifier_card(tiny_classifier), classes=("T-cell", "B-cell", "T"))
    assert class_pair("T-cell", card) == ((0, None), "T-cell")
    assert class_pair("T-cell-B-cell", card) == ((0, 1), "T-cell - B-cell")


@pytest.mark.parametrize("text", ["cow", "3", "dog-cow", ""])
def test_classes_that_are_not_there(tiny_classifier: str, text: str) -> None:
    card = classifier_card(tiny_classifier)
    with pytest.raises(OptionError, match=f"no class '{text}'; its classes are cat, dog, bird"):
        class_number(text, card)
    with pytest.raises(OptionError, match="no class"):
        class_pair(text, card)
