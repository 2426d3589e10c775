"""What exists when a pause begins is left alone, and afterwards nothing is as it was not before."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from napari_cvsuite.widgets import garbage
from napari_cvsuite.widgets.garbage import GarbagePause, leave_out_what_stays, no_collection


class _Ring:
    """An object that refers to itself, which only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _undone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(garbage, "_left_out", False)
    yield
    gc.unfreeze()


def test_of_what_exists_nothing_is_collected_before_the_end() -> None:
    pause, old = GarbagePause(), _Ring()
    gone = weakref.ref(old)
    pause.begin()
    young = _Ring()
    younger = weakref.ref(young)
    del old, young
    gc.collect()
    assert gone() is not None and younger() is None
    pause.end()
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert gone() is None


def test_beginning_anew_takes_in_what_has_come_since() -> None:
    pause = GarbagePause()
    pause.begin()
    young = _Ring()
    gone = weakref.ref(young)
    pause.begin()
    del young
    gc.collect()
    assert gone() is not None
    pause.end()
    gc.collect()
    assert gone() is None


def test_an_end_without_a_beginning_does_nothing() -> None:
    gc.freeze()
    GarbagePause().end()
    assert gc.get_freeze_count() > 0


def test_what_stays_for_good_is_not_brought_back_by_a_pause() -> None:
    leave_out_what_stays()
    before = gc.get_freeze_count()
    assert before > 0
    pause = GarbagePause()
    pause.begin()
    pause.end()
    assert gc.get_freeze_count() == before


def test_a_block_without_collections_leaves_the_collector_as_it_was() -> None:
    with no_collection():
        assert not gc.isenabled()
        with no_collection():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), no_collection():
        1 / 0  # noqa: B018
    assert gc.isenabled()
