"""Tests of the segmentation jobs as jobs: on the queues, and as requests."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from napari_cvsuite.images import Image
from napari_cvsuite.jobs.context import Cancelled, Context, Progress
from napari_cvsuite.jobs.queues import Scheduler
from napari_cvsuite.jobs.registry import find
from napari_cvsuite.jobs.request import InputReference, Request, RequestError
from napari_cvsuite.segmentation.options import PredictOptions, RetrainOptions, TrainOptions
from napari_cvsuite.segmentation.predict import run as predict
from napari_cvsuite.segmentation.train import TrainInputs
from napari_cvsuite.segmentation.train import run as train

WAIT = 120.0


def test_predict_is_answered_while_training(tmp_path: Path, tiny_model: str) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Picture.fromarray((np.eye(64) * 255).astype("u1")).save(tmp_path / folder / "a.png")
    inputs = TrainInputs(tmp_path / "images", tmp_path / "masks", tmp_path / "run", ("none",))
    options = TrainOptions(
        width=4, size=64, batch=1, crops=200, epochs=50, validate_every=50, schedule="constant"
    )
    scheduler, stepping = Scheduler(), threading.Event()
    steps: list[str] = []

    def count(progress: Progress) -> None:
        if progress.message.startswith("epoch"):
            steps.append(progress.message)
            stepping.set()

    training = scheduler.submit("cpu", lambda c: train(inputs, options, c), "train", "training")
    training.add_progress_callback(count)
    assert stepping.wait(WAIT)
    taken: list[int] = []

    def quick(context: Context) -> object:
        taken.append(len(steps))
        return predict(Image.from_array(np.eye(64)), PredictOptions(model=tiny_model), context)

    asked = len(steps)
    result = scheduler.submit("cpu", quick, "predict").result(WAIT)
    assert result.classes.shape == (64, 64)
    assert taken[0] - asked <= 2
    # Training goes on after it.
    stepping.clear()
    assert stepping.wait(WAIT) and training.state == "running"
    training.cancel()
    with pytest.raises(Cancelled):
        training.result(WAIT)
    assert scheduler.shutdown(timeout=WAIT)


def test_requests_of_all_jobs_survive_pickle_yaml_and_json() -> None:
    inputs = TrainInputs(
        Path("in put/images"), Path("masks"), Path("run"), ("a", "b: c"), Path("i.csv"), "kind"
    )
    requests = [
        Request(
            "segmentation.predict",
            PredictOptions(model="m", tile=128, halo=16, tta=True),
            (InputReference("file", "a.tif"), InputReference("layer", "Ünï: code")),
        ),
        Request(
            "segmentation.train",
            TrainOptions(classes=3, class_names="no,one,two", lr=3e-4, start="qtseg-nuclei"),
            inputs.references(),
        ),
        Request(
            "segmentation.retrain",
            RetrainOptions(model="m", name="mine", epochs=3, lr=1e-4, stain="hematoxylin"),
            (InputReference("layer", "a", "image"), InputReference("layer", "b", "labels")),
        ),
    ]
    for request in requests:
        assert pickle.loads(pickle.dumps(request)) == request
        assert Request.from_yaml(request.to_yaml()) == request
        assert Request.from_json(request.to_json()) == request
        assert isinstance(request.options, find(request.job).load_options())
    read = Request.from_yaml(requests[1].to_yaml())
    assert TrainInputs.from_references(read.inputs) == inputs
    assert pickle.loads(pickle.dumps(inputs)) == inputs


def test_inputs_of_a_training_can_be_few_and_must_be_whole() -> None:
    inputs = TrainInputs(Path("i"), Path("m"), Path("o"))
    assert TrainInputs.from_references(inputs.references()) == inputs
    few = [InputReference("file", name, name) for name in ("images", "masks", "out")]
    read = TrainInputs.from_references(few)
    assert read == TrainInputs(Path("images"), Path("masks"), Path("out"))
    for bad in (few[:2], [*few, few[0]], [*few, InputReference("file", "x", "other")]):
        with pytest.raises(RequestError, match="images, masks, out"):
            TrainInputs.from_references(bad)
