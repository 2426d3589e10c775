"""What paths are worth over labelled images."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_cvsuite.jobs import Cancelled, CancelToken, Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.jobs.plain import plain
from napari_cvsuite.models.catalog import CardError, Catalogue
from napari_cvsuite.models.weights import (
    import_file,
    locate,
    read_state_dict,
    write_safetensors,
)
from napari_cvsuite.paths.influence import Influence, run
from napari_cvsuite.paths.labelled_options import InfluenceOptions
from napari_cvsuite.paths.options import EFFECTS
from napari_cvsuite.paths.subject import LabelledInputs
from napari_cvsuite.training.labelled import find_labelled, read_labelled, tensors
from tests.paths.plain import network_of, run_with


def _run(model: str, folder: Path, **options: object) -> Influence:
    chosen = InfluenceOptions(model=model, **options)  # type: ignore[arg-type]
    return run(LabelledInputs(folder), chosen, Context())


def _changes(logits: Tensor, after: Tensor, labels: Tensor) -> tuple[float, float]:
    right = (after.argmax(1) == labels).double() - (logits.argmax(1) == labels).double()
    loss = F.cross_entropy(after, labels) - F.cross_entropy(logits, labels)
    return float(right.mean()), float(loss)


def test_changes_are_those_of_the_network(tiny_transformer: str, animals: Path) -> None:
    found = _run(tiny_transformer, animals, batch=10)
    data = read_labelled(find_labelled(animals), 32, Context(), ("cat", "dog", "bird"))
    network = network_of(tiny_transformer)
    x, labels = network.normalize(tensors(data.images)), torch.from_numpy(data.labels)
    writes, logits = run_with(network.model, x, {})
    effects = {(one.intervention, one.path): one for one in found.effects}
    assert len(effects) == 5 + 4
    for number, name in enumerate(found.names):
        after = network.model.classify(sum(writes) - writes[number])
        accuracy, loss = _changes(logits, after, labels)
        one = effects["removed_final", name]
        assert one.accuracy.value == pytest.approx(accuracy)
        assert one.loss.value == pytest.approx(loss, abs=1e-5)
        assert one.loss.low <= one.loss.value <= one.loss.high
        if number:
            after = run_with(network.model, x, {number: 0.0})[1]
            accuracy, loss = _changes(logits, after, labels)
            one = effects["total_module", name]
            assert one.accuracy.value == pytest.approx(accuracy)
            assert one.loss.value == pytest.approx(loss, abs=1e-5)
    assert found.loss == pytest.approx(float(F.cross_entropy(logits, labels)), abs=1e-5)
    assert found.accuracy.n == 36


def test_the_mean_is_that_of_all_images(tiny_transformer: str, animals: Path) -> None:
    options = {"interventions": "total_layer,total_head", "replacement": "mean"}
    found = _run(tiny_transformer, animals, **options)
    data = read_labelled(find_labelled(animals), 32, Context(), ("cat", "dog", "bird"))
    network = network_of(tiny_transformer)
    x, labels = network.normalize(tensors(data.images)), torch.from_numpy(data.labels)
    writes, logits = run_with(network.model, x, {})
    means = {number: writes[number].mean(dim=0, keepdim=True) for number in (1, 2)}
    accuracy, loss = _changes(logits, run_with(network.model, x, means)[1], labels)
    first = found.effects[0]
    assert (first.path, first.replacement) == ("layer_0", "mean")
    assert first.accuracy.value == pytest.approx(accuracy)
    assert first.loss.value == pytest.approx(loss, abs=1e-5)
    assert [one.path for one in found.effects][2:4] == ["msa_0.head_0", "msa_0.head_1"]


def test_the_share_alone_decides_by_itself(tiny_transformer: str, animals: Path) -> None:
    found = _run(tiny_transformer, animals)
    network = network_of(tiny_transformer)
    data = read_labelled(find_labelled(animals), 32, Context(), ("cat", "dog", "bird"))
    x = network.normalize(tensors(data.images))
    writes, _ = run_with(network.model, x, {})
    norm, head = network.model.encoder.ln, network.model.heads.head
    for number in (0, 4):
        token = writes[number][:, 0]
        # The deviation of the norm is positive and does not change which share is largest.
        shares = ((token - token.mean(dim=1, keepdim=True)) * norm.weight) @ head.weight.T
        right = (shares.argmax(dim=1).numpy() == data.labels).mean()
        assert found.alone[number].value == pytest.approx(float(right))
    # The embedding of the class token is the same for all images.
    assert found.alone[0].value in (0.0, pytest.approx(1 / 3), 1.0)
    assert found.rows()[0]["share_alone"] == found.alone[0].value


def test_paths_that_write_nothing_change_nothing(
    install_transformer: Callable[..., str], animals: Path, tmp_path: Path
) -> None:
    loud = install_transformer("loud-vit", layer_scale=True)
    card = Catalogue().get(loud)
    state = read_state_dict(locate(card))
    mute = {k: torch.zeros_like(v) if "layer_scale" in k else v for k, v in state.items()}
    path = write_safetensors(mute, tmp_path / "mute-vit.safetensors", half=False)
    fields = {"classes": list(card.classes), "options": dict(card.options)}
    name = import_file(path, fields).name
    found = _run(name, animals, interventions=",".join(EFFECTS))
    silent = [one for one in found.effects if one.path != "embed"]
    assert len(silent) == 4 + 4 + 2 + 6 + 2
    for one in silent:
        assert (one.accuracy.value, one.accuracy.low, one.accuracy.high) == (0, 0, 0)
        assert one.loss.high == pytest.approx(0, abs=1e-7)


def test_results_are_kept_and_told(tiny_transformer: str, animals: Path) -> None:
    found = _run(tiny_transformer, animals, limit=9, seed=3)
    assert found.accuracy.n == 9 and found.provenance["images"] == 9
    json.dumps(plain(found), allow_nan=False)
    assert pickle.loads(pickle.dumps(found)).rows() == found.rows()
    again = _run(tiny_transformer, animals, limit=9, seed=3)
    assert again.rows() == found.rows()
    assert {row["replacement"] for row in found.rows()} == {"zero"}


def test_networks_with_a_tanh_have_effects_but_no_shares(
    install_transformer: Callable[..., str], animals: Path
) -> None:
    found = _run(install_transformer(pre_logits=4), animals)
    assert found.alone == () and np.isfinite([one.loss.value for one in found.effects]).all()
    assert found.rows()[0]["share_alone"] is None


def test_mistakes(tiny_transformer: str, tiny_classifier: str, animals: Path) -> None:
    with pytest.raises(OptionError, match=r"interventions are some of removed_final.*got 'total'"):
        InfluenceOptions(interventions="total")
    with pytest.raises(OptionError, match="interventions are some of"):
        InfluenceOptions(interventions=" ")
    with pytest.raises(CardError, match="vision transformer"):
        _run(tiny_classifier, animals)
    token = CancelToken()
    context = Context(token=token, on_progress=lambda one: token.cancel() if one.done > 2 else None)
    with pytest.raises(Cancelled):
        run(LabelledInputs(animals), InfluenceOptions(model=tiny_transformer), context)
