"""Find, check, download, import and exchange weight files.

Nothing here imports torch until a file's tensors are read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from napari_cvsuite.jobs.context import current_context
from napari_cvsuite.models.catalog import Catalogue, ModelCard, builtin_folder, user_folder

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "WeightsError",
    "export_bundle",
    "fetch",
    "import_bundle",
    "import_file",
    "locate",
    "read_state_dict",
    "verify",
    "write_safetensors",
]

CHUNK = 1 << 18
TIMEOUT_S = 20.0
_MAX_CARD_BYTES = 1 << 20
_hashes: dict[tuple[str, int, int], str] = {}
_fetching = threading.Lock()


class WeightsError(RuntimeError):
    """Weights cannot be found, trusted, read or stored; the message says what to do."""


def locate(card: ModelCard) -> Path:
    """Return a verified weight file of `card`, downloading it if it is nowhere on this machine.

    Looks in the user folder, the folders of ``NAPARI_CVSUITE_WEIGHTS``, the package, then the
    network. A local file with the wrong hash is reported as a warning and passed over.

    Raises
    ------
    WeightsError
        The weights are in none of the places; the message tells how to supply them.
    """
    path, problems = _local(card)
    if path is not None:
        return path
    for problem in problems:
        current_context().warn(problem)
    return _download(card, problems, accepted=False)


def fetch(card: ModelCard, accept_license: bool = False) -> Path:
    """Return the weight file, downloading it into the user folder where none is local.

    Parameters
    ----------
    card : ModelCard
    accept_license : bool
        The user agrees to `card.license`; needed where the card demands it.
    """
    path, problems = _local(card)
    return path if path is not None else _download(card, problems, accepted=accept_license)


def verify(card: ModelCard) -> Path:
    """Hash the local file anew and return its path; never downloads.

    Raises
    ------
    WeightsError
        No local file, or none with the hash of the card.
    """
    _hashes.clear()
    path, problems = _local(card)
    if path is None:
        detail = "\n".join(problems) or f"{card.weights.filename} is not on this machine."
        raise WeightsError(f"Model {card.name!r} has no verified weights.\n{detail}")
    return path


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
    with _into(target) as temporary:
        temporary.write_bytes(content)
    return target


def import_file(
    path: str | os.PathLike[str], card: ModelCard | Mapping[str, Any] | None = None
) -> ModelCard:
    """Add a weight file to the user folder, with its card.

    Parameters
    ----------
    path : path-like
    card : ModelCard or mapping, optional
        A full card, whose hash the file must have; or some fields of a new one, the others
        being inferred. With a new card the tensors are stored as safetensors, so that no
        pickle is kept.

    Returns
    -------
    ModelCard
        The card as installed.
    """
    from napari_cvsuite.models.adapters import describe, tensors_to_bytes

    source = Path(path)
    state = read_state_dict(source)
    folder = user_folder()
    if isinstance(card, ModelCard):
        _require_hash(source, card)
        _require_free(card)
        with _into(folder / card.weights.filename) as temporary:
            shutil.copyfile(source, temporary)
    else:
        content = tensors_to_bytes(state, False, None)
        card = describe(state, source.stem, card or {}, content)
        _require_free(card)
        with _into(folder / card.weights.filename) as temporary:
            temporary.write_bytes(content)
    _write_card(card)
    return card


def export_bundle(cards: Iterable[ModelCard], zip_path: str | os.PathLike[str]) -> Path:
    """Write cards and weights to one zip file, to carry to a machine without network."""
    target = Path(zip_path)
    unique = list({card.name: card for card in cards}.values())
    paths = {card.weights.filename: locate(card) for card in unique}
    with _into(target) as temporary, zipfile.ZipFile(temporary, "w") as bundle:
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
            with _writing(staging):
                staging.mkdir(parents=True)
            for filename, card in {c.weights.filename: c for c in cards}.items():
                with bundle.open(f"weights/{filename}") as stream:
                    _unpack(stream, staging / filename, card)
        for card in cards:
            # Two cards may share one file name: each must fit what was unpacked under it.
            _require_hash(staging / card.weights.filename, card)
        with _writing(user_folder()):
            for filename in {c.weights.filename for c in cards}:
                os.replace(staging / filename, user_folder() / filename)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise WeightsError(f"{zip_path} is not a readable model bundle: {error}") from error
    except OSError as error:
        raise WeightsError(f"Cannot read {zip_path}: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for card in cards:
        _write_card(card)
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
                raise WeightsError(f"The card {name} in the bundle is too large to be a card.")
            try:
                card = ModelCard.from_json(bundle.read(name).decode("utf-8"))
            except ValueError as error:
                raise WeightsError(f"The card {name} in the bundle is bad: {error}") from error
            _require_free(card)
            cards.append(card)
    expected = [f"cards/{c.name}.json" for c in cards]
    expected += sorted({f"weights/{c.weights.filename}" for c in cards})
    if not cards or sorted(names) != sorted(expected):
        odd = sorted(set(names) ^ set(expected))
        raise WeightsError(f"This is not a model bundle: unexpected or missing members {odd[:5]}")
    return cards


def _unpack(stream: IO[bytes], target: Path, card: ModelCard) -> None:
    left = card.weights.size
    with _writing(target.parent), target.open("wb") as out:
        while chunk := stream.read(CHUNK):
            current_context().check()
            left -= len(chunk)
            if left < 0:  # A zip bomb stops here, not when the disk is full.
                raise WeightsError(f"{target.name} in the bundle is larger than its card says.")
            out.write(chunk)


def _local(card: ModelCard) -> tuple[Path | None, list[str]]:
    """Return the first local file with the right hash, and what is wrong with the others."""
    extra = os.environ.get("NAPARI_CVSUITE_WEIGHTS", "").split(os.pathsep)
    folders = [user_folder(), *(Path(f) for f in extra if f), builtin_folder()]
    problems: list[str] = []
    for folder in folders:
        path = folder / card.weights.filename
        try:
            if path.is_file():
                _require_hash(path, card)
                return path, problems
        except (OSError, WeightsError) as error:
            problems.append(str(error))
    return None, problems


def _sha256(path: Path) -> str:
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


def _require_hash(path: Path, card: ModelCard) -> None:
    found = _sha256(path)
    if found != card.weights.sha256:
        raise WeightsError(
            f"{path} is not the weight file of {card.name!r}: expected sha256 "
            f"{card.weights.sha256}, found {found}. The file is damaged or of another version."
        )


def _require_free(card: ModelCard) -> None:
    """Refuse to shadow another model by name, or to overwrite another model's file."""
    for other in Catalogue():
        if other.name == card.name and other.weights.sha256 != card.weights.sha256:
            raise WeightsError(f"A different model called {card.name!r} exists; use another name.")
        same_file = other.weights.filename == card.weights.filename
        if same_file and other.weights.sha256 != card.weights.sha256:
            raise WeightsError(f"{card.weights.filename} is the file of model {other.name!r}.")


def _write_card(card: ModelCard) -> None:
    with _into(user_folder() / f"{card.name}.json") as temporary:
        temporary.write_text(card.to_json(), encoding="utf-8")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn a full disk or a read-only folder into a message that says where and what to do."""
    try:
        yield
    except OSError as error:
        raise WeightsError(
            f"Cannot write to {folder}: {error.strerror or error}. Free some space there, make it "
            "writable, or set NAPARI_CVSUITE_HOME to another folder."
        ) from error


@contextmanager
def _into(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`, moved onto it if the block succeeds."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    with _writing(target.parent):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def _download(card: ModelCard, problems: list[str], accepted: bool) -> Path:
    if card.weights.license_must_be_accepted and not accepted:
        raise WeightsError(
            f"The weights of {card.name!r} may be downloaded once their licence "
            f"({card.license}) is accepted: call fetch(card, accept_license=True)."
        )
    mirror = os.environ.get("NAPARI_CVSUITE_MIRROR")
    urls = [f"{mirror.rstrip('/')}/{quote(card.weights.filename)}"] if mirror else []
    urls += card.weights.sources
    target = user_folder() / card.weights.filename
    reasons = list(problems)
    while not _fetching.acquire(timeout=0.2):
        current_context().check()
    try:
        if target.is_file() and _sha256(target) == card.weights.sha256:
            return target  # Another thread fetched it while this one waited.
        for url in urls:
            reason = _try_url(url, target, card)
            if reason is None:
                return target
            reasons.append(f"{url}: {reason}")
    finally:
        _fetching.release()
    tried = "\n".join(f"  - {reason}" for reason in reasons) or "  - no download address is known"
    raise WeightsError(
        f"Cannot get the weights of {card.name!r}.\n{tried}\n"
        f"Without network access, put the file {card.weights.filename} into {user_folder()} "
        f"by hand (sha256 {card.weights.sha256})."
    )


def _try_url(url: str, target: Path, card: ModelCard) -> str | None:
    """Download into `target`; return why it failed, or None."""
    import pooch
    import requests

    downloader = pooch.HTTPDownloader(progressbar=_Bar(card), chunk_size=CHUNK, timeout=TIMEOUT_S)
    try:
        with _into(target) as temporary:
            with temporary.open("wb") as out:
                try:
                    downloader(url, out, None)
                except (requests.RequestException, ValueError) as error:
                    # Caught here as requests' errors are OSErrors, like those of a full disk.
                    raise _FetchError(f"{type(error).__name__}: {error}") from error
            found = _sha256(temporary)
            if found != card.weights.sha256:
                raise _FetchError(f"wrong content: expected {card.weights.sha256}, found {found}")
    except _FetchError as failed:
        return str(failed)
    return None


class _FetchError(Exception):
    """One address did not deliver; the next one may."""


class _Bar:
    """What pooch takes for a progress bar: reports, lets the user cancel, bounds the size."""

    def __init__(self, card: ModelCard) -> None:
        self.total = 0
        self._card = card
        self._done = 0

    def update(self, amount: int) -> None:
        """Count the bytes of one chunk; pooch counts the last chunk as a full one."""
        size = self._card.weights.size
        self._done += amount
        if self._done >= size + 2 * CHUNK:
            raise _FetchError(f"it sends more than the {size} bytes expected")
        message = f"Downloading {self._card.weights.filename}"
        current_context().progress(min(self._done, size), size, message)

    def reset(self) -> None:
        """Start again from 0, as pooch does at the end to correct the sum."""
        self._done = 0

    def close(self) -> None:
        """Nothing to release."""
