"""Hubs that do not deliver: each ends soon, with the reason, and with what the cache has if it has the model."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bge_rerank_integrations.errors import CheckpointError, HubError
from bge_rerank_integrations.model.download import Hub, download
from bge_rerank_integrations.options import ModelSource

NAME = "owner/reranker"
OLD, NEW = "0" * 40, "1" * 40
FILES = {"config.json": b"{}", "model.safetensors": b"x" * 1000}


class Answers(BaseHTTPRequestHandler):
    """A hub that works. Others fail where their method says so."""

    commit = OLD
    heard: list[tuple[str, str | None]]
    ended: threading.Event

    def do_GET(self) -> None:
        type(self).heard.append((self.path, self.headers["Authorization"]))
        path = self.path.split("?")[0]
        if "/resolve/" in path:
            self.file(FILES[path.rpartition("/")[2]])
        elif path.startswith(f"/api/models/{NAME}"):
            listing = [{"rfilename": n, "path": n, "type": "file", "size": len(c), "oid": n} for n, c in FILES.items()]
            model = {"id": NAME, "sha": self.commit, "siblings": listing}
            self.send(200, json.dumps(listing if "/tree/" in path else model).encode())
        else:
            self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def file(self, content: bytes) -> None:
        self.send(200, content)

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None, kept_back: int = 0) -> None:
        self.send_response(status)
        tag = {"ETag": f'"{self.path.rpartition("/")[2]}{self.commit}"', "X-Repo-Commit": self.commit}
        for name, value in {"Content-Length": str(len(body)), **tag, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) - kept_back])

    def log_message(self, format: str, *args: object) -> None:
        pass


class Portal(Answers):
    """A page to log in, whatever is asked."""

    def do_GET(self) -> None:
        self.send(200, b"<html>Please log in</html>", {"Content-Type": "text/html"})

    do_HEAD = do_GET


class Circle(Answers):
    def do_GET(self) -> None:
        self.send(302, b"", {"Location": self.path})

    do_HEAD = do_GET


class Stalling(Answers):
    """The newest version stops arriving half-way."""

    commit = NEW

    def file(self, content: bytes) -> None:
        if self.command == "HEAD" or len(content) < 100:
            self.send(200, content)
        else:
            self.send(200, content, kept_back=500)
            type(self).ended.wait()
            self.wfile.write(content[-500:])


class Dripping(Answers):
    """A header now and then, so that no read takes long."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.flush_headers()
        while not type(self).ended.wait(0.05):
            self.wfile.write(b"X-Wait: 1\r\n")


class Broken(Answers):
    status = 503

    def do_GET(self) -> None:
        self.send(self.status, b"<html>Something went wrong</html>", {"Content-Type": "text/html"})

    do_HEAD = do_GET


class Gated(Answers):
    def do_GET(self) -> None:
        self.send(403, b"{}", {"X-Error-Code": "GatedRepo"})

    do_HEAD = do_GET


class NoRevision(Answers):
    def do_GET(self) -> None:
        self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})

    do_HEAD = do_GET


class Foreign(Answers):
    """JSON of some other service."""

    def do_GET(self) -> None:
        self.send(200, b'["no", "model"]')

    do_HEAD = do_GET


@contextmanager
def serving(kind: type[Answers]) -> Iterator[tuple[Hub, type[Answers]]]:
    handler = type("Heard", (kind,), {"heard": [], "ended": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield hub(f"http://127.0.0.1:{server.server_port}"), handler
    finally:
        handler.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def hub(endpoint: str, offline: bool = False) -> Hub:
    return Hub(endpoint, offline=offline, answer=0.5, pause=0.3)


@contextmanager
def silent() -> Iterator[Hub]:
    """Connections are taken, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield hub(f"http://127.0.0.1:{listening.getsockname()[1]}")


@pytest.fixture
def fetch(tmp_path: Path) -> Callable[..., Path]:
    def fetch(where: Hub, name: str = NAME, **source: object) -> Path:
        return download(ModelSource(name, cache_dir=tmp_path, **source), name, ["*"], where)  # type: ignore[arg-type]

    return fetch


@pytest.fixture
def cached(fetch: Callable[..., Path]) -> Path:
    """The folder of a model that was fetched before."""
    with serving(Answers) as (working, _):
        return fetch(working)


FAILURES = {
    "Portal": (Portal, "answers, but not as a hub does .* a portal wants you to log in"),
    "Circle": (Circle, "redirects in a circle"),
    "Stalling": (Stalling, r"brought nothing for 0\.3 s"),
    "Dripping": (Dripping, r"brought nothing for 0\.5 s"),
    "Broken": (Broken, r"fails \(503 Service Unavailable\)\. Try again later"),
    "Gated": (Gated, "It is gated: accept its terms"),
    "Foreign": (Foreign, "answers, but not as a hub does"),
}


@pytest.mark.parametrize(("kind", "reason"), FAILURES.values(), ids=FAILURES)
def test_a_failure_is_one_line_with_the_address_and_the_reason(
    kind: type[Answers], reason: str, fetch: Callable[..., Path]
) -> None:
    with serving(kind) as (where, _), pytest.raises(HubError, match=reason) as raised:
        fetch(where)
    said = str(raised.value)
    assert said.startswith(f"owner/reranker could not be fetched: {where.endpoint} ")
    assert "`hf download owner/reranker`" in said
    assert "\n" not in said


@pytest.mark.parametrize(("kind", "reason"), FAILURES.values(), ids=FAILURES)
def test_the_cache_is_used_instead_with_one_warning(
    kind: type[Answers], reason: str, fetch: Callable[..., Path], cached: Path
) -> None:
    with serving(kind) as (where, _), pytest.warns(UserWarning, match=f"hub's cache.*{reason}") as warned:
        assert fetch(where) == cached
    assert len(warned) == 1
    assert cached.name == OLD  # also where a newer version was half there
    assert (cached / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_silent_hub(fetch: Callable[..., Path]) -> None:
    with silent() as where, pytest.raises(HubError, match=r"does not answer|brought nothing"):
        fetch(where)


def test_a_silent_hub_with_everything_in_the_cache(fetch: Callable[..., Path], cached: Path) -> None:
    with silent() as where, pytest.warns(UserWarning, match="hub's cache") as warned:
        assert fetch(where) == cached
    assert len(warned) == 1


def test_a_commit_in_the_cache_is_not_asked_for(fetch: Callable[..., Path], cached: Path) -> None:
    with serving(Answers) as (where, server):
        assert fetch(where, revision=OLD) == cached
        assert server.heard == []


def test_what_does_not_exist_is_not_taken_from_the_cache(fetch: Callable[..., Path], cached: Path) -> None:
    with serving(NoRevision) as (where, _), pytest.raises(HubError, match="has no revision 'v9' of it"):
        fetch(where, revision="v9")
    with serving(Answers) as (where, _), pytest.raises(HubError, match=r"has no such model.*Check the name"):
        fetch(where, "owner/another")


def test_an_answer_of_nobody(fetch: Callable[..., Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(HubError, match=rf"http://127\.0\.0\.1:{port} cannot be reached"):
        fetch(hub(f"http://127.0.0.1:{port}"))


@pytest.mark.parametrize("options", [{"local_files_only": True}, {}])
def test_offline_is_not_unreachable(options: dict[str, bool], fetch: Callable[..., Path], tmp_path: Path) -> None:
    with serving(Answers) as (where, server):
        with pytest.raises(HubError, match=r"HF_HUB_OFFLINE|local_files_only") as raised:
            fetch(hub(where.endpoint, offline=not options), **options)
        assert "reached" not in str(raised.value)
        assert str(tmp_path) in str(raised.value)
        cached = fetch(where)
        server.heard.clear()
        assert fetch(hub(where.endpoint, offline=not options), **options) == cached
        assert server.heard == []


def test_a_part_in_the_cache_is_not_the_model(fetch: Callable[..., Path]) -> None:
    with serving(Stalling) as (where, _):
        with pytest.raises(HubError, match="brought nothing"):
            fetch(where)
        with pytest.raises(HubError, match="only a part of it"):
            fetch(hub(where.endpoint, offline=True))


STATUSES = {
    401: "wants a token, or another one (401 Unauthorized). Check token=, HF_TOKEN",
    403: "refuses it (403 Forbidden). Check whether the token may read it",
    404: "does not know such an address (404 Not Found). Check HF_ENDPOINT",
    407: "the proxy wants a password (407 Proxy Authentication Required). Check HTTP_PROXY",
    418: "refuses it (418 I'm a Teapot). Check HF_ENDPOINT",
    429: "has had too many requests (429 Too Many Requests). Wait some minutes",
    500: "fails (500 Internal Server Error). Try again later",
    520: "fails (520 a status of its own). Try again later",
}


@pytest.mark.parametrize(("status", "reason"), STATUSES.items())
def test_a_status_says_what_to_do(status: int, reason: str, fetch: Callable[..., Path]) -> None:
    """A mirror, a proxy or a firewall sends a status alone, without the hub's own codes."""
    with serving(type("Status", (Broken,), {"status": status})) as (where, _), pytest.raises(HubError) as raised:
        fetch(where)
    said = str(raised.value)
    assert reason in said
    assert ("token" in said) == (status in (401, 403, 429))


ENDPOINTS = [
    "hf-mirror.com", "//hf-mirror.com", "", "ftp://hf-mirror.com", "localhost:8080", "http://[::1",
    "https:/hf-mirror.com", "'https://hf-mirror.com'", "https://hf-mirror.com:99999", "https://",
]  # fmt: skip


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_what_is_no_address_is_shown_as_it_was_given(endpoint: str, fetch: Callable[..., Path]) -> None:
    with pytest.raises(HubError) as raised:
        fetch(hub(endpoint))
    wanted = f"HF_ENDPOINT={endpoint!r} is not an address: write one like https://hf-mirror.com, with its scheme"
    assert str(raised.value) == wanted


def test_a_password_in_what_is_no_address_is_not_shown(fetch: Callable[..., Path]) -> None:
    for endpoint in ("me:secret@hf-mirror.com", "https//me:secret@hf-mirror.com"):
        with pytest.raises(HubError, match=r"hf-mirror\.com' is not an address") as raised:
            fetch(hub(endpoint))
        assert "secret" not in str(raised.value)


def test_an_endpoint_from_the_environment_that_is_no_address() -> None:
    """Nothing of huggingface_hub's own complains first."""
    for endpoint in ("hf-mirror.com", "http://127.0.0.1:99999"):
        code = "from bge_rerank_integrations import load_scorer; load_scorer('owner/reranker')"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "HF_ENDPOINT": endpoint}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert f"HubError: HF_ENDPOINT={endpoint!r} is not an address" in done.stderr.splitlines()[-1]
        assert "Error importing" not in done.stderr


def test_the_environment_says_where_to_ask_and_how_long_to_wait() -> None:
    """In a process of its own, because huggingface_hub reads it when it is imported."""
    wanted = {
        "HF_ENDPOINT": "https://hf-mirror.com/",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_ETAG_TIMEOUT": "3",
        "HF_HUB_DOWNLOAD_TIMEOUT": "4",
    }
    code = "from bge_rerank_integrations.model.download import Hub; print(Hub.of_environment())"
    said = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **wanted}, capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == str(Hub("https://hf-mirror.com", offline=True, answer=3, pause=24))


def test_a_proxy_is_named_and_credentials_are_not(fetch: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with serving(Broken) as (where, _), pytest.raises(HubError) as raised:
        fetch(hub(where.endpoint.replace("http://", "http://you:hidden@")))
    said = str(raised.value)
    assert f"{where.endpoint} (through the proxy 127.0.0.1:9)" in said
    assert "secret" not in said
    assert "hidden" not in said


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    source = ModelSource(NAME, cache_dir=tmp_path / "file")
    with serving(Answers) as (where, _), pytest.raises(HubError, match="could not be kept"):
        download(source, NAME, ["*"], where)


@pytest.mark.parametrize(("token", "sent"), [("hf_mine", {"Bearer hf_mine"}), (False, {None})])
def test_the_token_is_sent(
    token: str | bool, sent: set[str | None], fetch: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_environment")
    with serving(Answers) as (where, server):
        fetch(where, token=token)
        assert {header for _, header in server.heard} == sent


def test_a_name_that_is_none(fetch: Callable[..., Path]) -> None:
    for where in (hub("http://127.0.0.1:9"), hub("http://127.0.0.1:9", offline=True)):
        with pytest.raises(CheckpointError, match="not a hub id"):
            fetch(where, "owner/bad name")
