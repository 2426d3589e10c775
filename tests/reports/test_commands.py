"""Commands that make a result again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_cvsuite.jobs.options import Option, Options
from napari_cvsuite.reports.commands import command_line, labels_text


@dataclass(frozen=True)
class _Options(Options):
    model: str = Option("usual", label="Model", help="Name.")
    held_out: float = Option(0.5, label="Held out", help="Share.")


def test_only_what_differs_is_named_and_no_folder_of_this_machine(tmp_path: Path) -> None:
    found = command_line(
        ("napari-cvsuite", "paths"),
        _Options(held_out=0.25),
        ("model",),
        images=tmp_path / "my images",
        labels="",
        table=None,
        study=(tmp_path / "a" / "one.json", tmp_path / "two.json"),
    )
    assert found == (
        "napari-cvsuite paths --model usual --held-out 0.25 --images 'my images' --study one.json "
        "--study two.json"
    )
    assert command_line(("do",), _Options(), column="kind") == "do --column kind"


def test_labels_are_named_as_the_command_line_takes_them() -> None:
    assert labels_text(Path("a/kinds.csv"), "kind") == "kinds.csv:kind"
    assert labels_text(None, "kind") == ""
