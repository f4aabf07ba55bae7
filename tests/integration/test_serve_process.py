"""`bge-rerank serve` as a process: how it starts, what it says, and how a signal ends it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

LONG = 120.0
"""Seconds: more than anything here takes."""
KEY = "a-key-that-no-log-may-show"
MANY = [f"{i} " + "word " * 60 for i in range(10_000)]
FEW = MANY[:300]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "bge_rerank_integrations", "serve", *words]


@contextmanager
def started(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and its address."""
    process = subprocess.Popen(
        command(*words, "--port", "0"),
        env=os.environ | {"BGE_RERANK_API_KEY": KEY, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().split()[2]
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def wait_until_ready(url: str) -> None:
    while httpx.get(f"{url}/health", timeout=LONG).status_code != 200:
        pass


def wait_until_asked(url: str) -> None:
    """Until a request to /rerank has come; it may be answered by then."""
    headers = {"Authorization": f"Bearer {KEY}"}
    while True:
        metrics = httpx.get(f"{url}/metrics", headers=headers, timeout=LONG).text
        if "requests_under_way 2.0" in metrics or 'http_requests_total{path="/rerank"' in metrics:
            return


@pytest.mark.parametrize(
    ("grace", "texts", "status"), [("60", FEW, 200), ("0", MANY, 503)], ids=["finishes", "refuses"]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_every_request_gets_an_answer(
    grace: str, texts: list[str], status: int, number: signal.Signals
) -> None:
    with started("demo", "--grace", grace, "--timeout", "600") as (process, url), ThreadPoolExecutor(1) as pool:
        wait_until_ready(url)
        headers = {"Authorization": f"Bearer {KEY}"}
        asked = pool.submit(
            httpx.post, f"{url}/rerank", json={"query": "secret", "texts": texts}, headers=headers, timeout=LONG
        )
        wait_until_asked(url)
        process.send_signal(number)
        answered = asked.result(LONG)
        assert answered.status_code == status
        assert process.wait(LONG) == 0
        output, errors = process.communicate()
        assert KEY not in output + errors
        assert "secret" not in output + errors
        assert f"POST /rerank {status}, texts {len(texts)}" in errors
        assert "Traceback" not in errors


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            command("demo", "--port", port), capture_output=True, text=True, timeout=LONG, check=False
        )
    assert done.returncode == 1
    assert done.stdout == ""
    said = " ".join(done.stderr.split())
    assert said.startswith(
        f"Error: cannot listen on port {port} of 127.0.0.1 (Address already in use): use another port"
    )
    assert "Traceback" not in said


def test_a_model_that_cannot_be_loaded_ends_it() -> None:
    done = subprocess.run(
        command("demo", "/no/such/folder", "--port", "0"), capture_output=True, text=True, timeout=LONG, check=False
    )
    assert done.returncode == 1
    assert "Error: " in done.stderr
    assert "/no/such/folder" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("demo", "demo"), "two models are called 'demo'"),
        (("=demo",), "give MODEL or NAME=MODEL"),
        (("demo", "--api-key", " "), "the API key is empty"),
        (("demo", "--max-texts", "0"), "max_texts=0: use a whole number of 1 or more"),
        (("demo", "--host", "no.such.host.invalid"), "cannot listen on port 8080 of no.such.host.invalid"),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], said: str) -> None:
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 1
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_beyond_this_machine_it_warns() -> None:
    with started("demo", "--host", "0.0.0.0") as (process, _):
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Beware: on 0.0.0.0, whoever has the key can reach it")


def test_several_models_by_name() -> None:
    with started("one=demo", "two=demo-layerwise", "demo-lightweight", "--no-access-log") as (process, url):
        wait_until_ready(url)
        headers = {"Authorization": f"Bearer {KEY}"}
        found = httpx.get(f"{url}/v1/models", headers=headers).json()["data"]
        assert [one["id"] for one in found] == ["one", "two", "demo-lightweight"]
        body = {"model": "two", "query": "q", "texts": ["a", "b"], "cutoff_layer": 4}
        assert len(json.loads(httpx.post(f"{url}/rerank", json=body, headers=headers).content)) == 2
        process.terminate()
        _, errors = process.communicate(timeout=LONG)
        assert "POST /rerank" not in errors
