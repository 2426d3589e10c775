"""The prediction for one image as a sum over paths."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from napari_cvsuite.images import Image
from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.plain import plain
from napari_cvsuite.models.catalog import CardError
from napari_cvsuite.paths.contributions import Contributions, of_session, run
from napari_cvsuite.paths.options import ContributionOptions, TargetOptions
from napari_cvsuite.paths.reading import NotDecomposableError
from napari_cvsuite.paths.session import Session
from tests.paths.plain import PIXELS, network_of, run_with, seen_tensor, stack


@pytest.fixture
def found(tiny_transformer: str) -> Contributions:
    return run(stack(), ContributionOptions(model=tiny_transformer), Context())


def test_shares_add_up_to_the_logits(found: Contributions, tiny_transformer: str) -> None:
    logits = network_of(tiny_transformer)(seen_tensor(found.pixels))[0].numpy()
    assert np.array_equal(found.logits, logits)
    assert found.shares.shape == (6, 3) and found.residual <= 5e-6
    assert found.shares.sum(axis=0) == pytest.approx(logits, abs=5e-6)
    assert found.centred.sum(axis=1) == pytest.approx(0, abs=1e-6)
    attention = found.heads.sum(axis=1) + found.biases
    assert attention == pytest.approx(found.shares[[1, 3]], abs=5e-6)


def test_effects_of_leaving_out_are_those_of_the_network(
    found: Contributions, tiny_transformer: str
) -> None:
    network = network_of(tiny_transformer)
    x = network.normalize(seen_tensor(found.pixels))
    writes, logits = run_with(network.model, x, {})
    final = sum(writes)
    for number, write in enumerate(writes):
        without = network.model.classify(final - write)
        assert found.removed_final[number] == pytest.approx((logits - without)[0].numpy(), abs=2e-5)
        assert found.norms[number] == pytest.approx(float(write[0, 0].norm()), rel=1e-4)


def test_rows_are_for_the_target(tiny_transformer: str) -> None:
    chosen = ContributionOptions(model=tiny_transformer, target="dog-cat")
    found = run(stack(), chosen, Context())
    assert found.target.name == "dog - cat" and found.provenance["class"] == "dog - cat"
    rows = found.rows()
    assert [row["path"] for row in rows] == [*found.names, "constant"]
    assert rows[2]["direct"] == pytest.approx(found.shares[2, 1] - found.shares[2, 0])
    # What all classes share vanishes in a difference.
    assert rows[2]["direct"] == pytest.approx(rows[2]["direct_centred"], abs=1e-6)
    whole = found.logits[1] - found.logits[0]
    assert sum(row["direct"] for row in rows) == pytest.approx(whole, abs=1e-5)
    assert rows[-1]["removed_final"] is None
    best = run(stack(), replace(chosen, target=""), Context())
    assert best.target.one == int(found.logits.argmax()) and best.likely[0].name == best.target.name


def test_two_images_differ_by_the_difference_of_their_shares(tiny_transformer: str) -> None:
    chosen = ContributionOptions(model=tiny_transformer)
    first = run(stack(), chosen, Context())
    second = run(stack(), replace(chosen, plane=2), Context())
    both = run(stack(), replace(chosen, other_plane=2), Context(), stack())
    assert np.array_equal(both.shares, first.shares - second.shares)
    assert np.array_equal(both.removed_final, first.removed_final - second.removed_final)
    assert both.against == "stack" and both.target == first.target
    # The embedding of the class token, and the constant, are the same for every image but for
    # the deviation of the norm.
    assert both.shares[-1] == pytest.approx(0, abs=1e-7) and both.norms[0] == 0
    itself = run(stack(), chosen, Context(), stack())
    assert not itself.shares.any() and itself.likely == first.likely


def test_a_session_gives_the_same(found: Contributions, tiny_transformer: str) -> None:
    options = TargetOptions(model=tiny_transformer)
    again = of_session(Session.start(stack(), options, Context()), options)
    assert np.array_equal(again.shares, found.shares) and again.target == found.target
    assert again.grid == found.grid and again.provenance["image"] == "stack"


def test_results_are_kept_and_told(found: Contributions) -> None:
    json.dumps(plain(found), allow_nan=False)
    back = pickle.loads(pickle.dumps(found))
    assert back.rows() == found.rows() and back.provenance == found.provenance
    assert found.provenance["interventions"] == ["direct", "removed_final"]
    # The middle square of 40 x 50 pixels in 32 cells.
    assert found.grid.step == (1.25, 1.25) and found.grid.origin == (0.125, 5.125)


@pytest.mark.parametrize(
    "changes",
    [
        {"pool": "avg_norm_before", "class_token": False},
        {"pool": "avg_norm_after"},
        {"distilled": True},
        {"layer_scale": True, "qk_norm": True},
        {"ensemble_scale": "channel"},
        {"ensemble_scale": "scalar", "placement": "stream"},
    ],
    ids=str,
)
def test_all_kinds_of_transformers_are_sums(
    install_transformer: Callable[..., str], changes: dict[str, object]
) -> None:
    name = install_transformer(**changes)
    found = run(stack(), ContributionOptions(model=name), Context())
    assert found.residual <= 5e-6
    logits = network_of(name)(seen_tensor(found.pixels))[0].numpy()
    assert found.shares.sum(axis=0) == pytest.approx(logits, abs=1e-5)


def test_networks_that_are_no_sums(
    install_transformer: Callable[..., str], tiny_classifier: str
) -> None:
    tanh = ContributionOptions(model=install_transformer(pre_logits=5))
    with pytest.raises(NotDecomposableError, match="tanh"):
        run(stack(), tanh, Context())
    with pytest.raises(CardError, match="vision transformer"):
        run(stack(), ContributionOptions(model=tiny_classifier), Context())


def test_images_of_odd_sizes_are_resized(tiny_transformer: str) -> None:
    for pixels in (PIXELS[0, :1, :1], PIXELS[0, :7, :33], PIXELS.repeat(9, 1).repeat(9, 2)):
        chosen = ContributionOptions(model=tiny_transformer, view="whole")
        found = run(Image.from_array(pixels), chosen, Context())
        assert found.pixels.shape == (32, 32, 3) and found.residual <= 5e-6


def test_a_swin_is_a_sum_too(tiny_swin: str) -> None:
    found = run(stack(), ContributionOptions(model=tiny_swin), Context())
    network = network_of(tiny_swin)
    logits = network(seen_tensor(found.pixels))[0].detach().numpy()
    assert found.logits == pytest.approx(logits, abs=5e-6)
    assert found.names == ("embed", "msa_0", "ffn_0", "merge_0", "msa_1", "ffn_1")
    assert found.shares.sum(axis=0) == pytest.approx(found.logits, abs=5e-6)
    assert found.heads.shape == (0, 0, 3) and np.isnan(found.norms).all()
    assert found.rows()[3]["path"] == "merge_0"
    json.dumps(plain(found), allow_nan=False)
