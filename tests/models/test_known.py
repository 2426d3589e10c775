"""Models that the package knows but does not ship: fetched once their licence is accepted."""

from __future__ import annotations

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_cvsuite.jobs.context import Context, use_context
from napari_cvsuite.models import catalog, licences
from napari_cvsuite.models.bundles import export_bundle, import_bundle
from napari_cvsuite.models.catalog import Catalogue, InputSpec, ModelCard, WeightFile, user_folder
from napari_cvsuite.models.local import is_here
from napari_cvsuite.models.store import build_model
from napari_cvsuite.models.topiq import CFANet, build
from napari_cvsuite.models.weights import (
    WeightsError,
    completed,
    fetch,
    import_file,
    locate,
    verify,
)

OPTIONS = {"semantic_model_name": "resnet10_compact", "inter_dim": 32, "use_ref": False}
LICENCE = "CC BY-NC-SA 4.0 (non-commercial)"


@dataclass
class Host:
    """What a server holds by path, its address, and the paths that were asked for."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Serve files on this machine for one test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    held = Host()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            held.asked.append(self.path)
            body = held.files.get(self.path)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield held
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a small file of the published kind."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("made") / "w.pth"
    torch.save({"params": build(OPTIONS).state_dict()}, path)
    return path.read_bytes()


@pytest.fixture
def known(host: Host, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """Make a model known of which only the first digits of the hash are."""
    host.files["/far.pth"] = content
    digest = hashlib.sha256(content).hexdigest()
    file = WeightFile("far.pth", digest[:8], 0, (f"{host.url}/far.pth",), True)
    scaling = InputSpec(tile=1024, normalisation="unit")
    card = ModelCard("far", "quality", "topiq", scaling, ("score",), LICENCE, file, OPTIONS)
    folder = tmp_path / "known"
    folder.mkdir()
    (folder / "far.json").write_text(card.to_json(), encoding="utf-8")
    monkeypatch.setattr(catalog, "known_folder", lambda: folder)
    return card


def test_nothing_is_asked_of_the_network_before_the_licence_is_accepted(
    known: ModelCard, host: Host
) -> None:
    for get in (locate, fetch):
        with pytest.raises(WeightsError, match=r"CC BY-NC-SA.*fetch far --accept-licence"):
            get(known)
    with pytest.raises(WeightsError, match="models fetch far"):
        verify(known)
    assert host.asked == [] and not is_here(known)


def test_a_licence_is_accepted_once(known: ModelCard, host: Host, content: bytes) -> None:
    path = fetch(known, accept_license=True)
    assert path.read_bytes() == content and host.asked == ["/far.pth"] and is_here(known)
    path.unlink()
    assert locate(known) == path and len(host.asked) == 2
    assert Catalogue().problems == []
    # Other terms, or those of another model, are another question.
    assert not licences.is_accepted(replace(known, license="other"))
    assert not licences.is_accepted(replace(known, name="other"))
    licences.accept(replace(known, name="other"))
    assert licences.is_accepted(known) and licences.is_accepted(replace(known, name="other"))


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"far": 3}'])
def test_a_damaged_memory_of_licences_asks_again(known: ModelCard, damage: str) -> None:
    licences.accept(known)
    user_folder().with_name("licences.json").write_text(damage, encoding="utf-8")
    assert not licences.is_accepted(known)
    licences.accept(known)
    assert licences.is_accepted(known)


def test_the_terms_name_licence_authors_and_place() -> None:
    card = Catalogue().get("topiq_nr")
    for part in ("topiq_nr", LICENCE, "Chen et al.", "https://huggingface.co/chaofengc"):
        assert part in licences.terms(card)


def test_a_fetched_file_becomes_the_network(known: ModelCard) -> None:
    seen = []
    with use_context(Context(on_progress=lambda p: seen.append((p.done, p.total)))):
        path = fetch(known, accept_license=True)
    # The size is not on the card; the server tells it.
    size = path.stat().st_size
    assert seen[-1] == (size, size)
    assert isinstance(build_model(known, "plain"), CFANet)


def test_known_digits_are_checked_and_the_others_filled_in(
    known: ModelCard, host: Host, content: bytes
) -> None:
    assert completed(known) == known
    host.files["/far.pth"] = content + b"?"
    with pytest.raises(WeightsError, match=f"expected {known.weights.sha256}…, found"):
        fetch(known, accept_license=True)
    assert not list(user_folder().iterdir())
    host.files["/far.pth"] = content
    fetch(known)
    whole = completed(known).weights
    assert (whole.sha256, whole.size) == (hashlib.sha256(content).hexdigest(), len(content))
    (user_folder() / "far.pth").write_bytes(b"?")
    with pytest.raises(WeightsError, match=f"expected sha256 {known.weights.sha256}…, found"):
        verify(known)


def test_a_file_that_is_known_becomes_that_model(
    known: ModelCard, host: Host, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "renamed by hand.pth"
    path.write_bytes(content)
    assert import_file(path) == known and host.asked == []
    assert verify(known) == user_folder() / "far.pth"
    # The card of the package counts, and stays the only one.
    assert [p.name for p in user_folder().iterdir()] == ["far.pth"]
    renamed = import_file(path, name="mine")
    assert renamed.weights.filename == "mine.pth" and renamed.license == LICENCE
    assert renamed.weights.sha256 == hashlib.sha256(content).hexdigest()
    assert Catalogue().get("mine") == renamed and Catalogue().problems == []
    path.write_bytes(b"damaged")
    with pytest.raises(WeightsError):
        import_file(path)


def test_a_name_that_is_known_is_not_for_other_files(known: ModelCard, tmp_path: Path) -> None:
    torch.manual_seed(1)
    torch.save({"params": build(OPTIONS).state_dict()}, tmp_path / "far.pth")
    with pytest.raises(WeightsError, match="use another name"):
        import_file(tmp_path / "far.pth")


def test_a_known_model_travels_in_a_bundle(
    known: ModelCard, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(known, accept_license=True)
    whole = completed(known)
    bundle = export_bundle([known], tmp_path / "b.zip")
    monkeypatch.setenv("NAPARI_CVSUITE_HOME", str(tmp_path / "else"))
    assert import_bundle(bundle) == [whole]
    assert [p.name for p in user_folder().iterdir()] == ["far.pth"]
    assert verify(Catalogue().get("far")).read_bytes() == content
    assert Catalogue().problems == []
    # A version of the program that does not know the model keeps the card.
    monkeypatch.setattr(catalog, "known_folder", lambda: tmp_path / "none")
    monkeypatch.setenv("NAPARI_CVSUITE_HOME", str(tmp_path / "old"))
    import_bundle(bundle)
    assert Catalogue().get("far") == whole


def test_an_archive_without_end_is_refused_where_no_size_is_stated(
    known: ModelCard, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_cvsuite.models.bundles._MAX_UNSTATED_BYTES", len(content) - 1)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as bundle:
        bundle.writestr("cards/far.json", known.to_json())
        bundle.writestr("weights/far.pth", content)
    with pytest.raises(WeightsError, match="larger than its card allows"):
        import_bundle(tmp_path / "b.zip")
