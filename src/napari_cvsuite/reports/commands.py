"""The command that makes a result again, without the folders of this machine."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

__all__ = ["command_line", "labels_text"]


def command_line(
    words: Sequence[str],
    options: Any,
    always: Collection[str] = (),
    **given: Path | str | Sequence[Path] | None,
) -> str:
    """Return a command with the names of its folders and files instead of their paths.

    Parameters
    ----------
    words : sequence of str
        Program and command.
    options : dataclass
        Of which those are named that differ from their default.
    always : collection of str
        Options that are named in any case.
    **given : Path, sequence of Path, str or None
        Further parameters; what is empty is left out.
    """
    found = list(words)
    for field in fields(options):
        value = getattr(options, field.name)
        if field.name in always or value != field.default:
            found += [f"--{field.name.replace('_', '-')}", str(value)]
    for name, value in given.items():
        several = [value] if isinstance(value, Path | str) else value or ()
        for one in several:
            shown = one.resolve().name if isinstance(one, Path) else one
            found += [f"--{name}", shown] if shown else []
    return shlex.join(found)


def labels_text(table: Path | None, column: str) -> str:
    """Return a table of labels and its column as ``--labels`` takes them; empty without any."""
    return f"{table.name}:{column}" if table else ""
