"""Numbers of objects through a stack, and what a layer shows."""

from __future__ import annotations

import numpy as np

from napari_cvsuite.jobs.request import Request
from napari_cvsuite.segmentation.options import PredictOptions
from napari_cvsuite.segmentation.predict import SegmentResult
from napari_cvsuite.widgets.prepare import number_through, prepare


def _result(planes: int = 1) -> SegmentResult:
    shape = (planes, 2, 2) if planes > 1 else (2, 2)
    objects = np.zeros(shape, np.int32)
    objects[..., 0, 0] = 1
    rows = [{"plane": float(i), "index": 1.0, "class": 1.0} for i in range(planes)]
    probabilities = np.zeros((*shape[:-2], 2, 2, 2), np.float16)
    probabilities[..., 0, :, :] = 0.25
    return SegmentResult(
        classes=(objects > 0).astype(np.uint8),
        objects=objects,
        probabilities=probabilities,
        uncertainty=np.zeros(shape, np.float16),
        table=rows if planes > 1 else [{"index": 1.0, "class": 1.0}],
        axes="zyx" if planes > 1 else "yx",
        provenance={"model": "m"},
    )


def test_every_object_of_a_stack_has_its_own_number() -> None:
    objects = np.array([[[1, 2]], [[0, 0]], [[1, 1]]], np.int32)
    rows = [
        {"plane": 0.0, "index": 1.0},
        {"plane": 0.0, "index": 2.0},
        {"plane": 2.0, "index": 1.0},
    ]
    numbered, table = number_through(objects, rows)
    assert numbered.tolist() == [[[1, 2]], [[0, 0]], [[3, 3]]]
    assert [row["index"] for row in table] == [1, 2, 3]


def test_automatic_shows_objects_of_one_class_and_classes_of_many() -> None:
    options, result = PredictOptions(), _result()
    assert prepare(result, ("a", "b"), options, "x").kind == "objects"
    assert prepare(result, ("a", "b", "c"), options, "x").kind == "classes"
    assert prepare(result, ("a", "b"), PredictOptions(objects="none"), "x").kind == "classes"
    assert prepare(result, ("a", "b", "c"), options, "x", "objects").kind == "objects"


def test_maps_and_request() -> None:
    prepared = prepare(_result(3), ("a", "b"), PredictOptions(tta=True), "my image")
    assert prepared.maps["probability"].shape == (3, 2, 2)
    assert (prepared.maps["probability"] == 0.75).all()
    request = Request.from_dict(prepared.provenance["request"])
    assert request.options == PredictOptions(tta=True)
    assert request.inputs[0].value == "my image"
