"""Weight files on disk: their hash, and writing that is complete or does not happen."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_cvsuite.models.catalog import ModelCard

__all__ = ["CHUNK", "WeightsError", "forget_hashes", "into", "require_hash", "sha256", "writing"]

CHUNK = 1 << 18
_hashes: dict[tuple[str, int, int], str] = {}


class WeightsError(RuntimeError):
    """Weights cannot be found, trusted, read or stored; the message says what to do."""


def sha256(path: Path) -> str:
    """Hash a file, remembering the result for as long as its time and size stay the same."""
    stat = path.stat()
    key = (str(path.absolute()), stat.st_mtime_ns, stat.st_size)
    if key not in _hashes:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        _hashes[key] = digest.hexdigest()
    return _hashes[key]


def forget_hashes() -> None:
    """Hash every file anew from now on."""
    _hashes.clear()


def require_hash(path: Path, card: ModelCard) -> None:
    """Raise :class:`WeightsError` unless the file has the hash of the card."""
    found = sha256(path)
    if not card.weights.has_hash(found):
        raise WeightsError(
            f"{path} is not the weight file of {card.name!r}: expected sha256 "
            f"{card.weights.shown_hash()}, found {found}. The file is damaged or of another "
            "version: delete it and fetch or import it again."
        )


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a full disk or a read-only folder into a message that says where and what to do."""
    try:
        yield
    except OSError as error:
        raise WeightsError(
            f"Cannot write to {folder}: {error.strerror or error}. Free some space there, make it "
            "writable, or set NAPARI_CVSUITE_HOME to another folder."
        ) from error


@contextmanager
def into(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`, moved onto it if the block succeeds."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    with writing(target.parent):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
