"""How coarse or fine what paths write is."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_cvsuite.images import ImageError
from napari_cvsuite.jobs import Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.jobs.plain import plain
from napari_cvsuite.paths.frequency import run
from napari_cvsuite.paths.options import FrequencyOptions
from napari_cvsuite.paths.session import Session
from tests.paths.plain import run_with, stack


def _curve(tokens: np.ndarray) -> np.ndarray:
    """Return the half diagonal of the mean log spectrum of tokens N x D, relative to DC."""
    side = int(len(tokens) ** 0.5)
    maps = tokens.T.reshape(-1, side, side)
    logs = np.log(np.abs(np.fft.fft2(maps)) + 1e-6).mean(axis=0)
    # The k-th entry of the diagonal from the centre is frequency k along both axes.
    return np.array([logs[k, k] - logs[0, 0] for k in range((side + 1) // 2)])


def test_curves_are_means_over_all_slices(install_transformer: Callable[..., str]) -> None:
    name = install_transformer(patch_size=4)
    options = FrequencyOptions(model=name, off="msa_0,ffn_1")
    found = run([stack()], options, Context())
    session = Session.start(stack(), options, Context())
    sessions = [session, *(session.another(stack(), n, Context()) for n in (1, 2))]
    writes = [run_with(one.model, one.x, {})[0] for one in sessions]
    patches = [[write[0, 1:].numpy() for write in one] for one in writes]
    for number in range(5):
        expected = np.mean([_curve(one[number]) for one in patches], axis=0)
        assert found.curves[number] == pytest.approx(expected, abs=1e-4)
    whole = np.mean([_curve(sum(one)) for one in patches], axis=0)
    assert found.whole == pytest.approx(whole, abs=1e-4)
    without = np.mean([_curve(one[0] + one[2] + one[3]) for one in patches], axis=0)
    assert found.without == pytest.approx(without, abs=1e-4)
    assert found.images == 3 and found.off == ("msa_0", "ffn_1")
    # Eight patches a side: frequencies 0 to 3 of 8.
    assert found.frequencies.tolist() == [0, 0.125, 0.25, 0.375]
    rises = (whole - without)[2:].mean()
    assert found.effect == ("leave" if abs(rises) <= 0.01 else "raise" if rises > 0 else "lower")
    kind = {"raise": "high-pass", "lower": "low-pass", "leave": "as they are"}[found.effect]
    assert kind in found.words
    assert found.finer()[2] == (found.curves[2, -1] > whole[-1])


def test_batches_do_not_change_the_mean(
    tiny_transformer: str, animals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted(animals.glob("*/*.png"))[:11]
    options = FrequencyOptions(model=tiny_transformer)
    found = run(paths, options, Context())
    monkeypatch.setattr("napari_cvsuite.paths.frequency.BATCH", 3)
    again = run(paths, options, Context())
    assert again.curves == pytest.approx(found.curves, abs=1e-5) and again.images == 11
    assert found.without is None and not found.words and not found.effect
    few = run(paths, FrequencyOptions(model=tiny_transformer, limit=1, off="embed"), Context())
    assert few.images == 1 and "One image is noisy" in few.words
    rows = few.rows()
    assert [row["path"] for row in rows][-2:] == ["sum", "sum without embed"]
    assert rows[0]["0.000"] == 0 and set(rows[0]) == {"path", "n", "0.000", "0.250"}
    json.dumps(plain(few), allow_nan=False)
    assert pickle.loads(pickle.dumps(few)).rows() == rows


def test_mistakes(install_transformer: Callable[..., str]) -> None:
    name = install_transformer()
    with pytest.raises(ImageError, match="no images to average over"):
        run([], FrequencyOptions(model=name), Context())
    every = "embed,msa_0,ffn_0,msa_1,ffn_1"
    with pytest.raises(OptionError, match="leave at least one path"):
        run([stack()], FrequencyOptions(model=name, off=every), Context())
    coarse = install_transformer("coarse-vit", patch_size=16)
    with pytest.raises(ValueError, match="2 x 2 patches, which know no frequency"):
        run([stack()], FrequencyOptions(model=coarse), Context())
