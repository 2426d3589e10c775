"""The prediction after each layer."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_cvsuite.jobs import Context
from napari_cvsuite.paths.depth import accuracy, run
from napari_cvsuite.paths.labelled_options import DepthOptions
from napari_cvsuite.paths.options import TargetOptions
from napari_cvsuite.paths.session import Session
from napari_cvsuite.paths.subject import LabelledInputs
from napari_cvsuite.training.labelled import find_labelled, read_labelled, tensors
from tests.paths.plain import network_of, run_with, stack


def test_the_classifier_reads_the_sum_after_each_layer(tiny_transformer: str) -> None:
    options = TargetOptions(model=tiny_transformer, target="dog")
    found = run(stack(), options, Context())
    session = Session.start(stack(), options, Context())
    writes = run_with(session.model, session.x, {})[0]
    for depth in range(3):
        logits = session.model.classify(sum(writes[: 2 * depth + 1]))[0]
        assert found.logits[depth] == pytest.approx(logits.numpy(), abs=1e-5)
        shares = logits.double().softmax(dim=0).numpy()
        assert found.probabilities[depth] == pytest.approx(shares, abs=1e-6)
        assert found.rows()[depth]["probability"] == pytest.approx(shares[1], abs=1e-6)
        assert found.rows()[depth]["prediction"] == ("cat", "dog", "bird")[int(shares.argmax())]
    assert found.provenance["class"] == "dog"
    assert pickle.loads(pickle.dumps(found)).rows() == found.rows()


def test_accuracy_after_each_layer(tiny_transformer: str, animals: Path) -> None:
    options = DepthOptions(model=tiny_transformer, batch=5)
    found = accuracy(LabelledInputs(animals), options, Context())
    data = read_labelled(find_labelled(animals), 32, Context(), ("cat", "dog", "bird"))
    network = network_of(tiny_transformer)
    x, labels = network.normalize(tensors(data.images)), torch.from_numpy(data.labels)
    writes = run_with(network.model, x, {})[0]
    for depth in range(3):
        logits = network.model.classify(sum(writes[: 2 * depth + 1]))
        right = float((logits.argmax(dim=1) == labels).double().mean())
        assert found.accuracy[depth].value == pytest.approx(right)
        loss = float(torch.nn.functional.cross_entropy(logits, labels))
        assert found.loss[depth] == pytest.approx(loss, abs=1e-5)
    assert found.accuracy[0].n == 36 and found.provenance["images"] == 36
    rows = found.rows()
    assert rows[2]["low"] <= rows[2]["accuracy"] <= rows[2]["high"]
    assert np.isfinite(found.loss).all()
