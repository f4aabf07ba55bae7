"""One worker thread for each device owns a model; callers hand it token sequences and get a future.

Requests that wait at the same time share batches, one sequence in turn from each, so that a short request is not stuck
behind a long one. Scores do not depend on it: a packed sequence sees only itself.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch

from bge_rerank_integrations.batching import TokenSequence, by_length
from bge_rerank_integrations.errors import ClosedError
from bge_rerank_integrations.families.base import Recipe

Scores = list[list[float]]
"""For each sequence a score for each cutoff layer, or a single one."""


class Replica(Protocol):
    """One copy of the model on one device."""

    def run(self, sequences: Sequence[TokenSequence], recipe: Recipe) -> Scores: ...

    def close(self) -> None: ...


@dataclass(eq=False)
class Request:
    """The sequences of one caller, and how many of them still lack a score."""

    sequences: Sequence[TokenSequence]
    recipe: Recipe
    on_progress: Callable[[int, int], object] | None = None
    """Called by the worker after each batch with how many sequences have their scores, and how many there are."""
    future: Future[Scores] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.waiting = deque(by_length(self.sequences))
        self.missing = len(self.sequences)
        self.lock = threading.Lock()  # two devices may finish parts of it at once
        self.scores: Scores = [[] for _ in self.sequences]


class Task(NamedTuple):
    """One sequence of a request."""

    request: Request
    place: int

    @property
    def sequence(self) -> TokenSequence:
        return self.request.sequences[self.place]

    @property
    def tokens(self) -> int:
        return len(self.sequence.ids)


class Engine:
    """Runs requests on replicas until it is closed."""

    def __init__(self, replicas: Sequence[Replica], token_budget: int) -> None:
        """
        Args:
            replicas: one for each device.
            token_budget: tokens that a batch may hold; a longer sequence runs alone.
        """
        self._queue = Queue(token_budget, len(replicas))
        self._process = os.getpid()
        self._threads = [
            threading.Thread(target=_work, args=(self._queue, replica), name=f"bge-rerank-{i}", daemon=True)
            for i, replica in enumerate(replicas)
        ]
        for thread in self._threads:
            thread.start()
        # runs when the engine is dropped and at exit, and holds no reference to the engine itself
        self._finalizer = weakref.finalize(self, _stop, self._queue, self._threads)

    def submit(
        self,
        sequences: Sequence[TokenSequence],
        recipe: Recipe,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> Future[Scores]:
        """Queue sequences; the future holds their scores in the order given, or the error of the batch that failed."""
        if os.getpid() != self._process:
            raise ClosedError("this scorer belongs to the process that loaded it: load it again after the fork")
        request = Request(sequences, recipe, on_progress)
        if not sequences:
            request.future.set_result([])
        else:
            self._queue.put(request)
        return request.future

    @property
    def closed(self) -> bool:
        return not self._finalizer.alive

    def close(self) -> None:
        """Fail what waits, finish what runs, free the devices. Closing twice is fine."""
        if os.getpid() == self._process:
            self._finalizer()


class Queue:
    """Requests that wait, and the choice of the next batch."""

    def __init__(self, token_budget: int, workers: int) -> None:
        self.token_budget = token_budget
        self._workers = workers
        self._requests: deque[Request] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, request: Request) -> None:
        with self._changed:
            if self._closed:
                raise ClosedError("this scorer was closed: load it again")
            self._requests.append(request)
            self._changed.notify_all()

    def take(self) -> list[Task] | None:
        """The next batch, once there is one; None when the queue was closed."""
        with self._changed:
            while True:
                self._drop_cancelled()
                if self._closed:
                    return None
                if self._requests:
                    return self._next_batch()
                self._changed.wait()

    def _next_batch(self) -> list[Task]:
        recipe = self._requests[0].recipe
        waiting = sum(len(r.sequences[i].ids) for r in self._requests if r.recipe == recipe for i in r.waiting)
        budget = min(self.token_budget, -(-waiting // self._workers))  # leave the other devices their share
        batch: list[Task] = []
        tokens = 0
        turn = deque(request for request in self._requests if request.recipe == recipe)
        while turn:
            request = turn[0]
            task = Task(request, request.waiting[0])
            if batch and tokens + task.tokens > budget:
                break
            batch.append(task)
            tokens += task.tokens
            request.waiting.popleft()
            turn.popleft()
            if request.waiting:
                turn.append(request)
            else:
                self._requests.remove(request)
        if len(self._requests) > 1:  # another request, perhaps of another recipe, leads the next batch
            self._requests.rotate(-1)
        return sorted(batch, key=lambda task: -task.tokens)

    def _drop_cancelled(self) -> None:
        self._requests = deque(request for request in self._requests if not request.future.done())

    def shrink(self, failed: int) -> None:
        """After a batch of `failed` tokens did not fit the device's memory: plan smaller ones."""
        with self._changed:
            self.token_budget = max(1, min(self.token_budget, failed // 2))

    def close(self) -> None:
        with self._changed:
            self._closed = True
            waiting, self._requests = self._requests, deque()
            self._changed.notify_all()
        for request in waiting:
            _settle(request.future.set_exception, ClosedError("the scorer was closed before this request was scored"))


def _work(queue: Queue, replica: Replica) -> None:
    """A worker's life: batches until the queue closes."""
    try:
        while (batch := queue.take()) is not None:
            _run(queue, replica, batch)
            del batch
    finally:
        replica.close()


def _run(queue: Queue, replica: Replica, batch: list[Task]) -> None:
    batch = [task for task in batch if not task.request.future.done()]
    if not batch:
        return
    try:
        scores = replica.run([task.sequence for task in batch], batch[0].request.recipe)
    except torch.OutOfMemoryError as error:
        if len(batch) == 1:
            _settle(batch[0].request.future.set_exception, error)
            return
        queue.shrink(sum(task.tokens for task in batch))
    except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the callers of this batch
        for request in {task.request for task in batch}:
            _settle(request.future.set_exception, error)
        return
    else:
        for request in _deliver(batch, scores):
            _report(request)
        return
    # outside the handler, whose traceback would keep the failed batch's tensors alive
    middle = len(batch) // 2
    _run(queue, replica, batch[:middle])
    _run(queue, replica, batch[middle:])


def _deliver(batch: Sequence[Task], scores: Scores) -> list[Request]:
    """Write down the scores; returns the requests that got some."""
    for task, row in zip(batch, scores, strict=True):
        task.request.scores[task.place] = row
    counts = Counter(task.request for task in batch)
    for request, count in counts.items():
        with request.lock:
            request.missing -= count
    return list(counts)


def _report(request: Request) -> None:
    """Tell a caller how far its request is; the last time by its future."""
    missing = request.missing
    try:
        if request.on_progress is not None:
            request.on_progress(len(request.sequences) - missing, len(request.sequences))
    except Exception as error:  # noqa: BLE001 - the caller's own code failed: it is the caller's to know
        _settle(request.future.set_exception, error)
    if missing == 0:
        _settle(request.future.set_result, request.scores)


def _settle(settle: Callable[[Any], None], outcome: object) -> None:
    """Set a future's outcome, unless its caller cancelled it meanwhile or another batch of its request failed first."""
    with suppress(InvalidStateError):
        settle(outcome)


def _stop(queue: Queue, threads: Sequence[threading.Thread]) -> None:
    queue.close()
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join()
