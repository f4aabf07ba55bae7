"""One worker thread for each device loads a model and owns it; callers hand it token sequences and get a future.

Requests that wait at the same time share batches. Scores do not depend on it: a packed sequence sees only itself.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

from bge_rerank_integrations.engine.cache import ScoreCache
from bge_rerank_integrations.engine.queue import Queue, Request, Row, Task
from bge_rerank_integrations.errors import ClosedError, OptionError, OutOfMemory, QueueFull, Timeout
from bge_rerank_integrations.model.families.base import Recipe
from bge_rerank_integrations.model.packing import TokenSequence
from bge_rerank_integrations.stats import Batch, Counters, Stats


class Replica(Protocol):
    """One copy of the model on one device."""

    def run(self, sequences: Sequence[TokenSequence], recipe: Recipe) -> list[Row]: ...

    def token_budget(self) -> int:
        """How many tokens it can take at once."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class EngineSettings:
    """How much the engine does at once, holds, and remembers."""

    token_budget: int | None = None
    """Tokens a batch may hold; None: as many as every device can take."""
    max_queued_tokens: int = 4_000_000
    """Tokens that may wait."""
    timeout: float | None = None
    """Seconds a call may take, waiting included; None: as long as it takes."""
    cache_size: int = 0
    """Scores to remember; 0: none."""
    on_batch: Callable[[Batch], object] | None = None
    """Called by a worker after each batch, for metrics and traces."""

    def __post_init__(self) -> None:
        for name, least in (("token_budget", 1), ("max_queued_tokens", 1), ("cache_size", 0)):
            value = getattr(self, name)
            if name == "token_budget" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise OptionError(f"{name}={value!r}: use a whole number of {least} or more")
        if self.timeout is not None and (not isinstance(self.timeout, (int, float)) or not self.timeout > 0):
            raise OptionError(f"timeout={self.timeout!r}: use seconds above 0, or None for as long as it takes")


class Engine:
    """Runs requests on replicas until it is closed."""

    def __init__(self, makers: Sequence[Callable[[], Replica]], settings: EngineSettings) -> None:
        """
        Args:
            makers: one for each replica, called in the thread that will run it. A thread that computes keeps helpers
                of its own, and where there are more helpers than cores they sleep between operations, which cost one
                pair 13% when another thread had loaded the model.
        """
        self.settings = settings
        self.tokenizing = ThreadPoolExecutor(1, "bge-rerank-tokenize")  # for async callers; starts on first use
        self.counters = Counters()
        self._queue = Queue(settings.token_budget or 1, settings.max_queued_tokens, len(makers))
        self._cache = ScoreCache(settings.cache_size) if settings.cache_size else None
        self._process = os.getpid()
        workers = [Worker(make, self._queue, self._cache, self.counters, settings.on_batch) for make in makers]
        threads = [
            threading.Thread(target=worker.work, name=f"bge-rerank-{i}", daemon=True)
            for i, worker in enumerate(workers)
        ]
        # runs when the engine is dropped and at exit, and holds no reference to the engine itself
        self._finalizer = weakref.finalize(self, _stop, self._process, self._queue, threads, self.tokenizing)
        for thread in threads:
            thread.start()
        try:
            replicas = [worker.loaded.result() for worker in workers]
        except BaseException:
            self._queue.close()  # the finalizer waits for what still loads: torch aborts if Python ends under it
            raise
        if settings.token_budget is None:
            self._queue.token_budget = min(replica.token_budget() for replica in replicas)

    def submit(self, request: Request) -> None:
        """Queue a request; its future will hold a row for each sequence, or the error of the batch that failed."""
        self.check_open()
        self._queue.put(request)

    def check_open(self) -> None:
        """Raise if the engine was closed, or lives in the process that this one was forked from."""
        if os.getpid() != self._process:
            raise ClosedError("this scorer belongs to the process that loaded it: load it again after the fork")
        if self.closed:
            raise ClosedError("this scorer was closed: load it again")

    @property
    def closed(self) -> bool:
        return not self._finalizer.alive

    def close(self) -> None:
        """Fail what waits, finish what runs, free the devices. Closing twice is fine."""
        self._finalizer()

    @property
    def queued_tokens(self) -> int:
        return self._queue.tokens

    def stats(self) -> Stats:
        """What was done so far, and what waits now."""
        return self.counters.stats(
            queued_requests=len(self._queue),
            queued_tokens=self._queue.tokens,
            token_budget=self._queue.token_budget,
            cache_hits=self._cache.hits if self._cache else 0,
            cache_misses=self._cache.misses if self._cache else 0,
        )


class Deadline:
    """When a call must be done, and the errors that say why it was not."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._timeout = engine.settings.timeout
        self._end = None if self._timeout is None else time.monotonic() + self._timeout

    @property
    def remaining(self) -> float | None:
        """Seconds left; None: no end."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    @contextmanager
    def full(self) -> Iterator[None]:
        try:
            yield
        except (FutureTimeoutError, asyncio.TimeoutError) as error:
            raise QueueFull(
                f"{self._engine.queued_tokens} tokens wait, {self._engine.settings.max_queued_tokens} may, and "
                f"{self._timeout} seconds made no room: send less at once, or raise max_queued_tokens or timeout"
            ) from error

    @contextmanager
    def late(self) -> Iterator[None]:
        try:
            yield
        except (FutureTimeoutError, asyncio.TimeoutError) as error:
            raise Timeout(
                f"not scored within {self._timeout} seconds, with {self._engine.queued_tokens} tokens waiting: "
                "send less at once, or raise timeout"
            ) from error


class Worker:
    """A device's thread: the model is loaded, then batches run until the queue closes."""

    def __init__(
        self,
        make: Callable[[], Replica],
        queue: Queue,
        cache: ScoreCache | None,
        counters: Counters,
        on_batch: Callable[[Batch], object] | None,
    ) -> None:
        self.make = make
        self.loaded: Future[Replica] = Future()
        self.queue = queue
        self.cache = cache
        self.counters = counters
        self.on_batch = on_batch

    def work(self) -> None:
        try:
            replica = self.make()
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to whoever loads
            self.loaded.set_exception(error)
            return
        self.loaded.set_result(replica)
        try:
            while (batch := self.queue.take()) is not None:
                self._serve(replica, batch)
                del batch  # or its requests would live until the next one comes
        finally:
            replica.close()

    def _serve(self, replica: Replica, batch: list[Task]) -> None:
        if self.cache is not None:
            known, batch = self.cache.claim(batch)
            _deliver(known)
        if batch:
            self._run(replica, batch)

    def _run(self, replica: Replica, batch: list[Task]) -> None:
        """Run tasks of one recipe; out of memory, and that alone, halves them and tries again."""
        started = time.perf_counter()
        try:
            rows = replica.run([task.sequence for task in batch], batch[0].request.recipe)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                message = f"a sequence of {batch[0].tokens} tokens does not fit the device: lower max_length ({error})"
                self._fail(batch, OutOfMemory(message))
                return
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the callers of this batch
            self._fail(batch, error)
            return
        else:
            self._finish(batch, rows, started)
            return
        # here, and not in the handler, whose traceback would keep the failed batch's tensors alive
        self.queue.shrink(sum(task.tokens for task in batch))
        self.counters.count_out_of_memory()
        middle = len(batch) // 2
        self._run(replica, batch[:middle])
        self._run(replica, batch[middle:])

    def _finish(self, batch: list[Task], rows: list[Row], started: float) -> None:
        done = list(zip(batch, rows, strict=True)) if self.cache is None else self.cache.finish(batch, rows)
        report = Batch(
            sequences=len(batch),
            tokens=sum(task.tokens for task in batch),
            seconds_queued=sum(started - task.request.since for task in batch) / len(batch),
            seconds_forward=time.perf_counter() - started,
        )
        self.counters.count_batch(report)
        if self.on_batch is not None:
            try:
                self.on_batch(report)
            except Exception as error:  # noqa: BLE001 - a hook that fails must not cost anyone a score
                self.counters.count_hook_error(error)
        _deliver(done)

    def _fail(self, batch: list[Task], error: BaseException) -> None:
        if self.cache is not None:
            self.queue.put_back(self.cache.abandon(batch))
        for request in {task.request for task in batch}:
            request.fail(error)


def _deliver(scored: Iterable[tuple[Task, Row]]) -> None:
    by_request: dict[Request, list[tuple[int, Row]]] = defaultdict(list)
    for task, row in scored:
        by_request[task.request].append((task.place, row))
    for request, rows in by_request.items():
        request.fill(rows)


def _stop(process: int, queue: Queue, threads: Sequence[threading.Thread], tokenizing: ThreadPoolExecutor) -> None:
    if os.getpid() != process:  # a fork has none of the threads, and perhaps a lock that one of them held
        return
    tokenizing.shutdown(wait=False)
    queue.close()
    for thread in threads:
        if thread.ident is not None and thread is not threading.current_thread():
            thread.join()
