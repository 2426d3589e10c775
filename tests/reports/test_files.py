"""Results as files: facts, tables and pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread

from napari_cvsuite.images import ImageError
from napari_cvsuite.reports.files import (
    signed_picture,
    write_facts,
    write_page,
    write_picture,
    write_rows,
)


def test_zero_is_white() -> None:
    colours = signed_picture(np.array([[-1.0, 0.0, 1.0]]))
    assert colours[0, 1] == pytest.approx(1.0, abs=0.01)
    assert colours[0, 0, 2] > colours[0, 0, 0] and colours[0, 2, 0] > colours[0, 2, 2]


def test_tables_facts_and_pictures_are_read_back(tmp_path: Path) -> None:
    write_rows(tmp_path / "t.csv", [{"path": "ffn_0", "share": 0.123456789, "n": 3}])
    with (tmp_path / "t.csv").open(newline="") as handle:
        assert list(csv.DictReader(handle)) == [{"path": "ffn_0", "share": "0.123457", "n": "3"}]
    write_rows(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_text().strip() == ""
    write_facts(tmp_path / "f.json", {"values": np.arange(3), "lost": float("nan")})
    assert json.loads((tmp_path / "f.json").read_text()) == {"values": [0, 1, 2], "lost": None}
    write_picture(tmp_path / "p.png", np.array([[[0.0, 0.5, 2.0]]]))
    assert imread(tmp_path / "p.png").tolist() == [[[0, 128, 255]]]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="choose another"):
        write_facts(tmp_path / "none" / "f.json", {})


def test_a_report_is_a_page_and_its_numbers(tmp_path: Path) -> None:
    found = write_page(tmp_path, "<p>ä</p>", {"n": 3})
    assert found == [tmp_path / "report.html", tmp_path / "report.json"]
    assert found[0].read_text(encoding="utf-8") == "<p>ä</p>"
    assert json.loads(found[1].read_text(encoding="utf-8")) == {"n": 3}
