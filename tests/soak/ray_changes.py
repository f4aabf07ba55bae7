"""Ray Serve under load while replicas come and go, versions change and models take turns; every answer is checked.

    python -m tests.soak.ray_changes --rounds 5

Two models, of which a replica holds one at a time. In each round, clients make Ray add a replica; most of them stop,
until Ray has removed it; then a new version is deployed. At the end, the application is deleted while it holds
requests. Plain clients count each status. Remote scorers have to get every score. Exit status 1 if an answer is missing
or wrong, or is refused with another status than 429 or 503.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
from ray import serve

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.errors import RerankError
from bge_rerank_integrations.ray import serve_app
from tests.ray_serve import LONG, running, serving, wait_until, with_options

MODELS = ("demo", "demo-layerwise")
NAME = "changes"
QUERY = "how do I sort a dictionary by its values?"
TEXTS = [f"Step {number}: lists of {number} numbers are sorted in place by their method sort." for number in range(40)]
REFUSED = (429, 503)
SCALING = {
    "min_replicas": 1,
    "max_replicas": 2,
    "target_ongoing_requests": 3,
    "upscale_delay_s": 1,
    "downscale_delay_s": 1,
    "look_back_period_s": 2,
    "metrics_interval_s": 0.5,
}


class Tally:
    """What came back. Any number of threads may use it."""

    def __init__(self, expected: dict[str, list[float]]) -> None:
        self._expected = expected
        self._lock = threading.Lock()
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []

    def plain(self, url: str, model: str) -> None:
        """One request, whatever its end."""
        body = {"model": model, "query": QUERY, "texts": TEXTS, "raw_scores": True}
        try:
            answer = httpx.post(f"{url}/rerank", json=body, timeout=LONG)
        except httpx.HTTPError as error:
            self._failed(repr(error))
            return
        if answer.status_code == 200:
            scores = {one["index"]: one["score"] for one in answer.json()}
            self._scored("200", model, [scores.get(index, 1e9) for index in range(len(TEXTS))])
        elif answer.status_code in REFUSED:
            self._count(str(answer.status_code))
            time.sleep(float(answer.headers.get("Retry-After", 1)))
        else:
            self._failed(f"{answer.status_code}: {answer.text[:200]}")

    def by_scorer(self, scorer: Scorer, model: str) -> None:
        """One request, sent again as often as the remote scorer does."""
        try:
            scores = scorer.score(QUERY, TEXTS)
        except RerankError as error:
            self._failed(repr(error))
        else:
            self._scored("remote scorer", model, scores)

    def _scored(self, what: str, model: str, scores: list[float]) -> None:
        if all(abs(one - other) < 1e-4 for one, other in zip(scores, self._expected[model], strict=True)):
            self._count(what)
        else:
            self._failed(f"{what}: wrong scores of {model}")

    def _count(self, what: str) -> None:
        with self._lock:
            self.answers[what] += 1

    def _failed(self, why: str) -> None:
        with self._lock:
            self.wrong.append(why)


@contextmanager
def clients(count: int, ask: Callable[[int], object]) -> Iterator[None]:
    """So many threads, each of which asks again and again."""
    stop = threading.Event()

    def run(number: int) -> None:
        while not stop.is_set():
            ask(number)

    with ThreadPoolExecutor(count) as threads:
        doing = [threads.submit(run, number) for number in range(count)]
        try:
            yield
        finally:
            stop.set()
        for one in doing:
            one.result()


def application(version: int) -> Any:
    app = serve_app({name: name for name in MODELS}, models_per_replica=1, settings={"max_texts": 1000 + version})
    return with_options(app, autoscaling_config=SCALING)


def changes(url: str, tally: Tally, rounds: int) -> None:
    """Everything that happens to the application."""

    def plain(number: int) -> None:
        tally.plain(url, MODELS[number % 2])

    with ExitStack() as stack:
        remote = [stack.enter_context(load_scorer(url, dialect="bge-rerank", served_model=name)) for name in MODELS]
        remote.append(stack.enter_context(load_scorer(url, dialect="tei")))  # names no model: it has the first
        with clients(3, lambda number: tally.by_scorer(remote[number], MODELS[number % 2])):
            for number in range(1, rounds + 1):
                started = time.monotonic()
                with clients(12, plain):
                    wait_until(lambda: running(NAME) == 2, "a second replica")
                    two = time.monotonic() - started
                wait_until(lambda: running(NAME) == 1, "one replica")
                one = time.monotonic() - started
                with clients(4, plain):
                    serve.run(application(number), name=NAME)
                done = time.monotonic() - started
                print(f"round {number}: two after {two:.1f} s, one after {one:.1f} s, new version after {done:.1f} s")
    with ThreadPoolExecutor(12) as threads:
        held = [threads.submit(plain, number) for number in range(12)]
        wait_until(lambda: under_way(url) >= 4, "requests under way")
        serve.delete(NAME)
        for doing in held:
            doing.result()


def under_way(url: str) -> float:
    """Requests that the replica has which answers, besides this one."""
    lines = httpx.get(f"{url}/metrics", timeout=LONG).text.splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith("bge_rerank_http_requests_under_way "))
    return float(value) - 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Ray Serve while things change.")
    parser.add_argument("--rounds", type=int, default=5)
    rounds: int = parser.parse_args().rounds
    warnings.filterwarnings("ignore", message="The `metrics_interval_s`", category=DeprecationWarning)
    expected = {}
    for name in MODELS:
        with load_scorer(name) as scorer:
            expected[name] = scorer.score(QUERY, TEXTS)
    tally = Tally(expected)
    with serving(cpus=8) as url:
        serve.run(application(0), name=NAME)
        changes(url, tally, rounds)
    print(f"answers: {dict(tally.answers)}; lost, wrong or with another status: {len(tally.wrong)}")
    for why, times in Counter(tally.wrong).most_common(10):
        print(f"  {times} x {why}")
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
