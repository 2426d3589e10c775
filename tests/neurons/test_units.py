"""Tables of units and concepts, and their comparison, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_cvsuite.neurons.overlap import Concept
from napari_cvsuite.neurons.units import Dissection, compare

SKY, BLUE, DOG = Concept(1, "sky", 0), Concept(4, "blue", 1), Concept(5, "dog", 0)


def _dissection(iou: list[list[float]]) -> Dissection:
    table = np.array(iou)
    return Dissection(
        layer="conv5",
        concepts=(SKY, BLUE, DOG),
        groups=("object", "colour"),
        mode="paper",
        cut=0.04,
        q=np.full(3, 0.005),
        threshold=np.ones(table.shape),
        on=np.full(table.shape, 0.005),
        area=np.array([0.125, 0.0025, 0.0]),
        iou_paper=table,
        iou_plain=table / 2,
    )


STANDARD = _dissection([[0.05, 0, 0.3], [0.01, 0.03, 0.02], [0.2, 0, 0.1], [0, 0, 0]])
ROBUST = _dissection([[0.05, 0.06, 0.0], [0.04, 0, 0]])


def test_units_take_the_concept_of_largest_overlap() -> None:
    assert STANDARD.labels == ["dog", "", "sky", ""]
    assert STANDARD.unique_concepts == ("sky", "dog")
    assert STANDARD.detectors_of_groups == {"object": 2, "colour": 0}
    assert replace(STANDARD, mode="plain").iou.max() == 0.15


def test_chance_and_ceiling_are_those_of_the_shares() -> None:
    # The published cut cannot be reached from 12.5 % on: 0.005 / 0.125.
    np.testing.assert_allclose(STANDARD.ceiling[0], [0.04, 0.5, 0])
    met = 0.005 * 0.125
    np.testing.assert_allclose(STANDARD.chance[0, 0], met / (0.13 - met))
    never = replace(STANDARD, on=np.zeros((4, 3)))
    assert never.chance.max() == never.ceiling.max() == 0


def test_rows_hold_the_table() -> None:
    rows = STANDARD.rows()
    assert len(rows) == 12
    assert rows[2] == {
        "channel": 0,
        "concept": "dog",
        "group": "object",
        "iou": 0.3,
        "chance": 0.0,
        "ceiling": 0.0,
        "on": 0.005,
        "area": 0.0,
        "q": 0.005,
        "threshold": 1.0,
        "detector": True,
    }
    assert [row["channel"] for row in rows if row["detector"]] == [0, 2]
    tested = replace(STANDARD, p=np.full((4, 3), 0.25), p_family=np.full((4, 3), 0.5))
    assert tested.rows()[0]["p"] == 0.25 and tested.rows()[0]["p_family"] == 0.5


def test_networks_are_compared_by_concepts_and_shares() -> None:
    found = compare(STANDARD, ROBUST)
    assert (found.gained, found.lost, found.kept) == (("blue",), ("dog",), ("sky",))
    assert found.detectors == (0.5, 1.0)
    assert found.groups == {"object": (0.5, 0.5), "colour": (0.0, 0.5)}
    assert found.rows()[0] == {"concept": "blue", "change": "gained"}


def test_only_like_is_compared_with_like() -> None:
    with pytest.raises(ValueError, match="dissect both on the same images"):
        compare(STANDARD, replace(ROBUST, concepts=(SKY, BLUE, replace(DOG, name="cat"))))
    with pytest.raises(ValueError, match="mode or cut"):
        compare(STANDARD, replace(ROBUST, mode="plain"))
