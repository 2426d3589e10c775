"""Accuracy on distorted copies of several classifiers, and their corruption errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_cvsuite.images import ImageError
from napari_cvsuite.jobs import Context, Progress
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.models.store import default_store
from napari_cvsuite.neurons.control_accuracy import (
    ATTACK,
    MEAN_ERROR,
    ControlRow,
    control_changes,
    control_rows,
    controls,
    controls_of_folder,
    corruption_errors,
)
from napari_cvsuite.neurons.options import BiasOptions
from napari_cvsuite.training.accuracy import wilson
from napari_cvsuite.training.labelled import Labelled

CLASSES = ("cat", "dog", "bird")


def _plain(name: str) -> Any:
    with default_store().lease(Catalogue().get(name), "cpu", "float32", exclusive=True) as network:
        return network.requires_grad_(False)


def _noise(models: tuple[str, str]) -> tuple[Labelled, int]:
    """Return noise with the first model's guesses as labels, and how many the second shares."""
    images = np.random.default_rng(0).integers(0, 255, (24, 32, 32, 3), np.uint8)
    x = torch.from_numpy(images.astype(np.float32) / 255).permute(0, 3, 1, 2)
    guesses = [_plain(name)(x).argmax(dim=1).numpy() for name in models]
    both = int((guesses[0] == guesses[1]).sum())
    return Labelled(images, guesses[0], CLASSES, tuple(map(str, range(24)))), both


def test_controls_are_measured_on_what_all_get_right(
    tiny_classifier: str, other_classifier: str
) -> None:
    models = (tiny_classifier, other_classifier)
    data, both = _noise(models)
    assert both > 0
    told: list[Progress] = []
    rows = controls(data, models, BiasOptions(batch=5), Context(on_progress=told.append))
    assert rows[0].control == "none" and rows[0].rates[0].value == 1.0
    assert rows[0].rates[1].value == pytest.approx(both / 24)
    kinds = [(row.control, row.level) for row in rows[1:]]
    assert kinds == [*control_changes(), (ATTACK, None)]
    assert all(rate.n == both for row in rows[1:] for rate in row.rates)
    # Progress only grows, and the steps of an attack are told.
    shares = [one.done / one.total for one in told]
    assert shares == sorted(shares) and shares[-1] < 1
    assert any(ATTACK in one.message and one.message.endswith("attack") for one in told)
    other = Labelled(data.images[:, :16], data.labels, CLASSES, data.names)
    with pytest.raises(ImageError, match="compare models that take the same"):
        controls(other, models, BiasOptions(), Context())
    wrong = Labelled(data.images, (data.labels + 1) % 3, CLASSES, data.names)
    with pytest.raises(ValueError, match="no image is named rightly by all"):
        controls(wrong, models[:1], BiasOptions(), Context())


def _row(control: str, level: float | None, *right: int) -> ControlRow:
    return ControlRow(control, level, "ours", tuple(wilson(one, 10) for one in right))


# S errs in 1 and 3 of 10 noisy images and in none that is grey; R in 2 and 4, and in 5.
BY_HAND = [
    _row("none", None, 10, 10),
    _row("noise", 0.1, 9, 8),
    _row("noise", 0.2, 7, 6),
    _row("blur", 1, 5, 9),
    _row("grey", None, 10, 5),
    _row(ATTACK, None, 0, 5),
]


def test_corruption_errors_have_the_first_model_as_their_baseline() -> None:
    (found,) = corruption_errors(BY_HAND)
    assert found is not None
    # (0.2 + 0.4) / (0.1 + 0.3) and 0.1 / 0.5; not grey, under which S never errs, nor the attack.
    assert dict(found.each) == pytest.approx({"noise": 1.5, "blur": 0.2})
    assert found.mean == pytest.approx(0.85)
    assert corruption_errors([_row("none", None, 10, 10), _row("grey", None, 10, 5)]) == (None,)


def test_corruption_errors_are_in_the_table() -> None:
    rows = control_rows(BY_HAND, ("S", "R"))
    assert all(row.keys() == rows[0].keys() for row in rows)
    assert [row["R CE"] for row in rows] == [
        None, pytest.approx(1.5), pytest.approx(1.5), pytest.approx(0.2), None, None,
        pytest.approx(0.85),
    ]  # fmt: skip
    last = rows[-1]
    assert (last["control"], last["tag"], last["n"]) == (MEAN_ERROR, "ours", 10)
    assert last["S"] is None and last["level"] is None and "S CE" not in last
    silent = control_rows([BY_HAND[0], BY_HAND[4]], ("S", "R"))
    assert [row["R CE"] for row in silent] == [None, None, None]
    alone = [ControlRow(one.control, one.level, one.tag, one.rates[:1]) for one in BY_HAND]
    assert [row["control"] for row in control_rows(alone, ("S",))] == [r.control for r in BY_HAND]


def test_a_folder_of_classes(animals: Path, tiny_classifier: str) -> None:
    found = controls_of_folder(animals, (tiny_classifier,) * 2, BiasOptions(), Context())
    # A model beside itself gets the same images right.
    assert all(row.rates[0] == row.rates[1] for row in found)
    assert found[0].rates[0].n == 36 and 0 < found[1].rates[0].n < 36
