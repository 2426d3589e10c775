"""Maps over the patches of one image."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.jobs.plain import plain
from napari_cvsuite.paths.contributions import run as contributions
from napari_cvsuite.paths.maps import PathMap, run
from napari_cvsuite.paths.options import MAPS, ContributionOptions, MapOptions
from napari_cvsuite.paths.reading import NotDecomposableError
from napari_cvsuite.paths.session import Session
from tests.paths.plain import run_with, stack


def _run(model: str, **options: object) -> PathMap:
    return run(stack(), MapOptions(model=model, **options), Context())  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", MAPS)
def test_every_map_lies_on_the_grid_of_patches(tiny_transformer: str, kind: str) -> None:
    found = _run(tiny_transformer, kind=kind)
    assert found.values.shape == (4, 4) and found.values.dtype == np.float32
    assert np.isfinite(found.values).all() and found.kind == kind
    # The middle square of 40 x 50 pixels, 40 wide, in patches of 10 pixels; the first lies at
    # (10 - 1) / 2 of the square, whose left edge is at 5.
    assert found.grid.step == (10, 10) and found.grid.origin == (4.5, 9.5)
    assert found.signed == (kind in ("share", "similarity"))
    if not found.signed:
        assert found.values.min() >= 0
    assert bool(found.target) == (kind in ("share", "relevance"))
    assert found.provenance["class"] == found.target and found.provenance["image"] == "stack"
    json.dumps(plain(found), allow_nan=False)
    assert pickle.loads(pickle.dumps(found)).name == found.name


def test_patches_and_the_class_token_add_up_to_the_share(tiny_transformer: str) -> None:
    shares = contributions(stack(), ContributionOptions(model=tiny_transformer), Context())
    best = shares.target.one
    found = _run(tiny_transformer, path="msa_1")
    assert found.own is not None and found.total is not None
    assert found.values.sum() + found.own == pytest.approx(found.total, abs=1e-6)
    bias = shares.biases[1, best]
    assert found.total + bias == pytest.approx(shares.shares[3, best], abs=5e-6)
    heads = [_run(tiny_transformer, path="msa_1", head=head) for head in range(3)]
    assert sum(one.values for one in heads) == pytest.approx(found.values, abs=5e-6)
    assert [one.total for one in heads] == pytest.approx(shares.heads[1, :, best], abs=5e-6)
    every = _run(tiny_transformer)
    first = _run(tiny_transformer, path="msa_0")
    assert every.values == pytest.approx(first.values + found.values, abs=5e-6)
    assert "msa_1 head 2" in heads[2].name and shares.target.name in heads[2].name


def test_a_difference_of_classes_is_a_difference_of_maps(tiny_transformer: str) -> None:
    both = _run(tiny_transformer, target="cat-bird", path="msa_0")
    cat, bird = (_run(tiny_transformer, target=name, path="msa_0") for name in ("cat", "bird"))
    assert both.values == pytest.approx(cat.values - bird.values, abs=1e-6)
    assert both.target == "cat - bird"


def test_averaging_networks_show_where_every_path_writes(
    install_transformer: Callable[..., str],
) -> None:
    name = install_transformer(pool="avg_norm_before", registers=1)
    shares = contributions(stack(), ContributionOptions(model=name), Context())
    for path in ("embed", "ffn_1"):
        found = _run(name, path=path)
        expected = shares.shares[shares.names.index(path), shares.target.one]
        assert found.values.sum() == pytest.approx(expected, abs=5e-6)
        assert (found.own, found.total) == (0.0, pytest.approx(expected, abs=5e-6))
    with pytest.raises(OptionError, match="leave the head away"):
        _run(name, path="msa_0", head=1)


def test_attention_similarity_and_norms_of_a_layer(tiny_transformer: str) -> None:
    options = MapOptions(model=tiny_transformer)
    session = Session.start(stack(), options, Context())
    writes = run_with(session.model, session.x, {})[0]
    z = sum(writes[:3])
    block = session.model.blocks[1]
    q, k, _ = block.self_attention.project(block.ln_1(z))
    weights = block.self_attention.weights(q, k)[0, :, 0, 1:].reshape(3, 4, 4).numpy()
    one = _run(tiny_transformer, kind="attention", layer=1, head=2)
    assert one.values == pytest.approx(weights[2], abs=1e-5)
    mean = _run(tiny_transformer, kind="attention")
    assert mean.values == pytest.approx(weights.mean(axis=0), abs=1e-5)
    patches, token = z[0, 1:].numpy(), z[0, 0].numpy()
    lengths = np.linalg.norm(patches, axis=1)
    norms = _run(tiny_transformer, kind="token_norm", layer=0)
    assert norms.values.ravel() == pytest.approx(lengths, rel=1e-4)
    alike = _run(tiny_transformer, kind="similarity", layer=0)
    expected = patches @ token / lengths / np.linalg.norm(token)
    assert alike.values.ravel() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"path": "ffn_0"}, "acts on the class token alone and has no map; choose an msa path"),
        ({"path": "msa_2"}, "no path 'msa_2'"),
        ({"path": "msa_1", "head": 3}, "3 heads, 0 to 2; got 3"),
        ({"kind": "attention", "layer": 2}, "2 layers, 0 to 1; got 2"),
        ({"kind": "attention", "head": 5}, "3 heads, 0 to 2; got 5"),
        ({"kind": "relevance", "target": "cat-dog"}, "relevance is that of one class"),
        ({"target": "cow"}, "no class 'cow'"),
        ({"path": "msa_0,msa_1"}, "a map shows one path"),
        ({"head": 1}, "a head belongs to one path; name it"),
    ],
)
def test_maps_that_are_not_there(
    tiny_transformer: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        _run(tiny_transformer, **options)


def test_networks_without_such_a_map(install_transformer: Callable[..., str]) -> None:
    with pytest.raises(NotDecomposableError, match="choose another map"):
        _run(install_transformer("tanh-vit", pre_logits=4))
    name = install_transformer("mean-vit", pool="avg_norm_after", class_token=False)
    with pytest.raises(ValueError, match="no class token"):
        _run(name, kind="similarity")
    assert _run(name, kind="rollout").values.shape == (4, 4)
