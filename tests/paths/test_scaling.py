"""Weights of the paths, fitted to labelled images or folded into the layers."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_cvsuite.jobs import Cancelled, CancelToken, Context
from napari_cvsuite.jobs.plain import plain
from napari_cvsuite.models.weights import import_file
from napari_cvsuite.paths.export import RECIPE
from napari_cvsuite.paths.labelled_options import FoldOptions, ScaleOptions
from napari_cvsuite.paths.scaling import Scaled, fold, run
from napari_cvsuite.paths.subject import LabelledInputs
from tests.paths.plain import network_of, run_with


def _run(model: str, folder: Path, out: Path | None = None, **options: object) -> Scaled:
    chosen = ScaleOptions(model=model, **options)  # type: ignore[arg-type]
    return run(LabelledInputs(folder), chosen, Context(), out)


@pytest.mark.parametrize("per", ["scalar", "channel"])
def test_a_weighed_network_is_imported_with_the_same_logits(
    tiny_transformer: str, animals: Path, tmp_path: Path, per: str
) -> None:
    out = tmp_path / "scaled-vit"
    found = _run(tiny_transformer, animals, out, per=per, learning_rate=0.1, steps=40)
    assert found.alpha.shape == ((5,) if per == "scalar" else (5, 12))
    assert found.best_step > 0 and (found.alpha != 1).any()
    best = found.best_step
    assert found.stopping_loss[best] == min(found.stopping_loss)
    assert found.fit_loss[best] <= found.fit_loss[0]
    assert import_file(out).name == "scaled-vit"
    before, after = network_of(tiny_transformer), network_of("scaled-vit")
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    writes, _ = run_with(before.model, before.normalize(images), {})
    alpha = torch.from_numpy(found.alpha)
    expected = before.model.classify(sum(a * w for a, w in zip(alpha, writes, strict=True)))
    assert torch.allclose(after(images), expected, atol=1e-5)
    # Not rounded to half precision on the way.
    assert torch.equal(after.model.ensemble_scale.alpha, alpha)
    recipe = json.loads((out / RECIPE).read_text())
    assert np.array_equal(np.float32(recipe["alpha"]["ffn_1"]), found.alpha[4])
    assert recipe["kind"] == "scaled" and recipe["placement"] == "final"


def test_the_held_out_part_takes_no_part(tiny_transformer: str, animals: Path) -> None:
    found = _run(tiny_transformer, animals, steps=5)
    counts = [found.provenance[f"{part}_images"] for part in ("fit", "stopping", "held_out")]
    # Of twelve images of each of three classes six are held out; of six, round(1.5) = 2 stop.
    assert counts == [12, 6, 18] and found.before.images == 18
    change = found.after.accuracy - found.before.accuracy
    assert found.held_out_change.value == pytest.approx(change)
    assert len(found.fit_loss) == len(found.stopping_loss) <= 6
    rows = found.rows()
    assert [row["path"] for row in rows] == list(found.names)
    assert rows[1]["mean"] == pytest.approx(found.alpha[1]) == rows[1]["largest"]
    json.dumps(plain(found), allow_nan=False)
    assert pickle.loads(pickle.dumps(found)).rows() == rows


@pytest.mark.parametrize("kind", ["scalar", "channel"])
def test_weights_of_the_stream_are_folded_into_the_layers(
    install_transformer: Callable[..., str], tmp_path: Path, kind: str
) -> None:
    name = install_transformer(ensemble_scale=kind, placement="stream", distilled=True)
    found = fold(tmp_path / "plain-vit", FoldOptions(model=name), Context())
    assert found.difference <= 1e-5
    import_file(tmp_path / "plain-vit")
    before, after = network_of(name), network_of("plain-vit")
    assert after.model.ensemble_scale is None and before.model.ensemble_scale is not None
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(after(images), before(images), atol=1e-5)
    assert json.loads((tmp_path / "plain-vit" / RECIPE).read_text())["kind"] == "folded"


def test_mistakes(install_transformer: Callable[..., str], animals: Path, tmp_path: Path) -> None:
    plain_name = install_transformer("plain-vit")
    with pytest.raises(ValueError, match="has no weights of its paths to fold; train one"):
        fold(tmp_path / "out", FoldOptions(model=plain_name), Context())
    final = install_transformer("final-vit", ensemble_scale="scalar")
    with pytest.raises(ValueError, match="cannot be folded"):
        fold(tmp_path / "out", FoldOptions(model=final), Context())
    with pytest.raises(ValueError, match="too few to hold out"):
        _run(plain_name, animals, limit=6)
    token = CancelToken()
    context = Context(token=token, on_progress=lambda one: token.cancel() if one.done > 2 else None)
    with pytest.raises(Cancelled):
        run(LabelledInputs(animals), ScaleOptions(model=plain_name), context)
