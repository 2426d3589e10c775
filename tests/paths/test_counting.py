"""How many paths a network has."""

from __future__ import annotations

import pickle
from math import comb

import pytest

from napari_cvsuite.jobs import Context
from napari_cvsuite.models.catalog import CardError
from napari_cvsuite.paths.counting import run
from napari_cvsuite.paths.labelled_options import LengthOptions


def test_paths_and_routes_are_counted(tiny_transformer: str, tiny_classifier: str) -> None:
    found = run(LengthOptions(model=tiny_transformer), Context())
    assert (found.layers, found.heads, found.tokens, found.width) == (2, 3, 17, 12)
    assert (found.counts.layer, found.counts.module, found.counts.head) == (3, 5, 9)
    assert found.routes == tuple(comb(4, length) for length in range(5))
    assert [sum(row) for row in zip(*found.ending, strict=True)] == list(found.routes)
    rows = found.rows()
    assert rows[2] == {"modules": 2, "routes": 6, "share": 6 / 16}
    assert found.provenance["model"] == tiny_transformer
    assert pickle.loads(pickle.dumps(found)) == found
    with pytest.raises(CardError, match="vision transformer"):
        run(LengthOptions(model=tiny_classifier), Context())
