from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cvsuite.models.catalog import (
    CardError,
    Catalogue,
    InputSpec,
    ModelCard,
    UnknownModelError,
    WeightFile,
    user_folder,
)

SHA = "0" * 64


def make(name: str = "polyp", **changes: Any) -> ModelCard:
    weights = WeightFile(f"{name}.safetensors", SHA, 3, ("https://example.org/w",))
    base = ModelCard(name, "segmentation", "qtseg", InputSpec(), ("a", "b"), "MIT", weights)
    return dataclasses.replace(base, **changes)


@given(
    st.text(),
    st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()),
    st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
    st.lists(st.text(), min_size=1),
)
def test_card_round_trip(
    text: str, options: dict[str, Any], metrics: dict[str, float], classes: list[str]
) -> None:
    card = make(description=text, options=options, metrics=metrics, classes=tuple(classes))
    assert ModelCard.from_json(card.to_json()) == card
    assert hash(card) == hash(ModelCard.from_json(card.to_json()))


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("colour",), 1, "unknown fields: colour"),
        (("input", "tile"), 0, "input.tile"),
        (("input", "mode"), "zoom", "native, resize"),
        (("weights", "sha256"), "abc", "64 lowercase hex"),
        (("weights", "sha256"), "0" * 7, "the first 8 of them or more"),
        (("weights", "sha256"), "0" * 65, "64 lowercase hex"),
        (("weights", "size"), -1, "weights.size"),
        (("input", "normalisation"), "zscore", "minmax, unit"),
        (("weights", "filename"), "../x", "without folders"),
        (("weights", "sources"), ["file:///etc/passwd"], "http"),
        (("name",), "a/b", "name must"),
        (("classes",), "ab", "list of text"),
        (("metrics",), {"dice": "high"}, "metrics.dice"),
        (("input",), 3, "table"),
    ],
)
def test_bad_card_names_the_field(path: tuple[str, ...], value: Any, words: str) -> None:
    data = json.loads(make().to_json())
    table = data
    for step in path[:-1]:
        table = table[step]
    table[path[-1]] = value
    with pytest.raises(CardError, match=words):
        ModelCard.from_dict(data)


def test_missing_field_and_bad_json() -> None:
    data = make().to_dict()
    del data["license"], data["weights"]
    with pytest.raises(CardError, match="lacks fields: license, weights"):
        ModelCard.from_dict(data)
    with pytest.raises(CardError, match="not valid JSON"):
        ModelCard.from_json("{")


def test_the_first_digits_of_a_hash_stand_for_it() -> None:
    whole = WeightFile("w.pth", "0123456789abcdef" * 4, 0)
    start = dataclasses.replace(whole, sha256=whole.sha256[:8])
    other = dataclasses.replace(whole, sha256="01234568")
    assert start.has_hash(whole.sha256) and not other.has_hash(whole.sha256)
    assert start.is_same(whole) and whole.is_same(start) and not whole.is_same(other)
    assert whole.shown_hash() == whole.sha256 and start.shown_hash() == "01234567…"


def test_the_package_wins_and_its_cards_are_good(home: Path) -> None:
    catalogue = Catalogue()
    assert catalogue.problems == [] and catalogue.packaged() == list(catalogue)
    user_folder().mkdir(parents=True)
    (user_folder() / "x.json").write_text(make("topiq_nr").to_json(), encoding="utf-8")
    (user_folder() / "y.json").write_text(make("mine").to_json(), encoding="utf-8")
    again = Catalogue()
    assert again.packaged() == catalogue.packaged() and again.names()[-1] == "mine"
    assert len(again.problems) == 1 and "'topiq_nr' is taken" in again.problems[0]


def test_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_CVSUITE_HOME", str(tmp_path))
    assert user_folder() == tmp_path / "models"
    user_folder().mkdir()
    (user_folder() / "polyp.json").write_text(make().to_json(), encoding="utf-8")
    (user_folder() / "bad.json").write_text("{}", encoding="utf-8")
    catalogue = Catalogue()
    assert catalogue.get("polyp") == make()
    assert "polyp" in catalogue and "polyp" in catalogue.names()
    assert len(catalogue.problems) == 1 and "bad.json" in catalogue.problems[0]
    with pytest.raises(UnknownModelError, match="Did you mean 'polyp'"):
        catalogue.get("polip")
