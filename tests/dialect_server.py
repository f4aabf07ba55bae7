"""Servers in threads of this process, each of which speaks a dialect as its engine does, and fails as it is told."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bge_rerank_integrations.remote.dialects import DIALECTS


def logit(query: str, text: str) -> float:
    """What the servers score: any number that follows from both."""
    return (len(text.strip()) * 7 + len(query)) % 11 - 5.0


def mapped(value: float) -> float:
    return 1 / (1 + 2.718281828459045**-value)


Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Server:
    """A server in a thread. `faults` are given as answers first, one a request; then it speaks the dialect."""

    dialect: str
    faults: list[Reply | str] = field(default_factory=list)
    change: Callable[[Any], Any] = lambda answer: answer
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    model: str = "a-model"
    path: str = ""
    """Where it answers; by default as its dialect has it."""
    url: str = ""

    def __post_init__(self) -> None:
        self.path = self.path or DIALECTS[self.dialect].path

    @property
    def texts(self) -> str:
        """What its requests call the texts."""
        return "texts" if self.dialect in ("tei", "bge-rerank") else "documents"

    def answer(self, body: dict[str, Any]) -> Any:
        texts = body[self.texts]
        raw = body.get("raw_scores", not body.get("use_activation", self.dialect not in ("sglang", "llamacpp", "vllm")))
        if self.dialect in ("sglang", "llamacpp"):
            raw = True
        if self.dialect in ("cohere", "jina", "voyage", "litellm"):
            raw = False
        if self.dialect == "xinference":
            raw = True
        scores = [logit(body["query"], text) if raw else mapped(logit(body["query"], text)) for text in texts]
        key = DIALECTS[self.dialect].score
        results = [{"index": index, key: score} for index, score in enumerate(scores)]
        results.sort(key=lambda one: -one[key])  # as real ones answer
        holder = DIALECTS[self.dialect].results
        key_of_its_own, (beginning, *_) = DIALECTS[self.dialect].signature or ("id", ("",))
        told = {key_of_its_own: beginning, "model": self.model}
        return self.change(results if holder is None else {**told, holder: results})


@contextmanager
def speaking(dialect: str, **options: Any) -> Iterator[Server]:
    """One that listens. `options` are the fields of `Server`."""
    server = Server(dialect, **options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.asked.append(body)
            server.headers.append(dict(self.headers))
            reply = server.faults.pop(0) if server.faults else None
            if self.path != server.path:
                reply = (404, {}, b"no such page")
            if reply == "reset":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.connection.close()
                self.close_connection = True
                return
            if reply == "cut off":
                reply = (200, {"Content-Length": "1000"}, b'[{"index"')
                self.close_connection = True
            if isinstance(reply, tuple):
                status, headers, content = reply
            elif server.texts not in body:
                status, headers, content = 422, {}, f"missing field {server.texts}".encode()
            else:
                status, headers, content = 200, {}, json.dumps(server.answer(body)).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            """As vLLM and others sign the list of their models; TEI has another page."""
            listed = {"data": [{"id": server.model, "owned_by": dialect}]}
            pages = {"/info": {"max_client_batch_size": 32}} if dialect == "tei" else {"/v1/models": listed}
            content = json.dumps(pages.get(self.path)).encode()
            self.send_response(200 if self.path in pages else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{http.server_port}"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
