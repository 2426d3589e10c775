"""Scores in words and rows, and the slices that are kept, as arrays; without a window."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image

from napari_cvsuite.quality.score import Row
from napari_cvsuite.segmentation.options import plane_numbers
from napari_cvsuite.widgets.quality_layers import kept_layer, kept_stack
from napari_cvsuite.widgets.quality_rows import (
    KEY,
    RATINGS,
    Scored,
    Scores,
    Subject,
    ranges_of,
    recalled,
    skip_of,
    verdict,
)
from napari_cvsuite.widgets.regions import Selection, whole

NAN = float("nan")


@pytest.mark.parametrize(
    ("likely", "confidence", "strength", "said"),
    [
        ("gaussian blur", 0.72, 4.1, "Probably gaussian blur, strong (72 %)."),
        ("gaussian blur", 0.5, 0.2, "Probably gaussian blur, slight (50 %)."),
        ("jpeg", 0.9, 5.0, "Probably jpeg, severe (90 %)."),
        ("jpeg", 0.49, 5.0, "Unclear; perhaps jpeg (49 %)."),
        ("none", 0.8, 0.0, "Probably no distortion (80 %)."),
        ("none", 0.3, 0.0, "Unclear; perhaps nothing is wrong (30 %)."),
        ("", NAN, NAN, "This model names no distortions."),
    ],
)
def test_verdicts_are_as_sure_as_the_network(
    likely: str, confidence: float, strength: float, said: str
) -> None:
    assert verdict(Row(0, 0.5, 10.0, likely, confidence, strength)) == said


def test_a_slice_without_a_score_says_why() -> None:
    assert verdict(Row(0, NAN, note="all pixels are equal")) == "No score: all pixels are equal."


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([7], "7"), ([0, 3, 4, 5], "0,3-5"), ([5, 4, 4, 1], "1,4-5"), ([0, 2], "0,2")],
)
def test_numbers_in_short_are_read_back(numbers: list[int], text: str) -> None:
    assert ranges_of(numbers) == text
    read = [number for one in plane_numbers(text) for number in one]
    assert read == sorted(set(numbers))


def _scores(layer: Image, axis: str, values: list[float], selection: Selection) -> Scores:
    subject = Subject.of(layer, selection, axis)
    rows = tuple(Row(i, v, position={"z": i}) for i, v in enumerate(values))
    return Scores([Scored(subject, rows, {"model": "m"})])


def test_what_could_not_be_judged_is_kept() -> None:
    layer = Image(np.zeros((3, 40, 40)), metadata={"mine": 1})
    scores = _scores(layer, "auto", [0.2, NAN, 0.6], whole(layer))
    scores.reject_below(0.5)
    assert scores.kept() == [False, True, True] and scores.rejected(0) == [0]
    scores.write_metadata(0.5, [layer])
    assert layer.metadata["mine"] == 1 and layer.metadata[KEY]["rejected"] == [0]
    assert skip_of(layer) == "0"
    with pytest.raises(ValueError, match="another axis"):
        skip_of(layer, "y")
    with pytest.raises(ValueError, match="has no scores"):
        skip_of(Image(np.zeros((3, 40, 40))))
    scores.reject_below(None)
    assert scores.kept() == [True, True, True]


def test_slices_of_a_part_cut_along_y_have_the_numbers_of_the_layer() -> None:
    layer = Image(np.zeros((40, 50, 60)))
    scores = _scores(layer, "y", [0.1, 0.2], Selection((0, 7, 0), (40, 9, 60)))
    assert [row["slice"] for row in scores.rows] == [7, 8]
    assert scores.find(0, (8,)) == 1 and scores.find(0, (1,)) is None


def test_scores_and_ratings_of_a_part_are_found_again_with_the_layer() -> None:
    layer = Image(
        np.zeros((40, 50, 60)), metadata={RATINGS: {"y": {7: 1.0, 30: 3.0}, "z": {7: 9.0}}}
    )
    scores = _scores(layer, "y", [0.1, NAN], Selection((0, 7, 0), (40, 9, 60)))
    scores.recall_ratings(None)
    assert scores.rows[0]["rating"] == 1 and np.isnan(scores.rows[1]["rating"])
    scores.rows[0]["rating"], scores.rows[1]["rating"] = NAN, 4.0
    scores.write_ratings([])
    assert layer.metadata[RATINGS]["y"] == {7: 1.0, 30: 3.0}
    scores.write_ratings([layer])
    # The slice that was not scored and another cut keep theirs; what was taken back is gone.
    assert layer.metadata[RATINGS] == {"y": {8: 4.0, 30: 3.0}, "z": {7: 9.0}}
    assert recalled(layer) is None
    scores.write_metadata(None, [layer])
    found = recalled(layer)
    assert found is not None and found.provenance == {"model": "m"}
    assert found.subject == scores.parts[0].subject and found.subject.layer is layer
    assert [row.position for row in found.rows] == [{"z": 0}, {"z": 1}]
    for other in (np.zeros((40, 51, 60)), np.zeros((50, 60))):
        changed = Image(other, metadata=layer.metadata)
        assert recalled(changed) is None


def test_a_result_does_not_keep_a_layer_alive() -> None:
    layer = Image(np.zeros((2, 40, 40)))
    scores = _scores(layer, "auto", [0.1, 0.2], whole(layer))
    assert scores.part_of(layer) == 0
    del layer
    import gc

    gc.collect()
    assert scores.parts[0].subject.layer is None


class _Lazy:
    """An array that cannot be read as a whole."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim

    def __getitem__(self, at: Any) -> np.ndarray:
        part = self._array[at]
        assert part.size <= self._array[0, 0].size, "more than a slice was read"
        return part


@pytest.mark.parametrize("kind", ["numpy", "dask", "lazy"])
def test_kept_slices_are_a_lazy_view(kind: str) -> None:
    data = np.random.default_rng(0).integers(0, 99, (2, 3, 8, 9))
    given: Any = {"numpy": data, "dask": da.from_array(data), "lazy": _Lazy(data)}[kind]
    shown = kept_stack(given, (0, 1), [1, 5])
    assert isinstance(shown, da.Array)
    np.testing.assert_array_equal(shown[1].compute(), data[1, 2])
    np.testing.assert_array_equal(shown[0].compute(), data[0, 1])


def test_kept_slices_along_another_axis_and_in_colour() -> None:
    data = np.random.default_rng(0).integers(0, 255, (3, 8, 9), "u1")
    layer = kept_layer(Image(data, scale=(3, 2, 1), colormap="green"), (1,), [0, 7])
    np.testing.assert_array_equal(np.asarray(layer.data), data.transpose(1, 0, 2)[[0, 7]])
    np.testing.assert_allclose(layer.scale, (2, 3, 1))
    assert layer.colormap.name == "green"
    colour = np.random.default_rng(0).integers(0, 255, (3, 8, 9, 3), "u1")
    layer = kept_layer(Image(colour, rgb=True), (0,), [2])
    assert layer.rgb
    np.testing.assert_array_equal(np.asarray(layer.data), colour[[2]])
