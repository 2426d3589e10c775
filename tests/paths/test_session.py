"""One image in one network, kept for quick answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from napari_cvsuite.images import ImageError
from napari_cvsuite.jobs import Cancelled, CancelToken, Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.models.store import default_store
from napari_cvsuite.paths.options import PathOptions
from napari_cvsuite.paths.replace import writes_of as replacement_of
from napari_cvsuite.paths.session import Session
from tests.paths.plain import network_of, run_with, seen_tensor, stack


@pytest.fixture
def session(tiny_transformer: str) -> Session:
    return Session.start(stack(), PathOptions(model=tiny_transformer), Context())


def test_the_session_predicts_what_the_network_predicts(
    session: Session, tiny_transformer: str
) -> None:
    network = network_of(tiny_transformer)
    assert torch.equal(session.logits, network(seen_tensor(session.seen.pixels))[0])
    assert session.names == ("embed", "msa_0", "ffn_0", "msa_1", "ffn_1")
    made = session.provenance(PathOptions(), more=1)
    assert made["image"] == "stack" and made["more"] == 1 and made["threads"] >= 1
    assert made["model"] == tiny_transformer and len(made["weights_sha256"]) == 64
    # Nothing is borrowed while the session lives.
    assert not default_store().in_use()


def test_paths_are_switched_off_and_on(session: Session) -> None:
    on = session.weighed({})
    assert on.logits.tolist() == session.logits.tolist() and not on.changed
    model, x = session.model, session.x
    writes, _ = run_with(model, x, {})
    off = session.weighed({"ffn_1": 0.0, "embed": 0.0})
    assert list(off.weights) == ["embed", "ffn_1"] and off.replacement == "zero"
    assert off.name == "embed+ffn_1"
    expected = model.classify(writes[1] + writes[2] + writes[3])[0]
    assert off.logits == pytest.approx(expected.numpy(), abs=1e-5)
    assert off.changed == (int(expected.argmax()) != int(session.logits.argmax()))
    assert off.likely[0].name == ("cat", "dog", "bird")[int(expected.argmax())]
    gone = session.weighed({"msa_0": 0.0, "ffn_1": 0.0}, "total_module")
    expected = run_with(model, x, {1: 0.0, 4: 0.0})[1][0]
    assert gone.logits == pytest.approx(expected.numpy(), abs=1e-5)


def test_paths_write_what_they_write_for_another_slice(session: Session) -> None:
    other = session.another(stack(), 1, Context())
    assert other.model is session.model and other.seen.index == {"z": 1}
    replacement = replacement_of(session.model, other.paths, "other")
    found = session.weighed({"msa_0": 0.0}, "total_module", replacement)
    write = run_with(session.model, other.x, {})[0][1]
    expected = run_with(session.model, session.x, {1: write})[1][0]
    assert found.logits == pytest.approx(expected.numpy(), abs=1e-5)
    assert found.replacement == "other"


def test_mistakes_of_a_session(session: Session, tiny_transformer: str) -> None:
    with pytest.raises(OptionError, match="no path 'msa_9'"):
        session.weighed({"msa_9": 0.0})
    with pytest.raises(ValueError, match="removed_final or total_module, not by 'direct'"):
        session.weighed({"msa_0": 0.0}, "direct")
    with pytest.raises(ImageError, match="3 slices, 0 to 2"):
        session.another(stack(), 3, Context())
    stopped = CancelToken()
    stopped.cancel()
    with pytest.raises(Cancelled):
        session.weighed({"msa_0": 0.5}, "total_module", context=Context(token=stopped))
    with pytest.raises(ImageError, match="3 slices"):
        chosen = replace(PathOptions(model=tiny_transformer), plane=3)
        Session.start(stack(), chosen, Context())
