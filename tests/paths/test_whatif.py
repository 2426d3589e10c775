"""What a prediction becomes without its paths."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.jobs import Cancelled, CancelToken, Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.jobs.plain import plain
from napari_cvsuite.paths.options import EFFECTS, REPLACEMENTS, WhatIfOptions
from napari_cvsuite.paths.session import Session
from napari_cvsuite.paths.whatif import WhatIf, run
from tests.paths.plain import PIXELS, run_with, stack


@pytest.fixture
def session(tiny_transformer: str) -> Session:
    return Session.start(stack(), WhatIfOptions(model=tiny_transformer), Context())


def _run(model: str, **options: object) -> WhatIf:
    return run(stack(), WhatIfOptions(model=model, **options), Context())  # type: ignore[arg-type]


def test_each_module_is_switched_off_in_turn(session: Session, tiny_transformer: str) -> None:
    found = _run(tiny_transformer)
    assert found.names == ("msa_0", "ffn_0", "msa_1", "ffn_1") and found.images == 0
    for number in range(1, 5):
        logits = run_with(session.model, session.x, {number: 0.0})[1][0]
        expected = (session.logits - logits).numpy()
        assert found.effects[number - 1] == pytest.approx(expected, abs=1e-5)
        assert found.predictions[number - 1] == found.classes[int(logits.argmax())]
    rows = found.rows()
    best = int(session.logits.argmax())
    assert rows[0]["effect"] == pytest.approx(found.effects[0, best]) and not found.after
    assert rows[0]["class"] == found.classes[best] and rows[0]["replacement"] == "zero"


def test_the_estimate_is_the_path_times_the_gradient(
    session: Session, tiny_transformer: str
) -> None:
    found = _run(tiny_transformer, target="bird-cat")
    # The slope of the logits as the write of one path grows, by central differences.
    writes = run_with(session.model, session.x, {})[0]
    for number in range(1, 5):
        step = 1e-2
        up, down = (
            run_with(session.model, session.x, {number: factor * writes[number]})[1][0]
            for factor in (1 + step, 1 - step)
        )
        slope = ((up - down)[2] - (up - down)[0]) / (2 * step)
        assert found.estimates is not None
        assert found.estimates[number - 1] == pytest.approx(float(slope), abs=2e-3)
    for changes in ({"estimate": False}, {"replacement": "mean"}, {"off": "msa_0"}):
        assert _run(tiny_transformer, **changes).estimates is None


def test_paths_are_replaced_by_the_mean_over_other_slices(
    session: Session, tiny_transformer: str
) -> None:
    found = _run(tiny_transformer, replacement="mean")
    others = [session.another(stack(), number, Context()) for number in (1, 2)]
    means = [
        torch.stack([run_with(session.model, one.x, {})[0][number] for one in others]).mean(dim=0)
        for number in range(5)
    ]
    assert found.images == 2
    logits = run_with(session.model, session.x, {2: means[2]})[1][0]
    assert found.effects[1] == pytest.approx((session.logits - logits).numpy(), abs=1e-5)
    given = run(
        stack(),
        WhatIfOptions(model=tiny_transformer, replacement="mean"),
        Context(),
        [Image.from_array(PIXELS[1:])],
    )
    # The same two slices, with the same window of intensities.
    assert given.effects == pytest.approx(found.effects, abs=1e-5)


def test_paths_are_replaced_by_those_of_another_image(
    session: Session, tiny_transformer: str
) -> None:
    found = _run(tiny_transformer, replacement="other", intervention="total_layer")
    assert found.names == ("layer_0", "layer_1") and found.images == 1
    other = session.another(stack(), 1, Context())
    writes = run_with(session.model, other.x, {})[0]
    logits = run_with(session.model, session.x, {3: writes[3], 4: writes[4]})[1][0]
    assert found.effects[1] == pytest.approx((session.logits - logits).numpy(), abs=1e-5)


def test_the_feed_forward_network_still_sees_an_edge(
    session: Session, tiny_transformer: str
) -> None:
    found = _run(tiny_transformer, intervention="total_edge")
    writes = run_with(session.model, session.x, {})[0]
    # Only the sum lacks what attention wrote; the module behind it wrote what it always does.
    logits = run_with(session.model, session.x, {1: 0.0, 2: writes[2]})[1][0]
    assert found.names == ("msa_0", "msa_1")
    assert found.effects[0] == pytest.approx((session.logits - logits).numpy(), abs=1e-5)


def test_heads_are_named_and_write_together_what_attention_writes(
    session: Session, tiny_transformer: str
) -> None:
    found = _run(tiny_transformer, intervention="total_head")
    assert found.names[:4] == ("msa_0.head_0", "msa_0.head_1", "msa_0.head_2", "msa_1.head_0")
    assert found.effects.shape == (6, 3)
    block = session.model.blocks[1]
    writes = run_with(session.model, session.x, {})[0]
    z = writes[0] + writes[1] + writes[2]
    mixed = torch.nn.functional.scaled_dot_product_attention(
        *block.self_attention.project(block.ln_1(z))
    )
    mixed[:, 2] = 0
    write = block.self_attention.merge(mixed)
    logits = run_with(session.model, session.x, {3: write})[1][0]
    assert found.effects[5] == pytest.approx((session.logits - logits).numpy(), abs=1e-5)


def test_some_paths_are_switched_off_together(session: Session, tiny_transformer: str) -> None:
    found = _run(tiny_transformer, off="ffn_1, embed", intervention="removed_final")
    writes = run_with(session.model, session.x, {})[0]
    logits = session.model.classify(writes[1] + writes[2] + writes[3])[0]
    assert found.names == ("embed+ffn_1",) and len(found.after) == 3
    assert found.effects[0] == pytest.approx((session.logits - logits).numpy(), abs=1e-5)
    whole = _run(tiny_transformer, off="embed,msa_1", replacement="mean")
    assert whole.names == ("embed+msa_1",) and whole.images == 2


@pytest.mark.parametrize("intervention", EFFECTS)
@pytest.mark.parametrize("replacement", REPLACEMENTS)
def test_every_intervention_says_what_it_is(
    tiny_transformer: str, intervention: str, replacement: str
) -> None:
    if intervention == "removed_final" and replacement != "zero":
        with pytest.raises(OptionError, match="without any replacement; use zero"):
            WhatIfOptions(intervention=intervention, replacement=replacement)
        return
    found = _run(tiny_transformer, intervention=intervention, replacement=replacement)
    assert np.isfinite(found.effects).all() and len(found.names) == len(found.effects)
    assert found.provenance["intervention"] == intervention
    assert found.provenance["replacement"] == replacement
    assert found.provenance["class"] == found.target.name
    json.dumps(plain(found), allow_nan=False)
    assert pickle.loads(pickle.dumps(found)).rows() == found.rows()


def test_what_cannot_be_replaced(tiny_transformer: str, tmp_path: Path) -> None:
    chosen = WhatIfOptions(model=tiny_transformer, replacement="mean")
    one = Image.from_array(PIXELS[0])
    with pytest.raises(ImageError, match="no other slices to take the mean over; give more"):
        run(one, chosen, Context())
    with pytest.raises(ImageError, match="no other slice to take what paths write from; give"):
        run(one, replace(chosen, replacement="other"), Context())
    with pytest.raises(ImageError):
        run(one, chosen, Context(), [tmp_path / "none.png"])
    with pytest.raises(OptionError, match="no path 'msa_7'"):
        _run(tiny_transformer, off="msa_7")
    with pytest.raises(OptionError, match="paths are embed, msa_0, ffn_0 and so on; got 'x'"):
        WhatIfOptions(off="x")
    with pytest.raises(OptionError, match="total_head goes through all parts in turn"):
        WhatIfOptions(off="msa_0", intervention="total_head")


def test_a_stopped_job_stops(tiny_transformer: str) -> None:
    token = CancelToken()
    context = Context(token=token, on_progress=lambda _: token.cancel())
    with pytest.raises(Cancelled):
        run(stack(), WhatIfOptions(model=tiny_transformer), context)
