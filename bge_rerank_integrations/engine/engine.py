"""Worker threads run the models: two for each GPU, one for each core of a CPU. Callers hand in tokens and get a future.

Requests that wait at the same time share batches. This does not change scores: a packed sequence sees only itself.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from bge_rerank_integrations.engine.cache import ScoreCache
from bge_rerank_integrations.engine.hook import Hook
from bge_rerank_integrations.engine.queue import Queue
from bge_rerank_integrations.engine.sharing import Sharing
from bge_rerank_integrations.engine.work import Request, Runner
from bge_rerank_integrations.engine.worker import Worker
from bge_rerank_integrations.errors import ClosedError, RerankError
from bge_rerank_integrations.options import EngineSettings
from bge_rerank_integrations.stats import Counters, Stats

TOKENIZING_THREADS = 4
"""Threads that tokenize for async callers, so that one caller's long texts do not delay the others."""
HOOK_SECONDS = 1.0
"""How long `close` waits for a hook that blocks."""


class Engine:
    """Runs requests on its runners until it is closed."""

    def __init__(self, makers: Sequence[Callable[[], Runner]], settings: EngineSettings) -> None:
        """
        Args:
            makers: one for each runner, called in the thread of its first worker.
        """
        self.settings = settings
        self.counters = Counters()
        self._tokenizing = ThreadPoolExecutor(TOKENIZING_THREADS, "bge-rerank-tokenize")  # starts on first use
        self.tokenizing_turn = threading.Lock()
        """For calls with many texts, whose tokenizing takes all cores for a while."""
        self._queue = Queue(settings.token_budget or 1, settings.max_queued_tokens)
        self._cache = ScoreCache(settings.cache_size) if settings.cache_size else None
        self._process = os.getpid()
        self._busy: set[int] = set()
        """Threads that are in a call."""
        hook = None if settings.on_batch is None else Hook(settings.on_batch, self.counters)
        self._report = hook or (lambda _: None)
        self.workers: list[Worker] = []
        self._threads: list[threading.Thread] = []
        # runs when the engine is garbage-collected and at exit; holds no reference to the engine itself
        self._finalizer = weakref.finalize(
            self, _stop, self._process, self._queue, self._threads, self._tokenizing, hook
        )
        self._queue.enter(len(makers), len(makers))
        try:
            runners = self._start(makers)
            common = set.intersection(*(set(runner.fused) for runner in runners))
            self._fused = tuple(sorted(common))
            if settings.token_budget is None:
                self._queue.token_budget = min(runner.token_budget() for runner in runners)
            more = [partial(_same, runner) for runner in runners for _ in range(runner.workers - 1)]
            shares = sum(runner.shares - 1 for runner in runners)
            self._queue.enter(len(more), shares, Sharing() if shares and len(runners) == 1 else None)
            self._start(more)
        except BaseException:
            self._queue.close()  # the finalizer waits for what still loads: torch aborts if Python ends meanwhile
            raise

    def _start(self, makers: Sequence[Callable[[], Runner]]) -> list[Runner]:
        """A worker for each; returns their runners once all are there, or raises the error of one that is not."""
        new = [Worker(make, self._queue, self._cache, self.counters, self._report) for make in makers]
        self.workers += new
        for worker in new:
            name = f"bge-rerank-{len(self._threads)}"
            self._threads.append(threading.Thread(target=worker.work, name=name, daemon=True))
            self._threads[-1].start()
        return [worker.loaded.result() for worker in new]

    def share(self, sharing: Sharing) -> None:
        """Choose the way for little work by this, rather than by what both were measured to cost."""
        self._queue.share(sharing)

    def submit(self, request: Request) -> None:
        """Queue a request; its future will hold scores for each sequence, or the error of the batch that failed."""
        self.check_open()
        self._queue.put(request)

    @contextmanager
    def call(self) -> Iterator[None]:
        """A thread's call. It may hold locks that the engine's threads need, so that no other call may interrupt it."""
        thread = threading.get_ident()
        if thread in self._busy:
            raise RerankError(
                "this thread is in a call of the scorer already, which a signal interrupted: in a signal handler "
                "raise an exception, or set a flag, and call the scorer later"
            )
        try:
            self._busy.add(thread)
            yield
        finally:
            self._busy.discard(thread)

    @contextmanager
    def outside_call(self) -> Iterator[None]:
        """A moment of a call in which its thread has no locks, and may call again."""
        thread = threading.get_ident()
        try:
            self._busy.discard(thread)
            yield
        finally:
            self._busy.add(thread)

    @property
    def tokenizing(self) -> Executor:
        """Threads for async callers. Raises `ClosedError` if the engine is closed."""
        self.check_open()
        return self._tokenizing

    def check_open(self) -> None:
        """Raise `ClosedError` if the engine was closed, or belongs to the process that this one was forked from."""
        if self.forked:
            raise ClosedError("this scorer belongs to the process that loaded it: load it again after the fork")
        if self.closed:
            raise ClosedError("this scorer was closed: load it again")

    @property
    def forked(self) -> bool:
        """Whether this process was forked from the one that has the model and its threads."""
        return os.getpid() != self._process

    @property
    def closed(self) -> bool:
        return not self._finalizer.alive or self._queue.closed

    def close(self) -> None:
        """Requests that wait get an error, batches that run are finished, devices are freed. May be called twice."""
        self._finalizer()

    @property
    def queued_tokens(self) -> int:
        return self._queue.tokens

    def stats(self) -> Stats:
        """What was scored so far, and what waits now."""
        return self.counters.stats(
            queued_requests=len(self._queue),
            queued_tokens=self._queue.tokens,
            token_budget=self._queue.token_budget,
            cache_hits=self._cache.hits if self._cache else 0,
            cache_misses=self._cache.misses if self._cache else 0,
            fused=self._fused,
        )


def _same(runner: Runner) -> Runner:
    return runner


def _stop(
    process: int,
    queue: Queue,
    threads: Sequence[threading.Thread],
    tokenizing: ThreadPoolExecutor,
    hook: Hook | None,
) -> None:
    if os.getpid() != process:  # a fork has none of the threads, but may have a lock that one of them held
        return
    tokenizing.shutdown(wait=False)
    queue.close()
    # the garbage collector may call this in a worker, while that has a lock which the others need to end
    waits = threading.current_thread() not in threads
    for thread in threads:
        if waits and thread.ident is not None:
            thread.join()
    if hook is not None:
        hook.close(HOOK_SECONDS if waits else 0)
