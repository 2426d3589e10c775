"""Fetch weight files from a mirror or from where they come from."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from urllib.parse import quote

from napari_cvsuite.jobs.context import current_context
from napari_cvsuite.models import licences
from napari_cvsuite.models.catalog import ModelCard, user_folder
from napari_cvsuite.models.files import CHUNK, WeightsError, into, sha256

__all__ = ["download"]

TIMEOUT_S = 20.0
_fetching = threading.Lock()


def download(card: ModelCard, problems: list[str], accepted: bool) -> Path:
    """Fetch the weights of `card` into the user folder, from the mirror or its sources.

    Parameters
    ----------
    card : ModelCard
    problems : list of str
        What was wrong with local files, for the message.
    accepted : bool
        The user agrees to the licence, which is remembered.

    Raises
    ------
    WeightsError
        The licence is not accepted, or no address delivers; the message names the file, the
        folder it belongs in and its hash.
    """
    if not card.weights.sha256:
        raise WeightsError(
            f"No hash of {card.weights.filename} is published, so it is not fetched. Download it "
            f"yourself from {' or '.join(card.weights.sources)}, then run: napari-cvsuite models "
            f"import {card.weights.filename}"
        )
    if accepted:
        licences.accept(card)
    if not licences.is_accepted(card):
        raise WeightsError(
            f"The weights of {card.name!r} may be downloaded once their licence "
            f"({card.license}) is accepted: run napari-cvsuite models "
            f"fetch {card.name} --accept-licence, or call fetch(card, accept_license=True)."
        )
    mirror = os.environ.get("NAPARI_CVSUITE_MIRROR")
    urls = [f"{mirror.rstrip('/')}/{quote(card.weights.filename)}"] if mirror else []
    urls += card.weights.sources
    target = user_folder() / card.weights.filename
    reasons = list(problems)
    while not _fetching.acquire(timeout=0.2):
        current_context().check()
    try:
        if target.is_file() and card.weights.has_hash(sha256(target)):
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
        f"by hand (sha256 {card.weights.shown_hash()})."
    )


def _try_url(url: str, target: Path, card: ModelCard) -> str | None:
    """Download into `target`; return why it failed, or None."""
    import pooch
    import requests

    downloader = pooch.HTTPDownloader(progressbar=_Bar(card), chunk_size=CHUNK, timeout=TIMEOUT_S)
    try:
        with into(target) as temporary:
            with temporary.open("wb") as out:
                try:
                    downloader(url, out, None)
                except (requests.RequestException, ValueError) as error:
                    # Caught here as requests' errors are OSErrors, like those of a full disk.
                    raise _FetchError(f"{type(error).__name__}: {error}") from error
            found = sha256(temporary)
            if not card.weights.has_hash(found):
                expected = card.weights.shown_hash()
                raise _FetchError(f"wrong content: expected {expected}, found {found}")
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
        if size and self._done >= size + 2 * CHUNK:
            raise _FetchError(f"it sends more than the {size} bytes expected")
        # pooch sets the total to what the server announces, 0 where it announces nothing.
        size = size or self.total
        message = f"Downloading {self._card.weights.filename}"
        current_context().progress(min(self._done, size), size, message)

    def reset(self) -> None:
        """Start again from 0, as pooch does at the end to correct the sum."""
        self._done = 0

    def close(self) -> None:
        """Nothing to release."""
