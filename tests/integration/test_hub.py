"""Models by hub id: from a real (local) hub, from its cache, and what is said when it does not deliver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import CheckpointError
from tests.conftest import CHECKPOINTS

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {path.name: path.read_bytes() for path in (CHECKPOINTS / "encoder").iterdir()}
FILES |= {
    "added_tokens.json": b"{}",
    "modules.json": b'[{"path": "", "type": "Transformer"}]',
    "config_sentence_transformers.json": b"{}",
    "sentence_bert_config.json": b"{}",
}
EXTRA = {"pytorch_model.bin": b"not wanted", "modeling_evil.py": b"raise SystemExit", "onnx/model.onnx": b"not wanted"}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as fetching one repository takes."""

    asked: list[str]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.split("?")[0]
        type(self).asked.append(path)
        files = FILES | EXTRA
        if path.startswith("/api/models/owner/reranker"):
            listing = [
                {"rfilename": n, "path": n, "type": "file", "size": len(c), "oid": "1"} for n, c in files.items()
            ]
            body = json.dumps(
                listing if "/tree/" in path else {"id": "owner/reranker", "sha": COMMIT, "siblings": listing}
            )
            self._send(200, body.encode(), with_body)
        elif path.startswith("/owner/reranker/resolve/"):
            content = files[path.split("/resolve/")[1].split("/", 1)[1]]
            self._send(200, content, with_body)
        else:
            self._send(404, b"{}", with_body)

    def _send(self, status: int, body: bytes, with_body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{len(body)}-{hash(body) & 0xFFFFFF:x}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    """A hub on this machine: its address, and the paths it was asked for."""
    handler = type("Recording", (Hub,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler.asked
    server.shutdown()
    thread.join()
    server.server_close()


def load(model: str, endpoint: str, cache: Path, **options: object) -> str:
    """Load in a process of its own, because huggingface_hub reads its endpoint when it is imported."""
    code = f"""
from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import RerankError
try:
    with load_scorer({model!r}, cache_dir={str(cache)!r}, **{options!r}) as scorer:
        print("scored", len(scorer.score("q", ["a", "b"])))
except RerankError as error:
    print(type(error).__name__, str(error).replace(chr(10), " "))
"""
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
    environment.pop("HF_HUB_OFFLINE", None)
    finished = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    return finished.stdout.strip()


def test_a_model_comes_from_the_hub_then_from_its_cache(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, asked = hub
    assert load("owner/reranker", endpoint, tmp_path) == "scored 2"
    fetched = {path.rsplit("/", 1)[1] for path in asked if "/resolve/" in path}
    assert fetched == set(FILES)  # no pickle, no code, nothing that was not asked for
    assert load("owner/reranker", endpoint, tmp_path, revision=COMMIT, local_files_only=True) == "scored 2"
    assert load("owner/reranker", "http://127.0.0.1:9", tmp_path) == "scored 2"


def test_a_repository_that_does_not_exist(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    said = load("owner/nothing", hub[0], tmp_path)
    assert said.startswith("HubError")
    assert "owner/nothing" in said
    assert "Check the name" in said


def test_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    said = load("owner/reranker", "http://127.0.0.1:9", tmp_path)
    assert said.startswith("HubError owner/reranker")
    assert "cannot be reached" in said
    assert "hf download owner/reranker" in said


def test_local_files_only_asks_no_hub(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    endpoint, asked = hub
    said = load("owner/reranker", endpoint, tmp_path, local_files_only=True)
    assert said.startswith("HubError")
    assert "local_files_only" in said
    assert asked == []


@pytest.mark.parametrize("name", ["owner/bad name", "-owner/x", "owner/x..y"])
def test_a_name_that_is_none(name: str, tmp_path: Path) -> None:
    assert load(name, "http://127.0.0.1:9", tmp_path).startswith(f"CheckpointError {name}")


def test_a_published_model_without_its_owner() -> None:
    with pytest.raises(CheckpointError, match="the published model is 'BAAI/bge-reranker-v2-m3'"):
        load_scorer("bge-reranker-v2-m3")
    with pytest.raises(CheckpointError, match="check the path"):
        load_scorer("v2-m3")
