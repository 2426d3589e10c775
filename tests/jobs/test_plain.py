"""Results become plain data that JSON has words for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_cvsuite.jobs.plain import LARGEST, plain


@dataclass(frozen=True)
class _Inner:
    values: Any


@dataclass(frozen=True)
class _Outer:
    inner: _Inner
    table: dict[int, Any]
    map: Any


def test_a_result_becomes_plain() -> None:
    inner = _Inner((np.float32(0.5), float("nan"), np.array([1, 2])))
    found = plain(_Outer(inner, {3: [np.inf, "NaN"]}, np.zeros(LARGEST + 1)))
    assert found == {"inner": {"values": [0.5, None, [1, 2]]}, "table": {"3": [None, "NaN"]}}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_what_is_plain_stays() -> None:
    for value in (1, 1.5, "a", None, True, []):
        assert plain(value) == value
    assert plain(Path("a") / "b") == str(Path("a") / "b")
