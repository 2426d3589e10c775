"""Results of the jobs on paths as files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from skimage.io import imread

from napari_cvsuite.images import ImageError
from napari_cvsuite.jobs import Context
from napari_cvsuite.paths import (
    contributions,
    counting,
    depth,
    frequency,
    influence,
    maps,
    pruning,
    scaling,
    whatif,
)
from napari_cvsuite.paths.files import (
    facts_of,
    figures_of,
    path_table,
    stamped,
    write_map,
    write_table,
    write_tabled,
)
from napari_cvsuite.paths.labelled_options import (
    DepthOptions,
    InfluenceOptions,
    LengthOptions,
    PruneOptions,
    ScaleOptions,
)
from napari_cvsuite.paths.options import (
    ContributionOptions,
    FrequencyOptions,
    MapOptions,
    TargetOptions,
    WhatIfOptions,
)
from napari_cvsuite.paths.subject import LabelledInputs
from napari_cvsuite.version import __version__
from tests.paths.plain import stack


@pytest.fixture
def shares(tiny_transformer: str) -> contributions.Contributions:
    options = ContributionOptions(model=tiny_transformer, target="dog")
    return contributions.run(stack(), options, Context())


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_every_row_says_where_it_comes_from(
    shares: contributions.Contributions, tiny_transformer: str, tmp_path: Path
) -> None:
    write_table(tmp_path / "t.csv", shares)
    rows = _rows(tmp_path / "t.csv")
    assert len(rows) == 6 and rows[1]["path"] == "msa_0"
    for row in rows:
        assert row["model"] == tiny_transformer and row["image"] == "stack"
        assert row["model_sha256"] == shares.provenance["weights_sha256"]
        assert row["class"] == "dog" and row["version"] == __version__
    assert float(rows[1]["direct"]) == pytest.approx(shares.shares[1, 1], rel=1e-5)
    assert rows[-1]["path"] == "constant" and rows[-1]["removed_final"] == ""
    assert stamped([{"a": 1}], {}) == [
        {"a": 1, "model": "", "model_sha256": "", "image": "", "class": "", "version": ""}
    ]


def test_one_table_of_shares_and_interventions(
    shares: contributions.Contributions, tiny_transformer: str
) -> None:
    kinds = (
        ("removed_final", "zero"),
        ("total_module", "zero"),
        ("total_layer", "mean"),
        ("total_head", "zero"),
    )
    effects = [
        whatif.run(
            stack(),
            WhatIfOptions(
                model=tiny_transformer, target="dog", intervention=kind, replacement=replacement
            ),
            Context(),
        )
        for kind, replacement in kinds
    ]
    table = path_table(shares, effects)
    by_name = {row["path"]: row for row in table}
    assert len(table) == 6 + 2 + 6 and len({tuple(row) for row in table}) == 1
    assert next(iter(table[0])) == "path"
    module = by_name["ffn_0"]
    assert module["total_module zero"] == pytest.approx(effects[1].effects[1, 1])
    assert effects[1].estimates is not None
    assert module["attribution_patching"] == pytest.approx(effects[1].estimates[1])
    # The two doors agree on what leaving out means.
    assert module["removed_final"] == pytest.approx(effects[0].effects[2, 1], abs=1e-6)
    assert by_name["layer_1"]["total_layer mean"] == pytest.approx(effects[2].effects[1, 1])
    assert by_name["layer_1"]["direct"] is None
    assert by_name["msa_1.head_2"]["direct"] == pytest.approx(shares.heads[1, 2, 1])
    assert by_name["msa_1.head_2"]["total_head zero"] == pytest.approx(effects[3].effects[5, 1])
    assert path_table(shares) == shares.rows()


def test_all_results_have_tables_facts_and_figures(
    shares: contributions.Contributions, tiny_transformer: str, animals: Path, tmp_path: Path
) -> None:
    model, here = tiny_transformer, LabelledInputs(animals)
    options = PruneOptions(model=model)
    found: dict[str, Any] = {
        "contributions": shares,
        "whatif": whatif.run(stack(), WhatIfOptions(model=model), Context()),
        "depth": depth.run(stack(), TargetOptions(model=model), Context()),
        "accuracy": depth.accuracy(here, DepthOptions(model=model), Context()),
        "influence": influence.run(here, InfluenceOptions(model=model), Context()),
        "prune": pruning.run(here, options, Context()),
        "scale": scaling.run(here, ScaleOptions(model=model, steps=2), Context()),
        "frequency": frequency.run([stack()], FrequencyOptions(model=model), Context()),
        "lengths": counting.run(LengthOptions(model=model), Context()),
    }
    without = {"scale"}
    for kind, one in found.items():
        paths = write_tabled(one, tmp_path / "x", kind)
        assert [path.name for path in paths][:2] == [f"x.{kind}.csv", f"x.{kind}.json"]
        assert len(_rows(paths[0])) == len(one.rows())
        facts = json.loads(paths[1].read_text())
        assert len(facts["rows"]) == len(one.rows()) and facts["provenance"]["model"] == model
        assert (len(paths) == 2) == (kind in without)
        for path in paths[2:]:
            picture = imread(path)
            # Something is drawn: the picture is no single colour.
            assert picture.shape[1] > 500 and len(np.unique(picture[..., :3])) > 10
    assert set(figures_of(shares)) == {"shares", "paths"}
    json.dumps(facts_of(shares), allow_nan=False)


def test_maps_are_one_pixel_a_patch(tiny_transformer: str, tmp_path: Path) -> None:
    for kind in ("share", "attention"):
        options = MapOptions(model=tiny_transformer, kind=kind)
        found = maps.run(stack(), options, Context())
        paths = write_map(found, tmp_path / "x")
        assert [path.name for path in paths] == [f"x.{kind}.{k}" for k in ("tif", "png", "json")]
        assert np.array_equal(tifffile.imread(paths[0]), found.values)
        picture = imread(paths[1]).astype(int)
        assert picture.shape == (4, 4, 3)
        facts = json.loads(paths[2].read_text())
        assert facts["grid"]["step"] == [10, 10] and facts["name"] == found.name
        if kind == "share":
            # Red supports the class, blue speaks against it.
            reddest = np.unravel_index(found.values.argmax(), (4, 4))
            assert picture[reddest][0] >= picture[reddest][2]


def test_a_folder_that_is_not_there_is_said(
    shares: contributions.Contributions, tmp_path: Path
) -> None:
    with pytest.raises(ImageError):
        write_tabled(shares, tmp_path / "none" / "x", "contributions")
