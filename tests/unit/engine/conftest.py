"""A runner that the tests of the engine control, and engines over it that end with the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue

import pytest

from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.engine.queue import Queue
from bge_rerank_integrations.engine.work import DoesNotFit, LayerScores, Recipe, Request, TokenSequence
from bge_rerank_integrations.options import EngineSettings

LONG = 60  # seconds no test should ever wait


class Adder:
    """Scores a sequence by the sum of its ids; records batches; a test may hold it and make it fail."""

    def __init__(self, workers: int = 1, shares: int | None = None) -> None:
        self.workers = workers
        self.shares = workers if shares is None else shares
        self.entered = 0
        self.present: set[threading.Thread] = set()
        self.whole: list[list[list[int]]] = []
        """Batches that were run with what there is for all workers."""
        self.batches: list[list[list[int]]] = []
        self.go = threading.Event()
        self.go.set()
        self.started = threading.Event()
        self.starts: SimpleQueue[Adder] = SimpleQueue()
        self.memory = 10**9
        self.fail_on: int | None = None
        self.closed = False
        self.budget = 100
        self.fused = ()
        self.running_in: list[threading.Thread] = []

    def token_budget(self) -> int:
        return self.budget

    def enter(self) -> None:
        self.entered += 1
        self.present.add(threading.current_thread())

    def run_whole(self, sequences: Sequence[TokenSequence], recipe: Recipe) -> list[LayerScores]:
        self.whole.append([sequence.ids for sequence in sequences])
        return self.run(sequences, recipe)

    def run(self, sequences: Sequence[TokenSequence], recipe: Recipe) -> list[LayerScores]:
        self.started.set()
        self.running_in.append(threading.current_thread())
        self.starts.put(self)
        assert self.go.wait(LONG)
        ids = [sequence.ids for sequence in sequences]
        self.batches.append(ids)
        if sum(map(len, ids)) > self.memory:
            raise DoesNotFit("no memory")
        if any(self.fail_on in i for i in ids):
            raise RuntimeError(f"cannot score {self.fail_on}")
        return [[float(sum(i)), *map(float, recipe.cutoffs)] for i in ids]

    def leave(self) -> None:
        self.present.remove(threading.current_thread())
        self.closed = not self.present


def queue_of(token_budget: int, max_tokens: int, workers: int) -> Queue:
    queue = Queue(token_budget, max_tokens)
    queue.enter(workers, workers)
    return queue


def request(*ids: list[int], recipe: Recipe | None = None, **options: object) -> Request:
    return Request([TokenSequence(i, (0, len(i))) for i in ids], recipe or Recipe(), **options)  # type: ignore[arg-type]


def made_by(adder: Adder, threads: list[threading.Thread] | None = None) -> Callable[[], Adder]:
    """What gives the adder to an engine, and notes the threads that ask for it."""

    def make() -> Adder:
        if threads is not None:
            threads.append(threading.current_thread())
        return adder

    return make


@pytest.fixture
def replica() -> Adder:
    return Adder()


@pytest.fixture
def engine_of(replica: Adder) -> Iterator[Callable[..., Engine]]:
    engines = []

    def make(replicas: Sequence[Adder] = (replica,), **settings: object) -> Engine:
        engines.append(Engine([made_by(r) for r in replicas], EngineSettings(**({"token_budget": 100} | settings))))  # type: ignore[arg-type]
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def submit(engine: Engine, *ids: list[int], **options: object) -> Request:
    made = request(*ids, **options)  # type: ignore[arg-type]
    engine.submit(made)
    return made


def hold(engine: Engine, replica: Adder) -> Request:
    """Occupy the worker, so that what follows waits together."""
    replica.go.clear()
    first = submit(engine, [1000])
    assert replica.started.wait(LONG)
    return first
