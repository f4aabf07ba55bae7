"""What users get wrong about a server: each is one error, told within the deadline, that says what to do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.errors import OptionError, RemoteError, Timeout
from bge_rerank_integrations.langchain import BGERerank
from bge_rerank_integrations.remote import transport
from bge_rerank_integrations.remote.dialects import DIALECTS
from bge_rerank_integrations.remote.scorer import RemoteScorer
from bge_rerank_integrations.serve import ServerSettings, create_app
from tests.dialect_server import speaking
from tests.server import serving

CERTIFICATE = Path(__file__).parents[1] / "certificates" / "self-signed.pem"
"""For 127.0.0.1, signed by itself, with its key."""
KEY = "key-of-the-server"


def scorer_of(url: str, dialect: str, **options: Any) -> RemoteScorer:
    entry = DIALECTS[dialect]
    given = {"scale": entry.scales[0], "served_model": "a-model" if entry.needs_model else None} | options
    return RemoteScorer(url, dialect=dialect, **given)


def told(url: str, dialect: str, **options: Any) -> str:
    """What scoring by it fails with."""
    with scorer_of(url, dialect, **options) as scorer, pytest.raises(RemoteError) as caught:
        scorer.score("q", ["a", "b"])
    return str(caught.value)


# --- the address ------------------------------------------------------------------------------------------------------


def test_nobody_listens_and_the_deadline_comes_first(unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    with (
        scorer_of(url, "tei", timeout=0.3) as scorer,
        pytest.raises(Timeout, match=r"within 0\.3 s\. Last: .*/rerank cannot be reached: Connection refused"),
    ):
        scorer.score("q", ["a"])


def test_a_host_that_does_not_answer() -> None:
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # as many as it lets wait, and more: the next packets are dropped
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        with (
            scorer_of(f"http://127.0.0.1:{full.getsockname()[1]}", "tei", timeout=0.5) as scorer,
            pytest.raises(Timeout, match=r"within 0\.5 s\. Last: .* cannot be reached: it does not answer"),
        ):
            scorer.score("q", ["a"])


def test_a_host_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "WAIT", lambda state: 0.0)
    said = told("http://no.such.host.invalid:8080", "tei")
    assert said.startswith("http://no.such.host.invalid:8080/rerank cannot be reached: ")
    assert "attempts" not in said


@pytest.mark.parametrize(
    ("url", "dialect", "said"),
    [
        ("http://127.0.0.1:1/rerank", "tei", "leave out '/rerank'"),
        ("http://127.0.0.1:1/v1", "vllm", "leave out '/v1'"),
        ("http://127.0.0.1:1/v1/rerank/", "vllm", "leave out '/v1/rerank'"),
        ("http://127.0.0.1:1/behind/a/proxy/v2/rerank", "cohere", "leave out '/behind/a/proxy/v2/rerank'"),
        ("http://user:secret@127.0.0.1:1", "tei", "the key as api_key="),
        ("http://user:secret@127.0.0.1:port", "tei", "the key as api_key="),
        ("http://127.0.0.1:1?key=secret", "tei", "the key as api_key="),
        ("ftp://127.0.0.1:1", "tei", "begins with http"),
        ("http://", "tei", "give it as http://HOST or http://HOST:PORT"),
        ("http://:8080", "tei", "give it as"),
        ("http://127.0.0.1:99999", "tei", "give it as"),
        ("http://127.0.0.1:port", "tei", "give it as"),
        ("http://[::1", "tei", "give it as"),
        ("http://a host", "tei", "give it as"),
    ],
)
def test_an_address_that_cannot_be(url: str, dialect: str, said: str) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        scorer_of(url, dialect)
    assert "secret" not in str(caught.value)
    assert repr(scorer_of("http://127.0.0.1:1/behind/a/proxy/", dialect)).startswith("RemoteScorer(")


# --- the dialect ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoken", "asked"),
    [
        (spoken, asked)
        for asked in ("tei", "vllm", "infinity", "llamacpp", "cohere")
        for spoken in ("tei", "vllm", "infinity", "sglang", "llamacpp", "xinference")
        if asked != spoken and (spoken, asked) != ("llamacpp", "tei")  # it speaks both
    ],
)
def test_a_wrong_dialect_names_the_right_one(spoken: str, asked: str) -> None:
    with speaking(spoken) as server:
        assert f"it looks like dialect {spoken}" in told(server.url, asked)


@pytest.mark.parametrize("asked", ["vllm", "infinity", "voyage", "sglang", "llamacpp"])
def test_this_package_s_own_server_is_recognised(encoder: Scorer, asked: str) -> None:
    with serving(create_app({"a-model": encoder})) as url:
        assert "it looks like dialect bge-rerank" in told(url, asked)


def test_an_engine_that_knows_no_raw_scores_is_not_taken_for_infinity() -> None:
    """vLLM has Infinity's path and fields, passes over `raw_scores`, and would answer a sigmoid for a logit."""
    with speaking("vllm", path="/rerank") as server:
        assert "it looks like dialect vllm" in told(server.url, "infinity")


# --- key and model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, "another-key"])
def test_a_wrong_key(encoder: Scorer, given: str | None) -> None:
    with serving(create_app({"demo": encoder}, ServerSettings(api_key=KEY))) as url:
        said = told(url, "tei", api_key=given)
        assert "401: check api_key" in said
        assert "another-key" not in said
        with scorer_of(url, "tei", api_key=KEY) as scorer:
            assert len(scorer.score("q", ["a", "b"])) == 2


@pytest.mark.parametrize("given", ["line break\n", "", " ", "ключ", 1])
def test_a_key_that_no_header_carries(given: Any) -> None:
    for make in (
        lambda: scorer_of("http://127.0.0.1:1", "tei", api_key=given),
        lambda: load_scorer("http://127.0.0.1:1", dialect="tei", api_key=given),
        lambda: BGERerank(model="http://127.0.0.1:1", dialect="tei", api_key=given).rerank("q", ["a"]),
    ):
        with pytest.raises(OptionError, match="api_key") as caught:
            make()
        assert "break" not in str(caught.value)


@pytest.mark.parametrize("given", [0, -1, "soon"])
def test_a_deadline_that_cannot_be(given: Any) -> None:
    with pytest.raises(OptionError, match=f"timeout={given!r}"):
        scorer_of("http://127.0.0.1:1", "tei", timeout=given)


def test_a_model_that_the_server_does_not_have(encoder: Scorer) -> None:
    with serving(create_app({"one": encoder, "two": encoder})) as url:
        for dialect in ("bge-rerank", "cohere", "jina"):
            said = told(url, dialect, served_model="three", scale="sigmoid")
            assert "404" in said
            assert "model='three' is not here: use one of 'one', 'two'" in said
    with speaking("infinity", model="one") as server:
        assert "scored with model 'one', not 'three': check served_model" in told(
            server.url, "infinity", served_model="three"
        )
    with pytest.raises(OptionError, match="served_model='three': a server of dialect 'tei' has one model"):
        scorer_of("http://127.0.0.1:1", "tei", served_model="three")


# --- what stands between ----------------------------------------------------------------------------------------------

PAGE = b"<html><body>Please log in</body></html>"


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (200, {}, "a web page, which is not JSON: check the address, and whether a proxy"),
        (403, {}, "403: check api_key"),
        (404, {}, "404: check the address"),
        (407, {}, "407: "),
        (502, {}, "502: the server is in trouble"),
        (302, {"Location": "https://portal.example/login"}, "sends to https://portal.example/login"),
    ],
)
def test_a_page_of_a_proxy(status: int, headers: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "WAIT", lambda state: 0.0)
    page = (status, {"Content-Type": "text/html", **headers}, PAGE)
    with speaking("tei", faults=[page] * 10) as server:
        found = told(server.url, "tei")
    assert said in found
    assert "<" not in found


# --- certificates -----------------------------------------------------------------------------------------------------


class Scores(BaseHTTPRequestHandler):
    """TEI's answer to two texts."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        content = b'[{"index": 0, "score": 1.0}, {"index": 1, "score": 2.0}]'
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class TLSServer(HTTPServer):
    """One that is not upset by clients that break off."""

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture
def with_tls() -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    server = TLSServer(("127.0.0.1", 0), Scores)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_certificate_that_is_not_valid_is_told_at_once(with_tls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "WAIT", lambda state: pytest.fail("it is not asked again"))
    said = told(with_tls, "tei")
    assert "its certificate is not valid here (self" in said
    assert "SSL_CERT_FILE" in said


def test_an_authority_of_one_s_own(with_tls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with scorer_of(with_tls, "tei") as scorer:
        assert scorer.score("q", ["a", "b"]) == [1.0, 2.0]


def test_https_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "WAIT", lambda state: pytest.fail("it is not asked again"))
    with speaking("tei") as server:
        assert "its address begins with http://" in told(server.url.replace("http:", "https:"), "tei")
