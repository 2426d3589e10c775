"""Weight files as the rest of the package sees them: find, fetch, import, read and write.

Nothing here imports torch until a file's tensors are read.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cvsuite.models.bundles import export_bundle, import_bundle
from napari_cvsuite.models.catalog import Catalogue, ModelCard, user_folder
from napari_cvsuite.models.files import WeightsError, into, require_hash, sha256
from napari_cvsuite.models.local import (
    completed,
    fetch,
    locate,
    require_free,
    verify,
    write_card,
)

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "WeightsError",
    "card_beside",
    "completed",
    "export_bundle",
    "fetch",
    "import_bundle",
    "import_file",
    "locate",
    "read_state_dict",
    "verify",
    "write_card",
    "write_safetensors",
]


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read tensors by name from a safetensors or PyTorch file, never executing its contents.

    Raises
    ------
    WeightsError
        The file is missing, damaged, needs code execution, or holds no state dict.
    """
    from napari_cvsuite.models.adapters import read_tensors

    return read_tensors(Path(path))


def write_safetensors(
    state: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    half: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write tensors to a safetensors file, which appears complete or not at all.

    Parameters
    ----------
    state : mapping of str to Tensor
    path : path-like
    half : bool
        Store floating tensors of two or more dimensions as float16 where they stay finite, and
        other floating tensors as float32. False keeps every dtype.
    metadata : mapping of str to str, optional
    """
    from napari_cvsuite.models.adapters import tensors_to_bytes

    target = Path(path)
    content = tensors_to_bytes(state, half, metadata)
    with into(target) as temporary:
        temporary.write_bytes(content)
    return target


def import_file(
    path: str | os.PathLike[str],
    card: ModelCard | Mapping[str, Any] | None = None,
    name: str = "",
) -> ModelCard:
    """Add a weight file to the user folder, with its card.

    Parameters
    ----------
    path : path-like
        A weight file, or the folder of a training run.
    card : ModelCard or mapping, optional
        A full card, whose hash the file must have; or some fields of a new one, the others
        being inferred. With a new card the tensors are stored as safetensors, so that no
        pickle is kept. Without, a card beside the file is used, such as a training run writes;
        else that of the package, if the file is one that it knows; else one is inferred.
    name : str
        Name to install the model by; default that of the card.

    Returns
    -------
    ModelCard
        The card as installed.

    Raises
    ------
    WeightsError
        The file cannot be read or trusted, or the name is taken; the message says what to do.
    """
    from napari_cvsuite.models.adapters import describe, tensors_to_bytes

    source = Path(path)
    if source.is_dir():
        source = _of_run(source)
    state = read_state_dict(source)
    folder = user_folder()
    card = card_beside(source) or _known(source) if card is None else card
    if isinstance(card, ModelCard):
        require_hash(source, card)
        if name:
            file = replace(
                card.weights,
                filename=f"{name}{source.suffix}",
                sha256=sha256(source),
                size=source.stat().st_size,
            )
            card = replace(card, name=name, weights=file)
        require_free(card)
        with into(folder / card.weights.filename) as temporary:
            shutil.copyfile(source, temporary)
    else:
        content = tensors_to_bytes(state, False, None)
        given = {**(card or {}), **({"name": name} if name else {})}
        card = describe(state, source.stem, given, content)
        require_free(card)
        with into(folder / card.weights.filename) as temporary:
            temporary.write_bytes(content)
    write_card(card)
    return card


def _known(source: Path) -> ModelCard | None:
    """Return the card of the package for this very file, whatever its name.

    Of files whose hash nobody has published the name must do, and the hash is remembered.
    """
    digest, packaged = sha256(source), Catalogue().packaged()
    for card in packaged:
        if not card.weights.sha256 and card.weights.filename == source.name:
            size = source.stat().st_size
            return replace(card, weights=replace(card.weights, sha256=digest, size=size))
    return next((c for c in packaged if c.weights.has_hash(digest)), None)


def _of_run(folder: Path) -> Path:
    found = folder / "model.safetensors"
    if not found.is_file():
        raise WeightsError(
            f"{folder} holds no model.safetensors; give a weight file, or the folder of a training "
            "run that has finished its first validation."
        )
    return found


def card_beside(source: Path) -> ModelCard | Mapping[str, Any] | None:
    """Return the card that lies beside a weight file, or for weights of a training run its fields.

    Returns
    -------
    ModelCard, mapping or None
        The card of the file itself; or what the run's ``model.json`` says of the network, without
        ``weights``; or None where there is neither.
    """
    own, of_run = source.with_suffix(".json"), source.with_name("model.json")
    for path in (own, of_run) if source.suffix == ".safetensors" else (of_run,):
        try:
            card = ModelCard.from_json(path.read_text(encoding="utf-8"))
        # No card, or a JSON file that means something else.
        except (OSError, ValueError):
            continue
        if path == own:
            return card
        fields = card.to_dict()
        del fields["weights"]
        if source.name != "best.pt":
            del fields["metrics"]
        return fields
    return None
