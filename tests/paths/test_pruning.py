"""Paths left out of the final sum for good, and the networks that come of it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.jobs.plain import plain
from napari_cvsuite.models.catalog import Catalogue
from napari_cvsuite.models.weights import WeightsError, import_file
from napari_cvsuite.paths.export import RECIPE
from napari_cvsuite.paths.labelled_options import PruneOptions
from napari_cvsuite.paths.pruning import Pruned, run
from napari_cvsuite.paths.subject import LabelledInputs
from tests.paths.plain import network_of, run_with


def _run(model: str, folder: Path, out: Path | None = None, **options: object) -> Pruned:
    chosen = PruneOptions(model=model, **options)  # type: ignore[arg-type]
    return run(LabelledInputs(folder), chosen, Context(), out)


def test_each_greedy_step_lowers_the_loss_of_the_selection(
    tiny_transformer: str, animals: Path
) -> None:
    found = _run(tiny_transformer, animals)
    losses = [step.selection.loss for step in found.steps]
    assert losses == sorted(losses, reverse=True) and len(set(losses)) == len(losses)
    assert found.kept == len(found.steps) - 1 and found.steps[0].paths == ()
    assert found.removed == tuple(path for step in found.steps for path in step.paths)
    # Halves of twelve images of each of three classes, which have no image in common.
    assert {(step.selection.images, step.held_out.images) for step in found.steps} == {(18, 18)}
    last = found.steps[-1].held_out.accuracy - found.steps[0].held_out.accuracy
    assert found.held_out_change.value == pytest.approx(last)
    assert found.held_out_change.low <= last <= found.held_out_change.high


@pytest.mark.parametrize("method", ["loss", "accuracy"])
def test_rankings_take_all_paths_in_their_order(
    tiny_transformer: str, animals: Path, method: str
) -> None:
    found = _run(tiny_transformer, animals, method=method)
    assert len(found.steps) == 5 and len({step.paths for step in found.steps}) == 5
    losses = [step.selection.loss for step in found.steps]
    assert found.kept == int(np.argmin(losses)) and len(found.removed) == found.kept
    fewer = _run(tiny_transformer, animals, method=method, steps=2)
    assert fewer.kept == 2 and fewer.removed == tuple(s.paths[0] for s in found.steps[1:3])
    singles = {}
    for path in ("embed", "msa_0", "ffn_0", "msa_1", "ffn_1"):
        one = _run(tiny_transformer, animals, method="hand", off=path)
        singles[path] = getattr(one.steps[1].selection, method)
    best = min(singles.values()) if method == "loss" else max(singles.values())
    assert singles[found.steps[1].paths[0]] == pytest.approx(best)


def test_the_sum_from_each_layer_on(tiny_transformer: str, animals: Path) -> None:
    found = _run(tiny_transformer, animals, method="from_layer")
    assert [step.paths for step in found.steps] == [(), ("embed",), ("msa_0", "ffn_0")]


def test_a_pruned_network_is_imported_with_the_same_logits(
    tiny_transformer: str, animals: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made" / "short-vit"
    found = _run(tiny_transformer, animals, out, method="hand", off="ffn_0,embed")
    assert found.removed == ("ffn_0", "embed") and found.model == out / "model.safetensors"
    assert import_file(out).name == "short-vit"
    card, source = Catalogue().get("short-vit"), Catalogue().get(tiny_transformer)
    assert card.classes == source.classes and card.license == source.license
    assert "ffn_0, embed" in card.description and tiny_transformer in card.description
    assert card.metrics["held_out_accuracy"] == found.steps[-1].held_out.accuracy
    assert card.options["resize"] == 32 and card.input == source.input
    before, after = network_of(tiny_transformer), network_of("short-vit")
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    writes, _ = run_with(before.model, before.normalize(images), {})
    expected = before.model.classify(writes[1] + writes[3] + writes[4])
    assert torch.allclose(after(images), expected, atol=1e-5)
    for key, value in before.state_dict().items():
        assert torch.equal(after.state_dict()[key], value)
    recipe = json.loads((out / RECIPE).read_text())
    assert recipe["removed"] == ["ffn_0", "embed"] and recipe["model"] == tiny_transformer
    assert recipe["weights_sha256"] == source.weights.sha256
    assert recipe["intervention"] == "removed_final"
    # The pruned network can be pruned again.
    again = _run("short-vit", animals, tmp_path / "shorter-vit", method="hand", off="msa_0")
    assert again.model is not None and import_file(again.model.parent).name == "shorter-vit"
    expected = before.model.classify(writes[3] + writes[4])
    assert torch.allclose(network_of("shorter-vit")(images), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["scalar", "channel"])
def test_weights_in_the_stream_are_folded_first(
    install_transformer: Callable[..., str], animals: Path, tmp_path: Path, kind: str
) -> None:
    name = install_transformer(ensemble_scale=kind, placement="stream")
    out = tmp_path / "folded-vit"
    _run(name, animals, out, method="hand", off="msa_1")
    import_file(out)
    before, after = network_of(name), network_of("folded-vit")
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    model, x = before.model, before.normalize(images)
    z = kept = model.ensemble_scale(0, model.embed(x))
    for number in range(1, 5):
        block = model.blocks[(number - 1) // 2]
        write = model.ensemble_scale(number, block.msa(z) if number % 2 else block.ffn(z))
        z, kept = z + write, kept if number == 3 else kept + write
    assert torch.allclose(after(images), model.classify(kept), atol=1e-5)


def test_results_are_kept_and_told(tiny_transformer: str, animals: Path) -> None:
    found = _run(tiny_transformer, animals, seed=5)
    json.dumps(plain(found), allow_nan=False)
    assert pickle.loads(pickle.dumps(found)).rows() == found.rows()
    assert _run(tiny_transformer, animals, seed=5).rows() == found.rows()
    rows = found.rows()
    assert rows[0]["paths"] == "" and all(row["kept"] for row in rows)


def test_mistakes(tiny_transformer: str, animals: Path, tmp_path: Path) -> None:
    for wrong in ({"method": "hand"}, {"off": "embed"}):
        with pytest.raises(OptionError, match="name the paths that are left out with the method"):
            PruneOptions(**wrong)
    with pytest.raises(OptionError, match="no path 'ffn_8'"):
        _run(tiny_transformer, animals, method="hand", off="ffn_8")
    every = "embed,msa_0,ffn_0,msa_1,ffn_1"
    with pytest.raises(ValueError, match="the last path of the sum has to stay"):
        _run(tiny_transformer, animals, method="hand", off=every)
    with pytest.raises(ValueError, match="'cat' has 1 images; that is too few to hold out"):
        _run(tiny_transformer, animals, limit=3)
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="Cannot write"):
        _run(tiny_transformer, animals, tmp_path / "file" / "out")
