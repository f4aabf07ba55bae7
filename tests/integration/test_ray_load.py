"""Ray Serve while things change: replicas come and go, models take turns, too much is asked; no answer is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

pytest.importorskip("ray")

from ray import serve

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.ray import serve_app
from tests.conftest import CHECKPOINTS, pairs
from tests.ray_serve import LONG, running, serving, wait_until, with_options

QUERY = pairs("france")[0][0]
TEXTS = [text for _, text in pairs("france")]
MANY = [f"{number}: {text}" for number in range(200) for text in TEXTS]
"""Enough for a request to take some time."""
QUICK = {"graceful_shutdown_wait_loop_s": 0.1}
"""Options of a deployment: a replica that goes looks more often than every two seconds whether it may."""
ENCODER = str(CHECKPOINTS / "encoder")
LAYERWISE = str(CHECKPOINTS / "layerwise")
HEADER = "serve-multiplexed-model-id"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Ray that puts as many replicas as are asked for onto this machine."""
    with serving(cpus=8) as address:
        yield address


@pytest.fixture(scope="module")
def here() -> Iterator[dict[str, list[float]]]:
    """What each model gives in this process."""
    with load_scorer(ENCODER) as encoder, load_scorer(LAYERWISE) as layerwise:
        yield {
            "encoder": encoder.score(QUERY, TEXTS),
            "layerwise": layerwise.score(QUERY, TEXTS),
            "many": encoder.score(QUERY, MANY),
        }


@contextmanager
def deployed(address: str, name: str, application: Any) -> Iterator[str]:
    """The address of an application of its own."""
    serve.run(application, name=name, route_prefix=f"/{name}")
    try:
        yield f"{address}/{name}"
    finally:
        serve.delete(name)


@contextmanager
def asking(clients: int, url: str, texts: list[str], expected: list[float]) -> Iterator[list[int]]:
    """So many clients, each of which asks again as soon as it has an answer; every answer has to be right.

    Yields the number of answers so far of each client.
    """
    answers = [0] * clients
    stop = threading.Event()

    def ask(client: int) -> None:
        while not stop.is_set():
            check(post(url, texts=texts), expected)
            answers[client] += 1

    with ThreadPoolExecutor(clients) as threads:
        running = [threads.submit(ask, client) for client in range(clients)]
        try:
            yield answers
        finally:
            stop.set()
        for one in running:
            one.result(LONG)


def post(url: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{url}/rerank", json={"query": QUERY, "texts": TEXTS, "raw_scores": True} | body, timeout=LONG)


def check(answer: httpx.Response, expected: list[float]) -> None:
    assert answer.status_code == 200, answer.text
    scores = {one["index"]: one["score"] for one in answer.json()}
    assert [scores[index] for index in range(len(expected))] == pytest.approx(expected, abs=1e-5)


@pytest.mark.filterwarnings("ignore:The `metrics_interval_s`:DeprecationWarning")  # what Ray tells to use has no effect
def test_replicas_come_with_the_load_and_go_with_it(address: str, here: dict[str, list[float]]) -> None:
    scaling = {
        "min_replicas": 1,
        "max_replicas": 2,
        "target_ongoing_requests": 2,
        "upscale_delay_s": 0.5,
        "downscale_delay_s": 0.5,
        "look_back_period_s": 1,
        "metrics_interval_s": 0.2,
    }
    application = with_options(serve_app({"encoder": ENCODER}), autoscaling_config=scaling, **QUICK)
    with deployed(address, "scaled", application) as url, asking(1, url, TEXTS, here["encoder"]) as always:
        assert running("scaled") == 1
        with asking(6, url, MANY, here["many"]):
            wait_until(lambda: running("scaled") == 2, "a second replica")
        wait_until(lambda: running("scaled") == 1, "one replica")
        before = always[0]
        wait_until(lambda: always[0] > before + 5, "answers of the replica that stays")


def test_a_new_version_and_an_end_lose_no_request(address: str, here: dict[str, list[float]]) -> None:
    before, after = (
        with_options(serve_app(models), **QUICK)
        for models in ({"encoder": ENCODER}, {"encoder": ENCODER, "layerwise": LAYERWISE})
    )
    with deployed(address, "renewed", before) as url:
        with asking(4, url, TEXTS, here["encoder"]) as answers:
            serve.run(after, name="renewed", route_prefix="/renewed")
            so_far = sum(answers)
            wait_until(lambda: sum(answers) > so_far + 20, "answers of the new version")
        check(post(url, model="layerwise"), here["layerwise"])
        with ThreadPoolExecutor(4) as threads:
            held: list[Future[httpx.Response]] = [threads.submit(post, url, texts=MANY) for _ in range(4)]
            wait_until(lambda: under_way(url) >= 4, "four requests under way")
            serve.delete("renewed")
            for one in held:
                check(one.result(LONG), here["many"])
    assert post(url).status_code == 404


def under_way(url: str) -> float:
    """Requests that the replica has, besides this one."""
    lines = httpx.get(f"{url}/metrics", timeout=LONG).text.splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith("bge_rerank_http_requests_under_way "))
    return float(value) - 1


def test_too_many_requests_are_told_when_to_come_again(address: str, here: dict[str, list[float]]) -> None:
    application = with_options(serve_app({"encoder": ENCODER}), max_ongoing_requests=1, max_queued_requests=1, **QUICK)
    with deployed(address, "full", application) as url, ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: post(url, texts=MANY), range(6)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert {answer.headers["Retry-After"] for answer in refused} == {"1"}
        assert {answer.status_code for answer in answers} == {200, 429}
        with load_scorer(url, dialect="tei", concurrency=8) as tei, load_scorer(url, dialect="bge-rerank") as own:
            for scorer in (tei, own):
                for scores in threads.map(lambda _, one=scorer: one.score(QUERY, TEXTS), range(6)):
                    assert scores == pytest.approx(here["encoder"], abs=1e-5)


def test_more_models_than_a_replica_has_room_for(address: str, here: dict[str, list[float]]) -> None:
    models = {"encoder": ENCODER, "layerwise": LAYERWISE}
    application = with_options(serve_app(models, models_per_replica=1, min_replicas=2, max_replicas=2), **QUICK)
    with deployed(address, "several", application) as url:

        def states(name: str) -> dict[str, str]:
            """Of a replica that has a model, by what Ray knows."""
            answer = httpx.get(f"{url}/health", headers={HEADER: name}, timeout=LONG)
            assert answer.status_code == 200
            found: dict[str, str] = answer.json()["models"]
            return found

        def own(name: str) -> Scorer:
            return load_scorer(url, dialect="bge-rerank", served_model=name)

        assert states("encoder") == {"encoder": "ready", "layerwise": "unloaded"}
        with own("encoder") as encoder, own("layerwise") as layerwise:
            assert layerwise.score(QUERY, TEXTS) == pytest.approx(here["layerwise"], abs=1e-5)
            apart = {"encoder": "ready", "layerwise": "unloaded"}, {"encoder": "unloaded", "layerwise": "ready"}
            wait_until(lambda: (states("encoder"), states("layerwise")) == apart, "that Ray knows where each is")
            for _ in range(5):  # each comes to the replica that has its model, so none is loaded again
                assert encoder.score(QUERY, TEXTS) == pytest.approx(here["encoder"], abs=1e-5)
                assert layerwise.score(QUERY, TEXTS) == pytest.approx(here["layerwise"], abs=1e-5)
                assert (states("encoder"), states("layerwise")) == apart
        with ThreadPoolExecutor(8) as threads:  # without the header, models take turns in each replica
            names = ["encoder", "layerwise"] * 10
            for name, answer in zip(names, threads.map(lambda name: post(url, model=name), names), strict=True):
                check(answer, here[name])
