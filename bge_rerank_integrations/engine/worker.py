"""A thread that runs batches until the queue closes. The first one of each device loads the model.

An error in a batch goes to the callers of that batch, and the loop goes on. If the loop itself ends, the queue closes
with the reason, and no caller waits for ever.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from traceback import clear_frames

from bge_rerank_integrations.engine.cache import ScoreCache
from bge_rerank_integrations.engine.queue import Queue, Taken
from bge_rerank_integrations.engine.sharing import Way
from bge_rerank_integrations.engine.work import (
    DoesNotFit,
    LayerScores,
    Recipe,
    Request,
    Runner,
    Task,
    TokenSequence,
)
from bge_rerank_integrations.errors import ClosedError, OutOfMemory, RerankError
from bge_rerank_integrations.stats import Batch, Counters

Run = Callable[[Sequence[TokenSequence], Recipe], list[LayerScores]]


class Worker:
    """What a thread does with a runner: make it, or get it from another worker, and run batches on it."""

    def __init__(
        self,
        make: Callable[[], Runner],
        queue: Queue,
        cache: ScoreCache | None,
        counters: Counters,
        report: Callable[[Batch], object],
    ) -> None:
        """
        Args:
            report: called after each batch; must neither block nor raise.
        """
        self.make = make
        self.loaded: Future[Runner] = Future()
        self.queue = queue
        self.cache = cache
        self.counters = counters
        self.report = report

    def work(self) -> None:
        """Load, then run batches until the queue closes."""
        try:
            runner = self.make()
            runner.enter()
        except BaseException as error:  # noqa: BLE001 - any error goes to the caller that loads
            self.loaded.set_exception(error)
            return
        self.loaded.set_result(runner)
        reason: BaseException | None = None
        try:
            while (taken := self.queue.take()) is not None:
                self._serve(runner, taken)
                del taken  # otherwise its requests stay in memory until the next one comes
        except BaseException as error:  # noqa: BLE001 - nothing above catches it; all who wait get it
            reason = ClosedError(f"the scorer's thread ended ({type(error).__name__}: {error}): load it again")
            reason.__cause__ = error
        finally:
            self.queue.leave(reason)
            runner.leave()

    def _serve(self, runner: Runner, taken: Taken) -> None:
        tasks = taken.tasks
        try:
            if self.cache is not None:
                known, tasks = self.cache.claim(tasks)
                _deliver(known)
            if not tasks:
                return
            if taken.choice is None:
                self._run(runner.run, tasks)
                return
            started = time.perf_counter()
            self._run(runner.run_whole if taken.choice.way is Way.WHOLE else runner.run, tasks)
            tokens = sum(task.tokens for task in tasks)
            self.queue.measured(taken.choice, tokens, time.perf_counter() - started)
        except BaseException as error:  # noqa: BLE001 - any error goes to the callers of this batch
            self._fail(taken.tasks, error)

    def _run(self, run: Run, batch: list[Task]) -> None:
        """Run tasks of one recipe. One that does not fit is halved; one that fails runs again by request.

        What the package itself says is wrong, such as layers that cannot be loaded, is so for each of them.
        """
        started = time.perf_counter()
        error: BaseException
        try:
            scored = run([task.sequence for task in batch], batch[0].request.recipe)
        except BaseException as caught:  # noqa: BLE001 - any error goes to the callers of this batch
            error = _without_locals(caught)
        else:
            self._finish(batch, scored, started)
            return
        parts = [batch] if isinstance(error, RerankError) else _by_request(batch)
        if isinstance(error, DoesNotFit):
            parts = _halves(batch)
        if len(parts) == 1:
            if isinstance(error, DoesNotFit):
                message = f"a sequence of {batch[0].tokens} tokens does not fit the device: lower max_length ({error})"
                error = OutOfMemory(message)
            self._fail(batch, error)
            return
        if isinstance(error, DoesNotFit):
            self.queue.shrink(sum(task.tokens for task in batch))
            self.counters.count_out_of_memory()
        for part in parts:
            self._run(run, part)

    def _finish(self, batch: list[Task], scored: list[LayerScores], started: float) -> None:
        try:
            done = list(zip(batch, scored, strict=True)) if self.cache is None else self.cache.finish(batch, scored)
            report = Batch(
                sequences=len(batch),
                tokens=sum(task.tokens for task in batch),
                seconds_queued=sum(started - task.request.since for task in batch) / len(batch),
                seconds_forward=time.perf_counter() - started,
            )
            self.counters.count_batch(report)
            self.queue.fitted()
            _deliver(done)
            self.report(report)
        except BaseException as error:  # noqa: BLE001 - it is told to those who have no scores yet, and to no other part
            self._fail(batch, error)

    def _fail(self, batch: list[Task], error: BaseException) -> None:
        if self.cache is not None:
            self.queue.put_back(self.cache.abandon(batch))
        for request in {task.request for task in batch}:
            request.fail(error)


def _without_locals(error: BaseException) -> BaseException:
    """The error, without the tensors of the forward pass, which a caller that keeps it would keep on the device."""
    linked: BaseException | None = error
    while linked is not None:
        clear_frames(linked.__traceback__)
        linked = linked.__cause__ or linked.__context__
    return error


def _halves(batch: list[Task]) -> list[list[Task]]:
    middle = len(batch) // 2
    return [batch[:middle], batch[middle:]] if middle else [batch]


def _by_request(batch: list[Task]) -> list[list[Task]]:
    parts: dict[Request, list[Task]] = defaultdict(list)
    for task in batch:
        parts[task.request].append(task)
    return list(parts.values())


def _deliver(scored: Iterable[tuple[Task, LayerScores]]) -> None:
    by_request: dict[Request, list[tuple[int, LayerScores]]] = defaultdict(list)
    for task, scores in scored:
        by_request[task.request].append((task.position, scores))
    for request, its in by_request.items():
        try:
            request.fill(its)
        except BaseException as error:  # noqa: BLE001 - a caller that cannot be told fails, and no other
            request.fail(error)
