"""The server where something goes wrong: models that load or are closed, full queues, clients that leave."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.errors import (
    CheckpointError,
    ClosedError,
    OptionError,
    OutOfMemory,
    QueueFull,
    ScoreError,
    Timeout,
)
from bge_rerank_integrations.options import ScoringOptions
from bge_rerank_integrations.protocol import Pair
from bge_rerank_integrations.ranking import Ranked
from bge_rerank_integrations.serve import ServerSettings, create_app
from tests.server import serving

BODY = {"query": "q", "texts": ["a", "b"]}
LONG = 60.0
"""Seconds: more than anything here takes."""


class Other:
    """A scorer of the protocol and nothing beyond it; `arank` does what a subclass says."""

    options = ScoringOptions()

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(len(text)) for text in texts]

    def score_pairs(self, pairs: Any) -> list[float]:
        return [float(len(text)) for _, text in pairs]

    def rank(self, query: str, texts: Sequence[str], top_n: Any = None, score_threshold: Any = None) -> list[Ranked]:
        ranked = [Ranked(index, score) for index, score in enumerate(self.score(query, texts))]
        return sorted(ranked, key=lambda one: -one.score)[:top_n]

    async def ascore(self, query: str, texts: Sequence[str]) -> list[float]:
        return self.score(query, texts)

    async def ascore_pairs(self, pairs: Sequence[Pair]) -> list[float]:
        return self.score_pairs(pairs)

    async def arank(self, query: str, texts: Sequence[str], top_n: Any = None, threshold: Any = None) -> list[Ranked]:
        return self.rank(query, texts, top_n)

    def close(self) -> None:
        pass


class Failing(Other):
    """Raises instead of scoring."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def arank(self, query: str, texts: Sequence[str], top_n: Any = None, threshold: Any = None) -> list[Ranked]:
        raise self.error


class Waiting(Other):
    """Tells when a request has come and when it was given up, and answers none."""

    def __init__(self) -> None:
        self.came = threading.Semaphore(0)
        self.given_up = threading.Semaphore(0)

    async def arank(self, query: str, texts: Sequence[str], top_n: Any = None, threshold: Any = None) -> list[Ranked]:
        self.came.release()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.given_up.release()
        raise AssertionError


def test_any_scorer_of_the_protocol_is_served() -> None:
    with serving(create_app({"m": Other()})) as url:
        body = {"query": "q", "texts": ["a", "ccc", "bb"]}
        raw = httpx.post(f"{url}/rerank", json=body | {"raw_scores": True}).json()
        assert raw == [{"index": 1, "score": 3.0}, {"index": 2, "score": 2.0}, {"index": 0, "score": 1.0}]
        squashed = httpx.post(f"{url}/rerank", json=body).json()
        assert [one["score"] for one in squashed] == pytest.approx([0.952574, 0.880797, 0.731059], abs=1e-6)
        refused = httpx.post(f"{url}/rerank", json=body | {"cutoff_layer": 3})
        assert refused.status_code == 400
        assert "takes no options" in refused.json()["error"]
        assert "bge_rerank_pairs" in httpx.get(f"{url}/metrics").text


def test_raw_scores_that_a_scorer_does_not_have() -> None:
    scorer = Other()
    scorer.options = ScoringOptions(scale="sigmoid")
    with serving(create_app({"m": scorer})) as url:
        refused = httpx.post(f"{url}/rerank", json=BODY | {"raw_scores": True})
        assert refused.status_code == 400
        assert "between 0 and 1 only" in refused.json()["error"]
        assert httpx.post(f"{url}/rerank", json=BODY).status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (QueueFull("queue full: so many"), 429, "queue full"),
        (Timeout("not scored within 3 s"), 504, "not scored within 3 s"),
        (ClosedError("this scorer was closed"), 503, "closed"),
        (OptionError("prompt: not so"), 400, "prompt: not so"),
        (OutOfMemory("secret details"), 500, "send shorter ones"),
        (ScoreError("secret details"), 500, "ScoreError"),
        (CheckpointError("/secret/path is gone"), 500, "CheckpointError"),
        (RuntimeError("secret details"), 500, "internal error"),
    ],
)
def test_errors_become_answers(error: Exception, status: int, said: str, caplog: pytest.LogCaptureFixture) -> None:
    with serving(create_app({"m": Failing(error)})) as url:
        answered = httpx.post(f"{url}/rerank", json=BODY)
        assert answered.status_code == status
        assert said in answered.json()["error"]
        assert "secret" not in answered.text
        if status in (429, 503):
            assert int(answered.headers["Retry-After"]) >= 1
    if status == 500:
        assert str(error) in caplog.text, "the log has what the client is not told"


def test_health_tells_loading_from_ready_from_closed(encoder: Scorer) -> None:
    go = threading.Event()
    made: list[Scorer] = []

    def load() -> Scorer:
        go.wait(LONG)
        made.append(load_scorer("demo"))
        return made[0]

    with serving(create_app({"encoder": encoder, "late": load})) as url:
        answered = httpx.get(f"{url}/health")
        assert answered.status_code == 503
        assert answered.json() == {"status": "loading", "models": {"encoder": "ready", "late": "loading"}}
        assert httpx.post(f"{url}/rerank", json=BODY).status_code == 200, "the others score"
        refused = httpx.post(f"{url}/rerank", json=BODY | {"model": "late"})
        assert refused.status_code == 503
        assert refused.json()["error"] == "model 'late' is loading"
        assert refused.headers["Retry-After"]
        go.set()
        while httpx.get(f"{url}/health").json()["status"] == "loading":
            pass
        assert httpx.get(f"{url}/health").status_code == 200
        assert httpx.post(f"{url}/rerank", json=BODY | {"model": "late"}).status_code == 200
        made[0].close()
        answered = httpx.get(f"{url}/health")
        assert answered.status_code == 503
        assert answered.json()["status"] == "closed"
        assert httpx.post(f"{url}/rerank", json=BODY | {"model": "late"}).status_code == 503
    assert not encoder.closed, "it is its owner's"


def test_what_was_loaded_is_closed_at_the_end() -> None:
    made: list[Scorer] = []

    def load() -> Scorer:
        made.append(load_scorer("demo"))
        return made[0]

    with serving(create_app({"m": load})) as url:
        while httpx.get(f"{url}/health").status_code != 200:
            pass
        assert not made[0].closed
    assert made[0].closed


def test_a_model_that_cannot_be_loaded(caplog: pytest.LogCaptureFixture) -> None:
    with serving(create_app({"m": lambda: load_scorer("/no/such/folder")})) as url:
        while (answered := httpx.get(f"{url}/health")).json()["status"] == "loading":
            pass
        assert answered.status_code == 503
        assert answered.json()["status"] == "failed"
    assert "/no/such/folder" in caplog.text


def test_what_is_no_model() -> None:
    with pytest.raises(OptionError, match="give at least one"):
        create_app({})
    with pytest.raises(TypeError, match=r"model 'm' is 3 of type int, without options, score.*a function"):
        create_app({"m": 3})  # type: ignore[dict-item]


def test_a_client_that_leaves_ends_its_work() -> None:
    scorer = Waiting()
    with serving(create_app({"m": scorer})) as url:
        with httpx.Client() as client, ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.post, f"{url}/rerank", json=BODY, timeout=httpx.Timeout(LONG, read=0.2))
            assert scorer.came.acquire(timeout=LONG)
            with pytest.raises(httpx.ReadTimeout):
                asked.result(LONG)
        assert scorer.given_up.acquire(timeout=LONG)


def test_a_client_that_leaves_frees_the_queue() -> None:
    """Against a scorer of ours: what it had queued waits no more, and others are answered."""
    words = [f"{i} " + "word " * 60 for i in range(10_000)]
    with load_scorer("demo") as scorer, serving(create_app({"m": scorer})) as url:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/rerank", json={"query": "q", "texts": words}, timeout=httpx.Timeout(LONG, read=0.5))
        assert httpx.post(f"{url}/rerank", json=BODY, timeout=LONG).status_code == 200
        while scorer.stats().queued_tokens:
            pass
        assert (
            scorer.stats().pairs < len(words) + len(BODY["texts"]) or scorer.stats().batches < len(words) * 60 // 2048
        )


def test_too_many_requests_at_a_time() -> None:
    scorer = Waiting()
    with serving(create_app({"m": scorer}, ServerSettings(max_requests=2))) as url, ThreadPoolExecutor(2) as pool:
        clients = [httpx.Client() for _ in range(2)]
        timeout = httpx.Timeout(LONG, read=1)
        asked = [pool.submit(client.post, f"{url}/rerank", json=BODY, timeout=timeout) for client in clients]
        for _ in asked:
            assert scorer.came.acquire(timeout=LONG)
        refused = httpx.post(f"{url}/rerank", json=BODY)
        assert refused.status_code == 429
        assert refused.json()["error_type"] == "Overloaded"
        assert int(refused.headers["Retry-After"]) >= 1
        assert httpx.get(f"{url}/health").status_code == 200, "probes are answered all the same"
        for one in asked:
            with pytest.raises(httpx.ReadTimeout):
                one.result(LONG)
            assert scorer.given_up.acquire(timeout=LONG)
        for client in clients:
            client.close()


@pytest.mark.parametrize("seconds", [1])
def test_a_body_that_does_not_arrive(encoder: Scorer, seconds: int) -> None:
    with serving(create_app({"m": encoder}, ServerSettings(max_body_seconds=seconds))) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=LONG) as connection:
            connection.sendall(b"POST /rerank HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            assert connection.makefile("rb").readline().split()[1] == b"408"


def test_a_full_queue_of_our_own_scorer() -> None:
    """A request that waits for room longer than the timeout is 429 or, once inside, 504; and nothing is lost."""
    texts = [f"{i} " + "word " * 60 for i in range(1_000)]
    with (
        load_scorer("demo", max_queued_tokens=5_000, timeout=0.2) as scorer,
        serving(create_app({"m": scorer})) as url,
        ThreadPoolExecutor(8) as pool,
    ):
        body = {"query": "q", "texts": texts}
        statuses = list(pool.map(lambda _: httpx.post(f"{url}/rerank", json=body, timeout=LONG).status_code, range(8)))
    assert set(statuses) <= {200, 429, 504}
    assert set(statuses) & {429, 504}
