"""The evaluation: arithmetic of its figures, and the whole way on one image."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from napari_cvsuite.jobs import Context
from napari_cvsuite.quality import evaluate as module
from napari_cvsuite.quality.distortions import DISTORTIONS
from napari_cvsuite.quality.evaluate import (
    EvaluateInputs,
    as_json_text,
    as_text,
    calibration_error,
    evaluate,
)


def _rows(scores: list[float], name: str = "jpeg", image: str = "a") -> list[dict[str, Any]]:
    return [
        {
            "image": image,
            "distortion": name,
            "level": level,
            "group": "natural",
            "label": 1 - level / 5,
            "score m": score,
        }
        for level, score in enumerate(scores)
    ]


def test_figures_by_hand() -> None:
    perfect, swapped = [5.0, 4, 3, 2, 1, 0], [4.0, 5, 3, 2, 1, 0]
    rows = _rows(perfect) + _rows(swapped, image="b") + _rows(perfect[::-1], "contrast")
    found = module._summary(rows, "score m")
    # One swap of neighbours among six: 1 - 6 * 2 / (6 * 35).
    assert found.by_distortion["jpeg"] == pytest.approx((1 + 1 - 12 / 210) / 2)
    assert found.by_distortion["contrast"] == pytest.approx(-1)
    assert found.aimed["compression"] == found.aimed["broad"] == found.by_distortion["jpeg"]
    # Contrast has no single worse direction.
    assert found.pristine_first == 0.5
    assert found.by_group == {"natural": found.by_distortion["jpeg"]}


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.55, 0.55])
    right = np.array([True, False, True, True])
    assert calibration_error(confidence, right) == pytest.approx((0.45 + 0.45) / 2)


@pytest.mark.filterwarnings("ignore::RuntimeWarning:pypiqe")
def test_the_whole_way(
    tmp_path: Path, tiny_quality_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skimage.data import astronaut

    monkeypatch.setattr(
        module, "DISTORTIONS", {k: DISTORTIONS[k] for k in ("jpeg", "gaussian blur")}
    )
    Picture.fromarray(astronaut()[:200, :200]).save(tmp_path / "one.png")
    (tmp_path / "index.csv").write_text("name,domain\none,natural\n")
    inputs = EvaluateInputs(
        tmp_path, ("one",), tmp_path / "index.csv", side=192, rows=tmp_path / "rows.csv"
    )
    found = evaluate(inputs, [tiny_quality_model], Context())
    assert found.n == 1 and {tiny_quality_model, "SSIM", "MS-SSIM", "PSNR"} <= set(found.scores)
    # What compares with the image itself ranks its spoilt copies without a mistake.
    assert found.scores["PSNR"].by_distortion == {"jpeg": 1.0, "gaussian blur": 1.0}
    assert found.scores["PSNR"].pristine_first == 1.0
    mine = found.scores[tiny_quality_model]
    assert mine.kind_accuracy is not None and 0 <= mine.kind_accuracy <= 1
    assert list(mine.by_group) == ["natural"]
    with (tmp_path / "rows.csv").open() as handle:
        assert len(list(csv.DictReader(handle))) == 12
    assert json.loads(as_json_text(found))["n"] == 1
    assert as_text(found).splitlines()[0].startswith("|  | ")


def test_grain_lies_over_what_spoils_the_light_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skimage.data import camera

    chosen = {k: DISTORTIONS[k] for k in ("jpeg", "gaussian blur")}
    monkeypatch.setattr(module, "DISTORTIONS", chosen)
    Picture.fromarray(camera()[100:300, 100:300]).save(tmp_path / "one.png")
    tables = []
    for grain in (0.0, 2.0):
        rows = tmp_path / f"{grain}.csv"
        found = evaluate(EvaluateInputs(tmp_path, rows=rows, grain=grain), [], Context())
        with rows.open() as handle:
            tables.append(list(csv.DictReader(handle)))
    plain, grained = ({(row["distortion"], row["level"]): row for row in table} for table in tables)
    for (name, level), row in grained.items():
        assert row["label"] == plain[name, level]["label"]
        if name == "jpeg":
            assert row == plain[name, level]
        elif level == "0":
            # The mean square of its noise is 4, and a twelfth for rounding.
            expected = 10 * np.log10(255**2 / (4 + 1 / 12))
            assert float(row["score PSNR"]) == pytest.approx(expected, abs=0.1)
    assert found.scores["PSNR"].by_distortion["gaussian blur"] > 0.9


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    Picture.fromarray(np.zeros((200, 200), np.uint8)).save(tmp_path / "one.png")
    with pytest.raises(ValueError, match="no image 'two'"):
        evaluate(EvaluateInputs(tmp_path, ("two",)), [], Context())
    (tmp_path / "index.csv").write_text("name,kind\none,x\n")
    with pytest.raises(ValueError, match="columns name and domain"):
        evaluate(EvaluateInputs(tmp_path, groups=tmp_path / "index.csv"), [], Context())
