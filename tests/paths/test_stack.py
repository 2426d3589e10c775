"""An intervention on every slice of a stack."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cvsuite.images import Image, ImageError
from napari_cvsuite.jobs import Cancelled, CancelToken, Context
from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.jobs.plain import plain
from napari_cvsuite.jobs.registry import find
from napari_cvsuite.paths import stack as module
from napari_cvsuite.paths import whatif
from napari_cvsuite.paths.files import write_tabled
from napari_cvsuite.paths.options import WhatIfOptions
from napari_cvsuite.paths.stack import StackEffects
from tests.paths.plain import PIXELS, stack

OTHERS = Image.from_array(PIXELS[::-1])
CHANGES = {"off": "msa_0", "weights": "ffn_1=0.5"}


def _run(options: WhatIfOptions, image: Image | None = None, others: Any = ()) -> StackEffects:
    return find("paths.stack").load_run()(image or stack(), options, Context(), others)


@pytest.mark.parametrize(
    ("intervention", "replacement", "others"),
    [
        ("removed_final", "zero", []),
        ("total_module", "zero", []),
        ("total_module", "mean", []),
        ("total_module", "other", []),
        ("total_module", "mean", [OTHERS]),
        ("total_module", "other", [OTHERS]),
    ],
)
def test_every_slice_has_the_numbers_that_it_has_alone(
    tiny_transformer: str, intervention: str, replacement: str, others: list[Image]
) -> None:
    options = WhatIfOptions(
        model=tiny_transformer, intervention=intervention, replacement=replacement, **CHANGES
    )
    found = _run(options, others=others)
    assert found.name == "msa_0+ffn_1*0.5" and found.indices == ({"z": 0}, {"z": 1}, {"z": 2})
    target = found.target.name
    for number, row in enumerate(found.rows()):
        alone = whatif.run(
            stack(), replace(options, plane=number, target=target), Context(), others
        )
        np.testing.assert_allclose(found.before[number], alone.logits, atol=1e-6)
        effects = found.before[number] - found.after[number]
        np.testing.assert_allclose(effects, alone.effects[0], atol=1e-5)
        (expected,) = alone.rows()
        assert row["effect"] == pytest.approx(expected["effect"], abs=1e-5)
        assert row["effect"] == pytest.approx(row["logit_before"] - row["logit_after"], abs=1e-5)
        assert (row["class"], row["changed"]) == (target, expected["changed"])
        for when, likely in (("before", alone.before[0]), ("after", alone.after[0])):
            assert row[when] == likely.name
            assert row[f"probability_{when}"] == pytest.approx(likely.probability, abs=1e-5)


def test_the_target_is_the_class_of_the_chosen_slice_or_a_difference(
    tiny_transformer: str,
) -> None:
    options = WhatIfOptions(model=tiny_transformer, off="msa_0", plane=2)
    found = _run(options)
    assert found.target.one == found.before[2].argmax()
    pair = _run(replace(options, target="bird-cat"))
    effects = pair.before - pair.after
    assert pair.effects == pytest.approx(effects[:, 2] - effects[:, 0])
    assert {row["class"] for row in pair.rows()} == {"bird - cat"}


class _Lazy:
    """A stack on disk, which tells what is read of it."""

    def __init__(self, pixels: Any) -> None:
        self.pixels, self.read = pixels, []
        self.shape, self.dtype, self.ndim = pixels.shape, pixels.dtype, pixels.ndim

    def __getitem__(self, key: Any) -> Any:
        part = self.pixels[key]
        self.read.append(part.size)
        return part

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("the whole stack was loaded")


def test_one_slice_is_in_memory_at_a_time(tiny_transformer: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (2, 20, 40, 50), np.uint8)
    lazy = _Lazy(pixels)
    image = Image(lazy, axes="tzyx", name="lazy")
    options = WhatIfOptions(model=tiny_transformer, off="msa_0", replacement="mean")
    found = _run(options, image)
    assert max(lazy.read) <= 40 * 50
    assert len(found.indices) == 40 and found.indices[21] == {"t": 1, "z": 1}
    assert found.rows()[21]["t"] == 1 and found.rows()[21]["slice"] == 21


def test_a_blank_slice_stays_unknown(tiny_transformer: str) -> None:
    pixels = PIXELS.astype(np.float32)
    pixels[1] = np.nan
    options = WhatIfOptions(model=tiny_transformer, off="msa_0", intensity="percentile")
    for replacement in ("zero", "mean"):
        chosen = replace(options, replacement=replacement)
        found = _run(chosen, Image.from_array(pixels, name="gap"))
        blank, seen = found.rows()[1], found.rows()[2]
        assert blank["before"] == "" and math.isnan(blank["effect"]) and not blank["changed"]
        # The mean for one of two slices is the other.
        without = Image.from_array(pixels[[0, 2]], name="rest")
        alone = whatif.run(without, replace(chosen, plane=1, target=seen["class"]), Context())
        assert seen["effect"] == pytest.approx(alone.rows()[0]["effect"], abs=1e-5)
        json.dumps(plain(found), allow_nan=False)


def test_files_say_what_was_done(tiny_transformer: str, tmp_path: Path) -> None:
    found = _run(WhatIfOptions(model=tiny_transformer, intervention="removed_final", **CHANGES))
    names = [path.name for path in write_tabled(found, tmp_path / "s", "stack")]
    assert names == ["s.stack.csv", "s.stack.json", "s.stack.png"]
    head, first, *_ = (tmp_path / "s.stack.csv").read_text(encoding="utf-8").splitlines()
    row = dict(zip(head.split(","), first.split(","), strict=True))
    assert row["paths"] == "msa_0+ffn_1*0.5" and row["intervention"] == "removed_final"
    assert (row["model"], row["image"], row["slice"]) == (tiny_transformer, "stack", "0")
    assert len(row["model_sha256"]) == 64
    assert found.provenance["slices"] == 3
    assert pickle.loads(pickle.dumps(found)).rows() == found.rows()


def test_what_cannot_be_done(tiny_transformer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = WhatIfOptions(model=tiny_transformer, off="msa_0")
    with pytest.raises(OptionError, match="name the paths to take away in every slice"):
        _run(replace(options, off=""))
    with pytest.raises(OptionError, match="no path 'msa_7'"):
        _run(replace(options, off="msa_7"))
    plane = Image.from_array(PIXELS[0])
    assert len(_run(options, plane).rows()) == 1
    for replacement in ("mean", "other"):
        with pytest.raises(ImageError, match="no other slices to take what paths write from"):
            _run(replace(options, replacement=replacement), plane)
    lonely = PIXELS.astype(np.float32)
    lonely[1:] = np.nan
    with pytest.raises(ImageError, match="no other slice has a finite pixel"):
        _run(replace(options, replacement="mean", intensity="percentile"), Image.from_array(lonely))

    def broken(*_: Any) -> Any:
        raise ImageError("stack cannot be read any further")

    monkeypatch.setattr(module, "see_plane", broken)
    with pytest.raises(ImageError, match="any further"):
        _run(replace(options, replacement="mean"))


def test_it_tells_of_progress_and_stops(tiny_transformer: str) -> None:
    options = WhatIfOptions(model=tiny_transformer, off="msa_0")
    told: list[tuple[float, float]] = []
    token = CancelToken()

    def told_of(progress: Any) -> None:
        told.append((progress.done, progress.total))
        if progress.done == 1:
            token.cancel()

    with pytest.raises(Cancelled):
        module.run(stack(), options, Context(token=token, on_progress=told_of))
    assert told == [(0, 3), (1, 3)]
