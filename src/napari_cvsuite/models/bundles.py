"""Several models in one zip file, for machines without network."""

from __future__ import annotations

import os
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from napari_cvsuite.jobs.context import current_context
from napari_cvsuite.models.catalog import ModelCard, user_folder
from napari_cvsuite.models.files import CHUNK, WeightsError, into, require_hash, writing
from napari_cvsuite.models.local import completed, locate, require_free, write_card

__all__ = ["export_bundle", "import_bundle"]

AGAIN = "Copy it again, whole."
ANEW = "Make it anew with: napari-cvsuite models export"
_MAX_CARD_BYTES = 1 << 20
_MAX_UNSTATED_BYTES = 4 << 30
"""Limit for a weight file whose card states no size."""


def export_bundle(cards: Iterable[ModelCard], zip_path: str | os.PathLike[str]) -> Path:
    """Write cards and weights to one zip file, to carry to a machine without network."""
    target = Path(zip_path)
    unique = list({card.name: card for card in cards}.values())
    paths = {card.weights.filename: locate(card) for card in unique}
    # What the other machine checks: the whole hash, and the size against endless archives.
    unique = [completed(card) for card in unique]
    with into(target) as temporary, zipfile.ZipFile(temporary, "w") as bundle:
        for card in unique:
            bundle.writestr(f"cards/{card.name}.json", card.to_json())
        for done, (filename, path) in enumerate(paths.items()):
            current_context().progress(done, len(paths), f"Packing {filename}")
            bundle.write(path, f"weights/{filename}")
    return target


def import_bundle(zip_path: str | os.PathLike[str]) -> list[ModelCard]:
    """Install every model of a bundle, or none if anything in it is wrong.

    Raises
    ------
    WeightsError
        Not a bundle, an unexpected member, a wrong hash, or a name already taken.
    """
    staging = user_folder() / f".bundle-{uuid.uuid4().hex}"
    try:
        with zipfile.ZipFile(zip_path) as bundle:
            cards = _bundle_cards(bundle)
            with writing(staging):
                staging.mkdir(parents=True)
            for filename, card in {c.weights.filename: c for c in cards}.items():
                with bundle.open(f"weights/{filename}") as stream:
                    _unpack(stream, staging / filename, card)
        for card in cards:
            # Two cards may share one file name: each must fit what was unpacked under it.
            require_hash(staging / card.weights.filename, card)
        with writing(user_folder()):
            for filename in {c.weights.filename for c in cards}:
                os.replace(staging / filename, user_folder() / filename)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise WeightsError(
            f"{zip_path} is not a readable model bundle: {error}. {AGAIN}"
        ) from error
    except OSError as error:
        raise WeightsError(f"Cannot read {zip_path}: {error}. {AGAIN}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for card in cards:
        write_card(card)
    return cards


def _bundle_cards(bundle: zipfile.ZipFile) -> list[ModelCard]:
    """Read the cards; refuse a bundle with any member that they do not account for."""
    if any(info.flag_bits & 1 for info in bundle.infolist()):
        raise WeightsError("The bundle is encrypted; export it without a password.")
    names = [info.filename for info in bundle.infolist() if not info.is_dir()]
    cards = []
    for name in names:
        if name.startswith("cards/"):
            if bundle.getinfo(name).file_size > _MAX_CARD_BYTES:
                raise WeightsError(
                    f"The card {name} in the bundle is too large to be a card. {ANEW}"
                )
            try:
                card = ModelCard.from_json(bundle.read(name).decode("utf-8"))
            except ValueError as error:
                raise WeightsError(
                    f"The card {name} in the bundle is bad: {error}. {ANEW}"
                ) from error
            require_free(card)
            cards.append(card)
    expected = [f"cards/{c.name}.json" for c in cards]
    expected += sorted({f"weights/{c.weights.filename}" for c in cards})
    if not cards or sorted(names) != sorted(expected):
        odd = sorted(set(names) ^ set(expected))
        raise WeightsError(
            f"This is not a model bundle: unexpected or missing members {odd[:5]}. {ANEW}"
        )
    return cards


def _unpack(stream: IO[bytes], target: Path, card: ModelCard) -> None:
    left = card.weights.size or _MAX_UNSTATED_BYTES
    with writing(target.parent), target.open("wb") as out:
        while chunk := stream.read(CHUNK):
            current_context().check()
            left -= len(chunk)
            if left < 0:  # A zip bomb stops here, not when the disk is full.
                raise WeightsError(
                    f"{target.name} in the bundle is larger than its card allows. {ANEW}"
                )
            out.write(chunk)
