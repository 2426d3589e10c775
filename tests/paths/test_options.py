"""Options of the jobs on paths, and the jobs by their names."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from napari_cvsuite.jobs.options import OptionError
from napari_cvsuite.jobs.request import InputReference, Request
from napari_cvsuite.paths.labelled_options import InfluenceOptions, PruneOptions, effect_list
from napari_cvsuite.paths.options import (
    EFFECTS,
    INTERVENTIONS,
    JOBS,
    MapOptions,
    WhatIfOptions,
    path_list,
    weight_list,
)
from napari_cvsuite.paths.variants import TOTALS


def test_every_job_is_found_by_its_name_and_keeps_its_form() -> None:
    for name, spec in JOBS.items():
        assert spec.name == f"paths.{name}" and callable(spec.load_run())
        request = Request(spec.name, spec.load_options()(), (InputReference("file", "a.tif"),))
        assert Request.from_yaml(request.to_yaml()) == request
        assert Request.from_json(request.to_json()) == request
        assert pickle.loads(pickle.dumps(request)) == request
    changed = Request("paths.whatif", WhatIfOptions(off="msa_0", replacement="mean", plane=3))
    assert Request.from_yaml(changed.to_yaml()) == changed


def test_interventions_have_one_name_everywhere() -> None:
    assert set(EFFECTS) == {"removed_final", *TOTALS} and set(EFFECTS) < set(INTERVENTIONS)


def test_every_intervention_is_explained() -> None:
    for text in INTERVENTIONS.values():
        assert text.endswith(".") and "\n" not in text


def test_paths_and_interventions_are_lists() -> None:
    assert path_list("") == () and path_list(" ffn_1, embed,ffn_1 ") == ("ffn_1", "embed")
    assert effect_list("total_edge, removed_final,") == ("total_edge", "removed_final")
    for text in ("msa", "msa_x", "head_1", "embed_0", "MSA_0", "msa_0;ffn_0"):
        with pytest.raises(OptionError, match="paths are embed, msa_0"):
            path_list(text)


def test_weights_are_paths_with_numbers() -> None:
    assert weight_list("") == {} and weight_list("ffn_1=0.5, embed = 2") == {
        "ffn_1": 0.5,
        "embed": 2.0,
    }
    for text in ("msa_0", "msa_0=", "msa_0=x", "msa_0=-0.1", "msa_0=2.1", "msa_0=nan", "=1"):
        with pytest.raises(OptionError, match="weights are paths with a number from 0 to 2"):
            weight_list(text)
    with pytest.raises(OptionError, match="paths are embed, msa_0"):
        weight_list("head_0=1")
    with pytest.raises(OptionError, match="msa_0 has two weights"):
        weight_list("msa_0=1,msa_0=0.5")


def test_paths_are_off_or_weighed() -> None:
    options = WhatIfOptions(off="ffn_0", weights="msa_1=0.5")
    assert options.changes == {"ffn_0": 0.0, "msa_1": 0.5}
    with pytest.raises(OptionError, match="msa_1 is switched off and weighed"):
        WhatIfOptions(off="msa_1", weights="msa_1=0.5")
    with pytest.raises(OptionError, match="total_edge goes through all parts in turn"):
        WhatIfOptions(weights="msa_1=0.5", intervention="total_edge")


@pytest.mark.parametrize(
    ("options", "values"),
    [
        (InfluenceOptions, {"replacement": "other"}),
        (InfluenceOptions, {"limit": 1}),
        (PruneOptions, {"held_out": 1.0}),
        (PruneOptions, {"method": "best"}),
        (MapOptions, {"kind": "gradcam"}),
        (MapOptions, {"layer": -2}),
        (WhatIfOptions, {"intervention": "direct"}),
        (WhatIfOptions, {"replacement": "noise"}),
        (WhatIfOptions, {"estimate": 1}),
    ],
)
def test_values_out_of_range_are_refused(options: type, values: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        options(**values)


def test_options_load_no_torch() -> None:
    code = (
        "import sys; from napari_cvsuite.paths import labelled_options, options; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
