"""Tests of the commands that look after models."""

from __future__ import annotations

import hashlib
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from napari_cvsuite.cli import app, models
from napari_cvsuite.models.catalog import Catalogue, InputSpec, ModelCard, WeightFile, user_folder
from napari_cvsuite.models.qtseg import build
from napari_cvsuite.models.weights import write_card, write_safetensors

RUNNER = CliRunner()
CONTENT = b"weights" * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if "blocked" in self.path:
            self.send_error(403, "Blocked by the firewall")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def _install_card(*urls: str) -> ModelCard:
    digest = hashlib.sha256(CONTENT).hexdigest()
    file = WeightFile("far.safetensors", digest, len(CONTENT), urls, True)
    card = ModelCard("far", "segmentation", "qtseg", InputSpec(), ("a", "b"), "CC-BY-NC-4.0", file)
    write_card(card)
    return card


def test_a_licence_is_accepted_on_the_command_line(url: str) -> None:
    _install_card(f"{url}/far")
    refused = RUNNER.invoke(app, ["models", "fetch", "far"])
    assert refused.exit_code == 1
    assert "CC-BY-NC-4.0" in str(refused.exception)
    assert "--accept-licence" in str(refused.exception)
    done = RUNNER.invoke(app, ["models", "fetch", "far", "--accept-licence"])
    assert done.exit_code == 0, done.output
    assert Path(done.stdout.strip()).read_bytes() == CONTENT


def test_a_licence_is_shown_and_asked_for_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    card = _install_card(f"{url}/far")
    refused = RUNNER.invoke(app, ["models", "fetch", "far"], input="y\n")
    assert refused.exit_code == 1 and "CC-BY-NC-4.0" in refused.stderr  # No terminal, no question.
    monkeypatch.setattr(models, "_on_terminal", lambda: True)
    declined = RUNNER.invoke(app, ["models", "fetch", "far"], input="n\n")
    assert declined.exit_code == 1 and "--accept-licence" in str(declined.exception)
    done = RUNNER.invoke(app, ["models", "fetch", "far"], input="y\n")
    assert done.exit_code == 0 and "Do you accept" in done.stderr
    path = user_folder() / card.weights.filename
    path.unlink()
    again = RUNNER.invoke(app, ["models", "fetch", "far"])
    assert again.exit_code == 0 and again.stderr == "" and path.is_file()


def test_known_models_are_listed_and_told_from_those_here() -> None:
    listed = RUNNER.invoke(app, ["models", "list"])
    lines = {line.split()[0]: line for line in listed.stdout.splitlines()}
    assert "to fetch" in lines["topiq_nr"] and "CC BY-NC-SA 4.0" in lines["topiq_nr"]
    assert "to fetch" not in lines["qtseg-nuclei"]


def test_the_whole_hash_is_shown_once_the_file_is_here(url: str) -> None:
    card = _install_card(f"{url}/far")
    start = replace(card, weights=replace(card.weights, sha256=card.weights.sha256[:8], size=0))
    write_card(start)
    shown = json.loads(RUNNER.invoke(app, ["models", "info", "far"]).stdout)["weights"]
    assert (shown["sha256"], shown["size"]) == (card.weights.sha256[:8], 0)
    done = RUNNER.invoke(app, ["models", "fetch", "far", "--accept-license"])
    assert done.exit_code == 0, done.output
    shown = json.loads(RUNNER.invoke(app, ["models", "info", "far"]).stdout)["weights"]
    assert (shown["sha256"], shown["size"]) == (card.weights.sha256, len(CONTENT))
    assert card.weights.sha256 in RUNNER.invoke(app, ["models", "verify", "far"]).stdout


def test_behind_a_firewall_file_folder_and_hash_are_named(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
    card = _install_card(f"{url}/blocked/far")
    monkeypatch.setenv("NAPARI_CVSUITE_MIRROR", closed)
    done = RUNNER.invoke(app, ["models", "fetch", "far", "--accept-licence"])
    assert done.exit_code == 1
    message = str(done.exception)
    for part in ("far.safetensors", str(user_folder()), card.weights.sha256, "403", closed):
        assert part in message
    # What the message asks for helps.
    (user_folder() / "far.safetensors").write_bytes(CONTENT)
    assert RUNNER.invoke(app, ["models", "verify", "far"]).exit_code == 0


def test_publish_keeps_the_scale_and_import_renames(tmp_path: Path) -> None:
    torch.save(build(2, 8).state_dict(), tmp_path / "best.pt")
    facts = {"classes": ["background", "cell"], "license": "MIT"}
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    arguments = ["models", "publish", str(tmp_path / "best.pt"), "--name", "cells"]
    arguments += ["--facts", str(tmp_path / "facts.json"), "--out", str(tmp_path / "out")]
    done = RUNNER.invoke(app, [*arguments, "--scale", "2.0", "--tile", "192"])
    assert done.exit_code == 0, done.output
    weights = tmp_path / "out" / "cells.safetensors"
    for options, name in (([], "cells"), (["--name", "mine"], "mine")):
        done = RUNNER.invoke(app, ["models", "import", str(weights), *options])
        assert done.exit_code == 0, done.output
        card = Catalogue().get(name)
        assert card.classes == ("background", "cell")
        assert (card.input.scale, card.input.tile) == (2.0, 192)
        assert RUNNER.invoke(app, ["models", "verify", name]).exit_code == 0
        assert "licence" not in done.stdout


def test_the_licence_of_an_imported_file_is_shown(tmp_path: Path) -> None:
    path = write_safetensors(build(2, 8).state_dict(), tmp_path / "near.safetensors")
    card = replace(_install_card(), name="near")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    file = replace(card.weights, filename=path.name, sha256=digest)
    card_path = path.with_suffix(".json")
    card_path.write_text(replace(card, weights=file).to_json(), encoding="utf-8")
    done = RUNNER.invoke(app, ["models", "import", str(path)])
    assert done.stdout.strip() == "installed near (licence: CC-BY-NC-4.0)"


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["models", "import", str(tmp_path)])
    assert done.exit_code == 1 and "model.safetensors" in str(done.exception)
