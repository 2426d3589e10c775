"""The frame of a report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from napari_cvsuite.reports.claims import Skipped
from napari_cvsuite.reports.sections import again, origin, sections


@dataclass(frozen=True)
class _Report:
    command: str = "report --name 'a<b'"
    date: str = "2026-01-02"
    version: str = "1.2"
    seconds: float = 61.6
    provenance: dict[str, Any] = field(
        default_factory=lambda: {"device": "cpu", "precision": "float32", "threads": 3}
    )


class _Words:
    def in_words(self) -> str:
        return "3 < 4."


def test_origin_and_command_are_said() -> None:
    rows = dict(origin(_Report()))
    assert rows["date"] == "2026-01-02" and rows["made by"] == "napari-cvsuite 1.2, in 62 s"
    assert rows["computed on"] == "cpu, float32, threads: 3"
    assert "a&lt;b" in again(_Report()) and "a<b" not in again(_Report())


def test_sections_are_numbered_and_words_come_first() -> None:
    parts = [
        ("R&D", _Words(), lambda part: ["<i>shown</i>"]),
        ("No words", 7, lambda part: [f"<i>{part}</i>"]),
        ("Nothing", Skipped("No <data>."), lambda part: ["<i>never</i>"]),
    ]
    found = "".join(sections(parts))
    assert found.count("<section>") == found.count("</section>") == 3
    assert '<h2 id="s1">1. R&amp;D</h2><p>3 &lt; 4.</p><i>shown</i>' in found
    assert '<h2 id="s2">2. No words</h2><i>7</i>' in found
    assert "Not measured. No &lt;data&gt;." in found and "never" not in found
