"""The state of docks outlives the program, and a damaged file does not stop it."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_cvsuite.widgets.settings import load_state, preference, save_state, state_file


def test_state_round_trips_dock_by_dock() -> None:
    save_state("segment", {"model": "a", "options": {"tta": True}})
    save_state("quality", {"model": "b"})
    assert load_state("segment") == {"model": "a", "options": {"tta": True}}
    assert load_state("quality") == {"model": "b"}
    assert load_state("paths") == {}


@pytest.mark.parametrize("content", ["[1, 2", "- a list", "segment: 3", "\x00"])
def test_damaged_state_is_no_state(content: str) -> None:
    state_file().parent.mkdir(parents=True, exist_ok=True)
    state_file().write_text(content)
    assert load_state("segment") == {}
    save_state("segment", {"model": "a"})
    assert load_state("segment") == {"model": "a"}


def test_a_folder_that_cannot_be_written_is_survived(home: Path) -> None:
    home.write_text("a file where the folder should be")
    save_state("segment", {"model": "a"})
    assert load_state("segment") == {}


def test_unknown_preferences_have_their_default() -> None:
    assert preference("segment", "no_such_key", 7) == 7
