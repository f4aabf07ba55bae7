"""Requests that wait for a device, the limit on how much may wait, and which sequences go into the next batch.

At most `max_tokens` wait inside the queue; other requests wait outside, in two lanes. Large requests may fill seven
eighths of the limit. The last eighth is for small requests (up to `max_tokens` / 64, or one batch): a few pairs do not
wait until thousands of others are scored. While a large request waits outside, small ones use that eighth only, and
cannot hold the large one back for ever. Within a lane, requests are admitted in the order in which they came.

Inside, callers take turns: each gives one sequence to the next batch, then the next caller does. Recipes cannot share a
batch, and take turns as well. The cost of a step does not depend on how many requests wait.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable

from bge_rerank_integrations.engine.work import Recipe, Request, Task, settle
from bge_rerank_integrations.errors import ClosedError

_CLOSED = "the scorer was closed before this request was scored"
LARGE_SHARE = 7, 8
"""The part of the limit that large requests may fill."""
SMALL_SHARE = 1, 64
"""A request of at most this part of the limit, or of at most one batch, is a small one."""
BATCHES_TO_RECOVER = 16
"""After this many batches in a row that fitted, batches may be larger again."""


class Queue:
    """What waits, and the limit on it. Any number of threads may use it."""

    def __init__(self, token_budget: int, max_tokens: int, workers: int) -> None:
        """
        Args:
            token_budget: tokens in a batch at most; a longer sequence is a batch of its own.
            max_tokens: tokens that may wait inside. A request that has no room waits outside; one that is larger than
                this alone waits until nothing else does.
            workers: how many devices share the work.
        """
        self.max_tokens = max_tokens
        self._budget = self._full_budget = token_budget
        self._good_batches = 0
        self._patience = BATCHES_TO_RECOVER
        self._workers = workers
        self._tokens = self._large_tokens = 0
        self._turns: OrderedDict[Recipe, OrderedDict[Hashable, deque[Request]]] = OrderedDict()
        self._outside: dict[bool, deque[Request]] = {True: deque(), False: deque()}  # by whether a request is large
        self._requests: set[Request] = set()
        self._changed = threading.Condition(threading.RLock())
        self._closed = False

    @property
    def tokens(self) -> int:
        """Tokens that wait inside."""
        return self._tokens

    @property
    def token_budget(self) -> int:
        """Tokens in a batch at most, now."""
        return self._budget

    @token_budget.setter
    def token_budget(self, tokens: int) -> None:
        with self._changed:
            self._budget = self._full_budget = tokens

    @property
    def closed(self) -> bool:
        return self._closed

    def __len__(self) -> int:
        """Requests that wait, inside and outside."""
        return len(self._requests)

    def put(self, request: Request) -> None:
        """Queue a request; its `admitted` is done when it is inside."""
        with self._changed:
            if self._closed:
                raise ClosedError("this scorer was closed: load it again")
            if not request.sequences:
                request.fill(())
                return
            self._requests.add(request)
            self._outside[self._is_large(request)].append(request)
            self._admit()
        request.future.add_done_callback(lambda _: self._forget(request))

    def take(self) -> list[Task] | None:
        """The next batch, longest sequence first, once there is one; None when the queue was closed."""
        with self._changed:
            while not self._closed:
                self._admit()
                try:
                    batch = self._next_batch()
                except Exception as error:  # noqa: BLE001 - no error here may end the worker
                    self._drop_first(error)
                    continue
                if batch:
                    return batch
                if self._turns:
                    continue  # what was first in turn had been cancelled
                self._changed.wait()
            return None

    def put_back(self, tasks: Iterable[Task]) -> None:
        """Queue tasks again that were taken and not run."""
        late = []
        with self._changed:
            for task in tasks:
                request = task.request
                if self._closed:
                    late.append(request)
                elif not request.future.done():
                    if not request.waiting:
                        self._join(request)
                    request.waiting.append(task.position)
                    self._count(request, task.tokens)
            self._changed.notify_all()
        for request in late:
            request.fail(ClosedError(_CLOSED))

    def shrink(self, failed_tokens: int) -> None:
        """A batch of this many tokens did not fit the device's memory: use at most half as many for some time."""
        with self._changed:
            self._budget = max(1, min(self._budget, failed_tokens // 2))
            self._good_batches = 0
            self._patience = min(2 * self._patience, 64 * BATCHES_TO_RECOVER)  # what fails again is tried less often

    def fitted(self) -> None:
        """A batch ran: after some of them in a row batches may be larger again, up to what was asked for."""
        with self._changed:
            if self._budget == self._full_budget:
                return
            self._good_batches += 1
            if self._good_batches >= self._patience:
                self._good_batches = 0
                self._budget = min(self._full_budget, 2 * self._budget)
                if self._budget == self._full_budget:
                    self._patience = BATCHES_TO_RECOVER

    def close(self, error: BaseException | None = None) -> None:
        """Take nothing more; what waits fails, with the error given or a `ClosedError`."""
        with self._changed:
            self._closed = True
            waiting = list(self._requests)
            self._requests.clear()
            self._turns.clear()
            for lane in self._outside.values():
                lane.clear()
            self._tokens = self._large_tokens = 0
            self._changed.notify_all()
        for request in waiting:
            request.fail(error or ClosedError(_CLOSED))

    def _is_large(self, request: Request) -> bool:
        part, whole = SMALL_SHARE
        return request.tokens > max(self._full_budget, self.max_tokens * part // whole)

    def _count(self, request: Request, tokens: int) -> None:
        self._tokens += tokens
        if self._is_large(request):
            self._large_tokens += tokens

    def _admit(self) -> None:
        part, whole = LARGE_SHARE
        reserved = self.max_tokens * part // whole
        for large, lane in self._outside.items():
            while lane and (lane[0].future.done() or self._has_room(lane[0], large, reserved)):
                request = lane.popleft()
                if request.future.done():
                    continue
                self._join(request)
                self._count(request, request.tokens)
                self._changed.notify_all()
                settle(request.admitted.set_result, None)

    def _has_room(self, request: Request, large: bool, reserved: int) -> bool:
        if not self._tokens:
            return True  # one that is larger than the limit runs when nothing else waits
        if large:
            tokens = min(request.tokens, reserved)  # a larger one takes all of this part, once it is empty
            return self._large_tokens + tokens <= reserved and self._tokens + tokens <= self.max_tokens
        if self._outside[True]:
            own = max(self.max_tokens - reserved, self._full_budget)
            if self._tokens - self._large_tokens + request.tokens > own:
                return False
        return self._tokens + request.tokens <= self.max_tokens

    def _join(self, request: Request) -> None:
        """Admit a request: it comes after the caller's other requests, a new caller after the others of its recipe."""
        self._requests.add(request)
        request.inside = True
        self._turns.setdefault(request.recipe, OrderedDict()).setdefault(request.caller, deque()).append(request)

    def _forget(self, request: Request) -> None:
        """A request is settled: none of it waits any more. It is skipped when its turn comes."""
        with self._changed:
            if request not in self._requests:
                return
            self._requests.discard(request)
            if request.inside:
                waiting = sum(len(request.sequences[index].ids) for index in request.waiting)
                self._count(request, -waiting)
                request.waiting.clear()
            self._changed.notify_all()

    def _drop_first(self, error: Exception) -> None:
        """Give the error to the caller whose turn it is."""
        recipe, callers = next(iter(self._turns.items()))
        _, requests = callers.popitem(last=False)
        if not callers:
            del self._turns[recipe]
        for request in requests:
            request.fail(error)

    def _next_batch(self) -> list[Task]:
        """One sequence of each caller in turn, of the recipe whose turn it is; empty if all were cancelled."""
        if not self._turns:
            return []
        recipe, callers = next(iter(self._turns.items()))
        budget = min(self._budget, -(-self._tokens // self._workers))  # leave a share for the other devices
        batch: list[Task] = []
        tokens = 0
        while callers:
            caller, requests = next(iter(callers.items()))
            request = requests[0]
            if request.waiting:
                task = Task(request, request.waiting[0])
                if batch and tokens + task.tokens > budget:
                    break
                batch.append(task)
                tokens += task.tokens
                self._count(request, -task.tokens)
                request.waiting.popleft()
            if not request.waiting:  # taken whole, or cancelled
                self._requests.discard(request)
                requests.popleft()
            if requests:
                callers.move_to_end(caller)
            else:
                del callers[caller]
        if callers:
            self._turns.move_to_end(recipe)  # other recipes come first next time
        else:
            del self._turns[recipe]
        return sorted(batch, key=lambda task: -task.tokens)
