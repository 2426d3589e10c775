"""Tests of requests and of the registry."""

from __future__ import annotations

import pickle
import sys
import types
from dataclasses import dataclass

import pytest

from napari_cvsuite.jobs.options import Option, Options
from napari_cvsuite.jobs.registry import JobSpec, UnknownJob, find
from napari_cvsuite.jobs.request import InputReference, Request, RequestError


@dataclass(frozen=True)
class Fake(Options):
    """Options of the test job."""

    size: int = Option(3, label="Size", help="Size.", minimum=1, maximum=9)


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "napari_cvsuite.quality.options"
    module = types.ModuleType(name)
    module.Fake = Fake  # type: ignore[attr-defined]
    spec = JobSpec("quality.fake", f"{name}:Fake", f"{name}:Fake", "Fake", "Fake.")
    module.JOBS = {"fake": spec}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "napari_cvsuite.quality", types.ModuleType(name[:-8]))
    monkeypatch.setitem(sys.modules, name, module)


def test_round_trips() -> None:
    one = Request("quality.fake", Fake(5), (InputReference("file", "a.tif"),))
    assert pickle.loads(pickle.dumps(one)) == one
    assert Request.from_yaml(one.to_yaml()) == one == Request.from_json(one.to_json())


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "a",
        "{version: 2, job: quality.fake}",
        "{version: 1, job: os.system}",
        "{version: 1, job: quality.none}",
        "{version: 1, job: quality.fake, options: {other: 1}}",
        "{version: 1, job: quality.fake, options: {size: 10}}",
        "{version: 1, job: quality.fake, inputs: [{kind: url, value: a}]}",
        "!!python/object/apply:os.getcwd []",
    ],
)
def test_bad(text: str) -> None:
    with pytest.raises(RequestError):
        Request.from_yaml(text)


@pytest.mark.parametrize("name", ["os.system", "quality", "quality.fake\n", "quality..x"])
def test_names(name: str) -> None:
    with pytest.raises(UnknownJob):
        find(name)
