from __future__ import annotations

import functools
import hashlib
import http.server
import os
import socket
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_cvsuite.jobs.context import Cancelled, CancelToken, Context, use_context
from napari_cvsuite.models import download as module
from napari_cvsuite.models.bundles import export_bundle, import_bundle
from napari_cvsuite.models.catalog import Catalogue, InputSpec, ModelCard, WeightFile, user_folder
from napari_cvsuite.models.qtseg import build
from napari_cvsuite.models.weights import (
    WeightsError,
    fetch,
    import_file,
    locate,
    read_state_dict,
    verify,
    write_safetensors,
)

CONTENT = os.urandom(700_000)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAPARI_CVSUITE_HOME", str(tmp_path / "home"))
    for name in ("MIRROR", "WEIGHTS"):
        monkeypatch.delenv(f"NAPARI_CVSUITE_{name}", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "home" / "models"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if "missing" in self.path:
            self.send_error(404)
            return
        body = CONTENT[:-1] + b"?" if "wrong" in self.path else CONTENT
        body = CONTENT * 4 if "huge" in self.path else body
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:1000] if "short" in self.path else body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def card(*urls: str, content: bytes = CONTENT, name: str = "m", accept: bool = False) -> ModelCard:
    sha = hashlib.sha256(content).hexdigest()
    file = WeightFile(f"{name}.safetensors", sha, len(content), urls, accept)
    return ModelCard(name, "segmentation", "qtseg", InputSpec(), ("a",), "MIT", file)


def test_download_reports_progress(url: str, home: Path) -> None:
    seen: list[float] = []
    with use_context(Context(on_progress=lambda p: seen.append(p.done / p.total))):
        path = locate(card(f"{url}/m"))
    assert path == home / "m.safetensors" and path.read_bytes() == CONTENT
    assert seen[-1] == 1 and len(seen) >= 3
    assert [p.name for p in home.iterdir()] == ["m.safetensors"]


def test_mirror_comes_first_and_origin_helps_out(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_CVSUITE_MIRROR", f"{url}/mirror/")
    assert locate(card(f"{url}/missing")).is_file()
    monkeypatch.setenv("NAPARI_CVSUITE_MIRROR", f"{url}/missing/")
    other = card(f"{url}/wrong", f"{url}/good", name="n")
    assert locate(other).is_file()


def test_every_failure_is_named(url: str, home: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{s.getsockname()[1]}/m"
    paths = [f"{url}/{p}" for p in ("missing", "short", "wrong", "huge")]
    wanted = card(*paths, closed)
    with pytest.raises(WeightsError) as caught:
        locate(wanted)
    message = str(caught.value)
    wrong = hashlib.sha256(CONTENT[:-1] + b"?").hexdigest()
    for part in (*paths, closed, "404", wrong, wanted.weights.sha256, str(home), "m.safetensors"):
        assert part in message
    assert "more than the" in message and "ConnectionError" in message
    assert not list(home.iterdir())


def test_cancel_leaves_nothing(url: str, home: Path) -> None:
    token = CancelToken()
    context = Context(token=token, on_progress=lambda p: token.cancel())
    with use_context(context), pytest.raises(Cancelled):
        locate(card(f"{url}/m"))
    assert not list(home.iterdir())


def test_licence_must_be_accepted(url: str) -> None:
    wanted = card(f"{url}/m", accept=True)
    with pytest.raises(WeightsError, match="accept_license=True"):
        locate(wanted)
    assert fetch(wanted, accept_license=True) == locate(wanted) == verify(wanted)


def test_local_order_and_wrong_hash(home: Path, tmp_path: Path, monkeypatch: Any) -> None:
    wanted = card()
    home.mkdir(parents=True)
    (home / "m.safetensors").write_bytes(b"other")
    with pytest.raises(WeightsError) as caught:
        verify(wanted)
    assert wanted.weights.sha256 in str(caught.value)
    assert hashlib.sha256(b"other").hexdigest() in str(caught.value)
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "m.safetensors").write_bytes(CONTENT)
    monkeypatch.setenv("NAPARI_CVSUITE_WEIGHTS", os.pathsep.join([str(tmp_path), str(extra)]))
    assert locate(wanted).parent == extra
    (home / "m.safetensors").write_bytes(CONTENT)
    assert locate(wanted).parent == home


def test_unwritable_home(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NAPARI_CVSUITE_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="Cannot write to"):
        locate(card(f"{url}/m"))


def test_full_disk(url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, amount: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module._Bar, "update", full)
    with pytest.raises(WeightsError, match="No space left"):
        locate(card(f"{url}/m"))
    assert not list(home.iterdir())


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"{sys.executable} -c \"open(r'{self.target}', 'w')\"",)


@pytest.mark.parametrize("zipped", [True, False])
def test_malicious_pickle_is_refused(tmp_path: Path, zipped: bool) -> None:
    path, trace = tmp_path / "evil.pt", tmp_path / "trace"
    content = {"w": torch.zeros(2), "x": Evil(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"run \S*system.*\n?.*safetensors"):
        read_state_dict(path)
    assert not trace.exists()


@pytest.mark.parametrize("key", ["state_dict_model", "state_dict", None])
def test_checkpoint_layouts(tmp_path: Path, key: str | None) -> None:
    state = {"module.w": torch.ones(2, 2), "module.n": torch.tensor(3)}
    best = {"a": np.float64(0.9), "b": np.float32(1), "c": np.int64(4)}
    path = tmp_path / "weight_last.pt"
    torch.save({key: state, **best, "epoch": 3} if key else state, path)
    before = set(torch.serialization.get_safe_globals())
    read = read_state_dict(path)
    assert list(read) == ["w", "n"] and torch.equal(read["w"], torch.ones(2, 2))
    assert set(torch.serialization.get_safe_globals()) == before


def test_numpy_1_spelling_and_other_numpy_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    content = {"state_dict_model": {"w": torch.ones(1)}, "best": np.float64(0.5)}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    old = path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path.write_bytes(old)
    assert list(read_state_dict(path)) == ["w"]
    torch.save({"w": np.zeros(3)}, path)
    with pytest.raises(WeightsError, match="reconstruct"):
        read_state_dict(path)


@pytest.mark.parametrize(
    "thing",
    [functools.partial(print), Path("x"), torch.nn.Linear(1, 1), np.zeros(2), np.complex64(1)],
    ids=lambda thing: type(thing).__name__,
)
def test_beside_numpy_numbers_nothing_is_unpickled(tmp_path: Path, thing: object) -> None:
    path = tmp_path / "weight_last.pt"
    torch.save({"state_dict_model": {"w": torch.ones(1)}, "best": np.float64(0.5)}, path)
    assert list(read_state_dict(path)) == ["w"]
    torch.save({"state_dict_model": {"w": torch.ones(1)}, "best": thing}, path)
    with pytest.raises(WeightsError, match="was not opened, as it wants to run"):
        read_state_dict(path)


def test_not_checkpoints(tmp_path: Path) -> None:
    good = tmp_path / "good.pt"
    torch.save({"w": torch.zeros(1000)}, good)
    write_safetensors({"w": torch.zeros(1000)}, tmp_path / "good.safetensors")
    cases: dict[str, bytes] = {
        "empty.pt": b"",
        "text.pt": b"hello, this is no checkpoint",
        "cut.pt": good.read_bytes()[:900],
        "cut.safetensors": (tmp_path / "good.safetensors").read_bytes()[:500],
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    for name in (*cases, "absent.pt", "."):
        with pytest.raises(WeightsError):
            read_state_dict(tmp_path / name)
    for bad in ({}, {"w": 3}, [torch.zeros(1)], {"w": torch.zeros(1), "n": "x"}):
        torch.save(bad, good)
        with pytest.raises(WeightsError, match="state dict"):
            read_state_dict(good)


def test_write_safetensors_dtypes(tmp_path: Path) -> None:
    shared = torch.ones(3, 3)
    state = {
        "w": torch.randn(4, 5).t(),
        "big": torch.full((2, 2), 1e6),
        "bn": torch.rand(7),
        "n": torch.tensor(5),
        "a": shared,
        "b": shared,
    }
    read = read_state_dict(write_safetensors(state, tmp_path / "x" / "w.safetensors"))
    kinds = {k: str(v.dtype)[6:] for k, v in read.items()}
    halves = dict.fromkeys(("w", "a", "b"), "float16")
    assert kinds == {**halves, "big": "float32", "bn": "float32", "n": "int64"}
    assert torch.equal(read["bn"], state["bn"])
    exact = read_state_dict(write_safetensors(state, tmp_path / "e.safetensors", half=False))
    assert all(torch.equal(exact[k], v) for k, v in state.items())


def test_import_file(tmp_path: Path) -> None:
    path = tmp_path / "my net.pt"
    torch.save(build(3, 8).state_dict(), path)
    made = import_file(path, {"license": "MIT"})
    assert made.name == "my-net" and len(made.classes) == 3 and made.license == "MIT"
    assert Catalogue().get("my-net") == made and locate(made).suffix == ".safetensors"
    assert import_file(path, {"license": "MIT"}) == made
    torch.save(build(3, 8).state_dict(), path)
    with pytest.raises(WeightsError, match="another name"):
        import_file(path)
    torch.save({"w": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="a network that is not known by its names"):
        import_file(path, {"name": "other"})
    with pytest.raises(WeightsError, match="not for the QTSeg"):
        import_file(path, {"name": "other", "architecture": "qtseg"})
    full = card(content=path.read_bytes())
    assert import_file(path, full) == full and locate(full).read_bytes() == path.read_bytes()
    with pytest.raises(WeightsError, match="expected sha256"):
        import_file(path, card(name="third"))


def test_bundle_round_trip(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir(parents=True)
    (home / "m.safetensors").write_bytes(CONTENT)
    bundle = export_bundle([card(), card()], tmp_path / "b.zip")
    monkeypatch.setenv("NAPARI_CVSUITE_HOME", str(tmp_path / "else"))
    assert import_bundle(bundle) == [card()]
    assert Catalogue().get("m") == card() and locate(card()).parent == user_folder()
    assert sorted(p.name for p in user_folder().iterdir()) == ["m.json", "m.safetensors"]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"../evil.json": b"x"}, "unexpected"),
        ({"weights/../../evil": b"x"}, "unexpected"),
        ({"weights/m.safetensors": b"wrong"}, "expected sha256"),
        ({"weights/m.safetensors": CONTENT + b"x"}, "larger"),
        ({"cards/m.json": b"{}"}, "is bad"),
        ({}, "m.safetensors"),
    ],
)
def test_bad_bundles_install_nothing(
    home: Path, tmp_path: Path, members: dict[str, bytes], words: str
) -> None:
    path = tmp_path / "b.zip"
    content = {"cards/m.json": card().to_json().encode(), **members}
    with zipfile.ZipFile(path, "w") as bundle:
        for name, data in content.items():
            bundle.writestr(name, data)
    with pytest.raises(WeightsError, match=words):
        import_bundle(path)
    assert not home.exists() or not list(home.iterdir())
    assert not list(tmp_path.rglob("evil*"))
    path.write_bytes(b"no zip")
    with pytest.raises(WeightsError, match="not a readable"):
        import_bundle(path)
