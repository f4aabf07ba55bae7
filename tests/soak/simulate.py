"""An estimate of how long requests wait at a rate: the engine's own queue, and batch times instead of a model.

    python -m tests.soak.simulate measure --model demo > demo.json
    python -m tests.soak.simulate rates demo.json --texts 12 --p99 2
    python -m tests.soak.simulate clients demo.json --clients 500 --requests 2000

`measure` runs a model with several token budgets. `rates` lets requests of `--texts` passages come at random moments
(Poisson) and prints waiting times at several rates, and the highest rate at which 99 of 100 are answered within `--p99`
seconds. `clients` is tests/soak/serve_load.py: each client asks again as soon as it has its answer.

Nothing but batches takes time: no network, no tokenizing, no other work on the same cores. No sequence is ever given to
all cores, as the engine does with little work.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, linear_regression, median
from typing import Any

import simpy

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.engine.queue import Queue
from bge_rerank_integrations.engine.work import Recipe, Request, TokenSequence
from bge_rerank_integrations.options import EngineSettings
from bge_rerank_integrations.serve.settings import ServerSettings
from bge_rerank_integrations.stats import Batch
from tests.soak.serve_load import questions

BUDGETS = (1, 256, 512, 1024, 2048)
"""Tokens in a batch to measure with; with 1 each sequence is a batch, which tells their lengths."""
ROUNDS = 4
"""How often all is measured with each; the first is not counted."""
SHARES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.2)
"""Rates to try, as shares of what full batches would hold."""
Steps = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Costs:
    """What batches take: `fixed_seconds + seconds_per_token * tokens` on each worker."""

    source: str
    """How the figures were made: "measured: ..." or "estimated: ..."."""
    fixed_seconds: float
    seconds_per_token: float
    workers: int
    """Batches that are computed side by side: one for each core, or for each GPU."""
    token_budget: int
    lengths: tuple[int, ...]
    """Tokens of pairs; those of a request are drawn from them."""

    def seconds(self, tokens: int) -> float:
        return self.fixed_seconds + self.seconds_per_token * tokens

    @cached_property
    def pairs_per_second(self) -> float:
        """What full batches would hold, of all workers."""
        pairs = max(1.0, self.token_budget / fmean(self.lengths))
        return self.workers * pairs / self.seconds(round(pairs * fmean(self.lengths)))


@dataclass(frozen=True)
class Limits:
    """What a server accepts."""

    requests: int = ServerSettings.max_requests
    """Under way; one more is refused."""
    queued_tokens: int = EngineSettings.max_queued_tokens
    seconds: float = 30.0
    """A request that has no answer by then is refused."""


class Outcome:
    """What became of the requests, in the order of their ends. A refused one waits for ever."""

    def __init__(self, waits: list[float]) -> None:
        self.waits = waits

    @property
    def refused(self) -> float:
        return sum(map(math.isinf, self.waits)) / len(self.waits)

    def within(self, share: float) -> float:
        """Seconds in which such a share of all requests was answered."""
        return sorted(self.waits)[math.ceil(share * len(self.waits)) - 1]

    @property
    def saturated(self) -> bool:
        """Whether more came than can be answered: some are refused, or waits have grown from quarter to quarter."""
        quarter = len(self.waits) // 4
        return self.refused > 0.01 or median(self.waits[-quarter:]) > 2 * median(self.waits[quarter : 2 * quarter])


class Server:
    """A queue and its workers, in simulated time."""

    def __init__(self, costs: Costs, limits: Limits) -> None:
        self.env = simpy.Environment()
        self.waits: list[float] = []
        self._costs = costs
        self._limits = limits
        self._under_way = 0
        self._queue = Queue(costs.token_budget, limits.queued_tokens)
        self._queue.enter(costs.workers, costs.workers)
        self._bell = self.env.event()
        for _ in range(costs.workers):
            self.env.process(self._work())

    def ask(self, lengths: list[int]) -> Steps:
        """One request, from its arrival to its answer or refusal."""
        if self._under_way >= self._limits.requests:
            self.waits.append(math.inf)
            return
        arrived = self.env.now
        settled = self.env.event()
        request = Request([TokenSequence([0] * length, (0, length)) for length in lengths], Recipe())
        self._queue.put(request)
        request.future.add_done_callback(lambda _: settled.succeed())
        self._under_way += 1
        self._bell.succeed()
        self._bell = self.env.event()
        yield settled | self.env.timeout(self._limits.seconds)
        self._under_way -= 1
        self.waits.append(self.env.now - arrived if request.future.done() else math.inf)
        request.future.cancel()

    def _work(self) -> Steps:
        while True:
            while not len(self._queue):  # `take` would wait in real time
                yield self._bell
            taken = self._queue.take()
            assert taken is not None
            yield self.env.timeout(self._costs.seconds(sum(task.tokens for task in taken.tasks)))
            for task in taken.tasks:
                task.request.fill([(task.position, [0.0])])


def drawn(costs: Costs, requests: int, texts: int, draw: random.Random) -> Iterator[list[int]]:
    """The lengths of each request's pairs."""
    return (draw.choices(costs.lengths, k=texts) for _ in range(requests))


def at_rate(rate: float, costs: Costs, limits: Limits, requests: int, texts: int) -> Outcome:
    """Requests at random moments, so many a second, whether or not those before are answered."""
    server, draw = Server(costs, limits), random.Random(0)

    def come() -> Steps:
        asked = []
        for lengths in drawn(costs, requests, texts, draw):
            yield server.env.timeout(draw.expovariate(rate))
            asked.append(server.env.process(server.ask(lengths)))
        yield server.env.all_of(asked)

    server.env.run(server.env.process(come()))
    return Outcome(server.waits)


def by_clients(clients: int, costs: Costs, limits: Limits, requests: int, texts: int) -> tuple[Outcome, float]:
    """Each client asks again as soon as it has its answer. Returns the seconds of the whole, too."""
    server = Server(costs, limits)
    left = drawn(costs, requests, texts, random.Random(0))

    def client() -> Steps:
        for lengths in left:
            yield from server.ask(lengths)

    server.env.run(server.env.all_of([server.env.process(client()) for _ in range(clients)]))
    return Outcome(server.waits), server.env.now


def highest_rate(p99: float, run: Callable[[float], Outcome], most: float) -> float:
    """The highest rate, to 1% of `most`, at which 99 of 100 requests are answered within `p99` seconds; 0.0: none."""
    low, high = 0.0, most
    while high - low > 0.01 * most:
        rate = (low + high) / 2
        outcome = run(rate)
        low, high = (rate, high) if outcome.within(0.99) <= p99 and not outcome.saturated else (low, rate)
    return low


def measured(model: str, texts: int) -> Costs:
    """Costs on this machine, with the passages of the load test and all workers busy."""
    pairs = [(one.query, text) for one in questions(20, texts) for text in one.texts]
    before = os.getloadavg()[0]
    points: list[tuple[float, float]] = []
    lengths: tuple[int, ...] = ()
    for budget in BUDGETS:
        batches: list[Batch] = []
        with load_scorer(model, token_budget=budget, on_batch=batches.append) as scorer:
            for _ in range(ROUNDS):
                scorer.score_pairs(pairs)
            workers = len(scorer._core.engine.workers)
        warm = batches[len(batches) // ROUNDS :]
        lengths = lengths or tuple(batch.tokens for batch in warm)
        points.append((fmean(batch.tokens for batch in warm), fmean(batch.seconds_forward for batch in warm)))
    slope, fixed = linear_regression(*zip(*points, strict=True))
    shown = ", ".join(f"{tokens:.0f} tokens {1000 * seconds:.1f} ms" for tokens, seconds in points)
    source = f"measured: {model}, {workers} workers, load of the machine before {before:.1f}; means: {shown}"
    return Costs(source, max(0.0, fixed), slope, workers, BUDGETS[-1], lengths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("measure", "rates", "clients"))
    parser.add_argument("costs", type=Path, nargs="?", help="a file that `measure` has printed, or one of estimates")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--texts", type=int, default=12, help="of each request")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--p99", type=float, default=1.0, help="seconds")
    parser.add_argument("--timeout", type=float, default=Limits.seconds, help="seconds until a request is refused")
    given = parser.parse_args()
    if given.mode == "measure":
        print(json.dumps(asdict(measured(given.model, given.texts))))
        return
    if given.costs is None:
        parser.error(f"{given.mode} needs a file that `measure` has printed")
    costs = Costs(**json.loads(given.costs.read_text()))
    limits = Limits(seconds=given.timeout)
    print(f"Estimate by simulation. Costs of batches are {costs.source}")
    if given.mode == "clients":
        outcome, seconds = by_clients(given.clients, costs, limits, given.requests, given.texts)
        passages = given.requests * given.texts / seconds
        print(f"p50 {outcome.within(0.5):.2f} s, p99 {outcome.within(0.99):.2f} s, {passages:.0f} passages a second")
        return

    def run(rate: float) -> Outcome:
        return at_rate(rate, costs, limits, given.requests, given.texts)

    full = costs.pairs_per_second / given.texts
    print(
        "| Requests a second | of full batches | p50, s | p99, s | refused | |\n| --- | --- | --- | --- | --- | --- |"
    )
    for share in SHARES:
        one = run(share * full)
        waits = f"{one.within(0.5):.3f} | {one.within(0.99):.3f} | {one.refused:.1%}"
        print(f"| {share * full:.1f} | {share:.0%} | {waits} | {'more than it holds' if one.saturated else ''} |")
    print(
        f"p99 within {given.p99} s: up to {highest_rate(given.p99, run, 1.2 * full):.1f} requests a second (estimate)"
    )


if __name__ == "__main__":
    main()
