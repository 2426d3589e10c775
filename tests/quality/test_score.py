"""Scores of slices: windows, references, parts, what cannot be judged, cancelling, memory."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tracemalloc
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch

import napari_cvsuite
from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.jobs import Cancelled, CancelToken, Context, OptionError
from napari_cvsuite.jobs.request import Request
from napari_cvsuite.models.catalog import CardError, Catalogue
from napari_cvsuite.models.store import default_store
from napari_cvsuite.quality.options import ScoreOptions
from napari_cvsuite.quality.score import percentiles, run
from napari_cvsuite.quality.scorer import Opinion

RNG = np.random.default_rng(0)
PLANE = RNG.integers(0, 255, (48, 64), np.uint8)


def _score(array: Any, model: str, reference: Any = None, **options: Any) -> list[float]:
    other = None if reference is None else Image.from_array(reference)
    made = ScoreOptions(model=model, **options)
    return [row.score for row in run(Image.from_array(array), made, Context(), other).rows]


def test_a_slice_has_the_score_of_the_network(tiny_quality_model: str) -> None:
    card = Catalogue().get(tiny_quality_model)
    x = torch.from_numpy(np.repeat(PLANE[None, None], 3, axis=1).astype(np.float32) / 255)
    with default_store().lease(card, "cpu", "float32", "plain") as network, torch.inference_mode():
        seen = network.examine(x)
    row = run(Image.from_array(PLANE), ScoreOptions(model=card.name), Context()).rows[0]
    assert row.score == pytest.approx(float(seen.score), abs=2e-5)
    assert row.confidence == pytest.approx(float(seen.logits.softmax(dim=1).max()), abs=1e-4)
    assert row.likely_distortion == card.classes[int(seen.logits.argmax())]
    assert 0 <= row.strength <= 5 and row.percentile == 100


def test_types_that_hold_the_same_picture_have_the_same_score(tiny_quality_model: str) -> None:
    found = [
        _score(PLANE, tiny_quality_model)[0],
        _score(PLANE.astype(np.uint16) * 257, tiny_quality_model, intensity="type")[0],
        _score((PLANE / 255).astype(np.float32), tiny_quality_model, intensity="type")[0],
        _score(PLANE * 2.0 + 7, tiny_quality_model, intensity="fixed", low=7.0, high=517.0)[0],
        _score(np.stack([PLANE] * 3, axis=-1), tiny_quality_model)[0],
    ]
    np.testing.assert_allclose(found, found[0], atol=2e-5)


def test_slices_of_a_stack_share_their_window_or_not(tiny_quality_model: str) -> None:
    dim = np.stack([PLANE.astype(np.uint16), PLANE.astype(np.uint16) * 10])
    apart = _score(dim, tiny_quality_model, per="slice")
    assert apart[0] == pytest.approx(apart[1], abs=1e-4)
    shared = _score(dim, tiny_quality_model)
    assert abs(shared[0] - shared[1]) > 1e-4
    image = Image.from_array(dim)
    facts = run(image, ScoreOptions(model=tiny_quality_model, per="slice"), Context()).provenance
    assert facts["window"] == "each slice its own"


def test_nothing_to_judge_is_said_and_stops_nothing(tiny_quality_model: str) -> None:
    stack = np.stack([PLANE.astype(float), np.full((48, 64), np.nan), np.zeros((48, 64))])
    result = run(Image.from_array(stack), ScoreOptions(model=tiny_quality_model), Context())
    assert np.isfinite(result.rows[0].score)
    assert [row.note for row in result.rows] == ["", "no finite pixel", "all pixels are equal"]
    assert np.isnan([row.score for row in result.rows[1:]]).all()
    assert np.isnan(result.rows[1].percentile) and result.rows[0].percentile == 100


def test_percentiles_are_shares_of_scores_no_higher() -> None:
    found = percentiles([3.0, 1.0, float("nan"), 1.0, 2.0])
    assert found[:2] == [100, 50] and np.isnan(found[2]) and found[3:] == [50, 75]


def test_large_planes_are_scored_in_parts(
    tiny_quality_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cvsuite.quality import scorer

    monkeypatch.setattr(scorer, "WHOLE", 0.05)
    wide = RNG.integers(0, 255, (64, 1100), np.uint8)
    found = _score(wide, tiny_quality_model)[0]
    # Two parts of 64 x 1024 that overlap, equally large.
    parts = [_score(wide[:, a : a + 1024], tiny_quality_model)[0] for a in (0, 76)]
    assert found == pytest.approx(np.mean(parts), abs=2e-5)


def test_a_reference_counts_and_must_fit(tiny_comparing_model: str) -> None:
    other = np.clip(PLANE.astype(int) + 40, 0, 255).astype(np.uint8)
    same = _score(PLANE, tiny_comparing_model, PLANE)[0]
    assert same != pytest.approx(_score(PLANE, tiny_comparing_model, other)[0], abs=1e-5)
    with pytest.raises(ImageError, match="choose one, or a model without"):
        _score(PLANE, tiny_comparing_model)
    with pytest.raises(ImageError, match="64 x 48 and 60 x 40 pixels"):
        _score(PLANE, tiny_comparing_model, PLANE[:40, :60])
    # Any size will do for what is resized.
    for small in (PLANE[:40, :60], PLANE[:20, :20]):
        resized = _score(PLANE, tiny_comparing_model, small, fit_reference=True)[0]
        assert np.isfinite(resized)
    stack = np.stack([PLANE, other, PLANE])
    with pytest.raises(ImageError, match="2 slices, the image has 3"):
        _score(stack, tiny_comparing_model, stack[:2])
    one = _score(stack, tiny_comparing_model, PLANE)
    assert one[0] == pytest.approx(same, abs=2e-5) and one[0] == pytest.approx(one[2], abs=2e-5)
    each = _score(stack, tiny_comparing_model, stack[::-1].copy())
    assert each[0] == pytest.approx(same, abs=2e-5)


def test_both_images_are_seen_in_the_window_of_the_reference(tiny_comparing_model: str) -> None:
    bright = PLANE.astype(np.uint16) * 3
    reference = Image.from_array(PLANE.astype(np.uint16))
    facts = run(
        Image.from_array(bright), ScoreOptions(model=tiny_comparing_model), Context(), reference
    ).provenance
    alone = run(
        reference, ScoreOptions(model=tiny_comparing_model), Context(), reference
    ).provenance
    assert facts["window"] == alone["window"]


def test_other_models_and_wrong_options_are_refused(
    tiny_model: str, tiny_quality_model: str
) -> None:
    with pytest.raises(CardError, match="not for quality"):
        _score(PLANE, tiny_model)
    with pytest.raises(OptionError, match="white must be above black"):
        ScoreOptions(intensity="fixed", low=3.0, high=3.0)
    with pytest.raises(OptionError, match="channels must be"):
        ScoreOptions(channels="red")


def test_short_numbers_are_used_where_asked_for_with_a_warning(tiny_quality_model: str) -> None:
    said: list[str] = []
    options = ScoreOptions(model=tiny_quality_model, precision="bfloat16")
    result = run(Image.from_array(PLANE), options, Context(on_warning=said.append))
    assert "bfloat16 scores change by an unknown amount" in said[0]
    exact = _score(PLANE, tiny_quality_model)[0]
    assert result.rows[0].score != exact and result.rows[0].score == pytest.approx(exact, abs=0.1)


def test_lazy_stacks_are_read_slice_by_slice_and_memory_does_not_grow(
    tiny_quality_model: str,
) -> None:
    read: list[int] = []

    def block(block_info: Any = None) -> np.ndarray:
        read.append(block_info[None]["chunk-location"][0])
        return RNG.integers(0, 60_000, (1, 192, 192)).astype(np.uint16)

    stack = da.map_blocks(
        block, chunks=((1,) * 60, 192, 192), dtype=np.uint16, meta=np.empty((0,) * 3, np.uint16)
    )
    peaks = []
    tracemalloc.start()

    def note(progress: Any) -> None:
        if progress.preview is not None and progress.preview.index in (9, 59):
            peaks.append(tracemalloc.get_traced_memory()[0])

    result = run(
        Image.from_array(stack), ScoreOptions(model=tiny_quality_model), Context(on_progress=note)
    )
    tracemalloc.stop()
    assert len(result.rows) == 60 and len(read) == 60 + 16
    # Fifty slices later there are fifty rows more, but not fifty slices of 74 kB.
    assert peaks[1] - peaks[0] < 50 * 2 * 192 * 192 / 5


def test_rows_arrive_while_it_runs_and_cancelling_stops(tiny_quality_model: str) -> None:
    token, seen = CancelToken(), []

    def note(progress: Any) -> None:
        if progress.preview is not None:
            seen.append(progress.preview.index)
            if len(seen) == 3:
                token.cancel()

    stack = np.stack([PLANE] * 10)
    with pytest.raises(Cancelled):
        run(
            Image.from_array(stack),
            ScoreOptions(model=tiny_quality_model),
            Context(token=token, on_progress=note),
        )
    assert seen == [0, 1, 2] and not default_store().in_use()


def test_the_door_of_python_gives_the_same(tiny_quality_model: str) -> None:
    result = napari_cvsuite.score_quality(PLANE, model=tiny_quality_model, device="cpu")
    assert result.rows[0].score == pytest.approx(_score(PLANE, tiny_quality_model)[0], abs=2e-5)
    assert pickle.loads(pickle.dumps(result)).rows[0].score == result.rows[0].score
    facts = result.provenance
    assert facts["model"] == tiny_quality_model and len(facts["weights_sha256"]) == 64


def test_requests_survive_a_round_trip() -> None:
    for job, options in (("score", ScoreOptions(per="slice")), ("compare", ScoreOptions())):
        request = Request(f"quality.{job}", options)
        assert Request.from_yaml(request.to_yaml()) == request


def test_auto_is_one_of_ours() -> None:
    assert ScoreOptions().resolved(False).model == "topiq-nr-synth"
    assert ScoreOptions().resolved(True).model == "topiq-fr-synth"
    assert ScoreOptions(model="x").resolved(True).model == "x"


def test_the_likeliest_kind_has_no_strength_where_there_is_none() -> None:
    kinds = ("none", "jpeg")
    assert Opinion(0.5, kinds, (0.9, 0.1), (3.0, 4.0)).likely == ("none", 0.9, 0.0)
    assert Opinion(0.5, kinds, (0.1, 0.9), (3.0, 4.0)).likely == ("jpeg", 0.9, 4.0)
    assert Opinion(0.5).likely[0] == ""


def test_scoring_loads_no_compiler(tiny_quality_model: str) -> None:
    # Its LLVM crashes beside the one of Mesa's software OpenGL, which napari may have loaded.
    code = (
        "import sys, numpy, napari_cvsuite as n\n"
        f"n.score_quality(numpy.eye(64), model={tiny_quality_model!r}, device='cpu')\n"
        f"n.quality_map(numpy.eye(64), model={tiny_quality_model!r}, attention=True)\n"
        "bad = {'torch._dynamo', 'torchvision', 'triton'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
