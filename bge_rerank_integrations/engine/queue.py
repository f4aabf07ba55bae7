"""Requests that wait for a device, how much may wait, and which of it goes into the next batch."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from bge_rerank_integrations.engine.work import Request, Task, settle
from bge_rerank_integrations.errors import ClosedError

_CLOSED = "the scorer was closed before this request was scored"


class Queue:
    """First come, first admitted; of those admitted, each gives one sequence in turn to the next batch."""

    def __init__(self, token_budget: int, max_tokens: int, workers: int) -> None:
        """
        Args:
            token_budget: tokens a batch may hold; a longer sequence goes alone.
            max_tokens: tokens that may wait; a request beyond waits outside, a larger one until nothing else waits.
            workers: how many devices share the work.
        """
        self.token_budget = token_budget
        self.max_tokens = max_tokens
        self.tokens = 0
        """Tokens that wait."""
        self._workers = workers
        self._inside: deque[Request] = deque()
        self._outside: deque[Request] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        """Requests that wait, inside the bound and outside."""
        with self._changed:
            return len(self._inside) + len(self._outside)

    def put(self, request: Request) -> None:
        """Queue a request; its `admitted` says when it is within the bound."""
        with self._changed:
            if self._closed:
                raise ClosedError("this scorer was closed: load it again")
            self._outside.append(request)
            self._admit()

    def take(self) -> list[Task] | None:
        """The next batch, longest sequence first, once there is one; None when the queue was closed."""
        with self._changed:
            while True:
                if self._closed:
                    return None
                self._drop_settled()
                self._admit()
                if not self._inside:
                    self._changed.wait()
                    continue
                lead = self._inside[0]
                try:
                    return self._next_batch()
                except Exception as error:  # noqa: BLE001 - whatever it is must not end the worker, and so every request
                    self._inside.remove(lead)
                    lead.fail(error)

    def put_back(self, tasks: Iterable[Task]) -> None:
        """Queue tasks once more that were taken and not run."""
        with self._changed:
            for task in tasks:
                if self._closed:
                    task.request.fail(ClosedError(_CLOSED))
                    continue
                if not task.request.waiting:
                    self._inside.append(task.request)
                task.request.waiting.append(task.position)
                self.tokens += task.tokens
            self._changed.notify_all()

    def shrink(self, failed_tokens: int) -> None:
        """A batch of this many tokens did not fit the device's memory: plan at most half of it from now on."""
        with self._changed:
            self.token_budget = max(1, min(self.token_budget, failed_tokens // 2))

    def close(self) -> None:
        """Take nothing more; what waits fails."""
        with self._changed:
            self._closed = True
            waiting = [*self._inside, *self._outside]
            self._inside.clear()
            self._outside.clear()
            self._changed.notify_all()
        for request in waiting:
            request.fail(ClosedError(_CLOSED))

    def _admit(self) -> None:
        while self._outside:
            request = self._outside[0]
            if not request.future.done():
                if self._inside and self.tokens + request.tokens > self.max_tokens:
                    return
                self._inside.append(request)
                self.tokens += request.tokens
                self._changed.notify_all()
            self._outside.popleft()
            settle(request.admitted.set_result, None)

    def _drop_settled(self) -> None:
        """Forget requests whose caller is gone, or part of which failed."""
        for request in [request for request in self._inside if request.future.done()]:
            self._inside.remove(request)
            self.tokens -= sum(len(request.sequences[position].ids) for position in request.waiting)

    def _next_batch(self) -> list[Task]:
        recipe = self._inside[0].recipe
        budget = min(self.token_budget, -(-self.tokens // self._workers))  # leave the other devices their share
        turn = deque(request for request in self._inside if request.recipe == recipe)
        others = [request for request in self._inside if request.recipe != recipe]
        batch: list[Task] = []
        tokens = 0
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
        self._inside = deque([*others, *turn])  # whoever had no turn now is first next time
        self.tokens -= tokens
        return sorted(batch, key=lambda task: -task.tokens)
