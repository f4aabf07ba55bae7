"""A device's thread: the model is loaded, then batches run until the queue closes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from bge_rerank_integrations.engine.cache import ScoreCache
from bge_rerank_integrations.engine.queue import Queue
from bge_rerank_integrations.engine.work import DoesNotFit, LayerScores, Request, Runner, Task
from bge_rerank_integrations.errors import OutOfMemory
from bge_rerank_integrations.stats import Batch, Counters


class Worker:
    """What a thread does for one runner: make it, run batches on it, close it."""

    def __init__(
        self,
        make: Callable[[], Runner],
        queue: Queue,
        cache: ScoreCache | None,
        counters: Counters,
        on_batch: Callable[[Batch], object] | None,
    ) -> None:
        self.make = make
        self.loaded: Future[Runner] = Future()
        self.queue = queue
        self.cache = cache
        self.counters = counters
        self.on_batch = on_batch

    def work(self) -> None:
        try:
            runner = self.make()
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to whoever loads
            self.loaded.set_exception(error)
            return
        self.loaded.set_result(runner)
        try:
            while (batch := self.queue.take()) is not None:
                self._serve(runner, batch)
                del batch  # or its requests would live until the next one comes
        finally:
            runner.close()

    def _serve(self, runner: Runner, batch: list[Task]) -> None:
        if self.cache is not None:
            known, batch = self.cache.claim(batch)
            _deliver(known)
        if batch:
            self._run(runner, batch)

    def _run(self, runner: Runner, batch: list[Task]) -> None:
        """Run tasks of one recipe; out of memory, and that alone, halves them and tries again."""
        started = time.perf_counter()
        try:
            scored = runner.run([task.sequence for task in batch], batch[0].request.recipe)
        except DoesNotFit as error:
            if len(batch) == 1:
                message = f"a sequence of {batch[0].tokens} tokens does not fit the device: lower max_length ({error})"
                self._fail(batch, OutOfMemory(message))
                return
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to the callers of this batch
            self._fail(batch, error)
            return
        else:
            self._finish(batch, scored, started)
            return
        # here, and not in the handler, whose traceback would keep what failed alive
        self.queue.shrink(sum(task.tokens for task in batch))
        self.counters.count_out_of_memory()
        middle = len(batch) // 2
        self._run(runner, batch[:middle])
        self._run(runner, batch[middle:])

    def _finish(self, batch: list[Task], scored: list[LayerScores], started: float) -> None:
        done = list(zip(batch, scored, strict=True)) if self.cache is None else self.cache.finish(batch, scored)
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


def _deliver(scored: Iterable[tuple[Task, LayerScores]]) -> None:
    by_request: dict[Request, list[tuple[int, LayerScores]]] = defaultdict(list)
    for task, scores in scored:
        by_request[task.request].append((task.position, scores))
    for request, its in by_request.items():
        request.fill(its)
