"""Requests that wait for a device, the limit on how much may wait, and which sequences go into the next batch.

At most `max_tokens` wait inside the queue; other requests wait outside. Two doors lead inside. Through the first, for
seven eighths of the limit, requests come in the order of their arrival. Through the second, for the last eighth, comes
the smallest request outside, whoever came before it, if it takes no more than an eighth of the room there: the smaller
a request is, the more surely it finds room, and a few pairs do not wait until thousands of others are scored.

Inside, callers take turns: each gives one sequence to the next batch, then the next caller does. Recipes cannot share a
batch, and take turns as well. The cost of a step grows at most with the logarithm of how many requests wait.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable
from concurrent.futures import Future
from heapq import heapify, heappop, heappush
from itertools import chain, count
from queue import SimpleQueue
from typing import NamedTuple

from bge_rerank_integrations.engine.sharing import Choice, Sharing, Way
from bge_rerank_integrations.engine.work import LayerScores, Recipe, Request, Task, settle
from bge_rerank_integrations.errors import ClosedError

_CLOSED = "the scorer was closed before this request was scored"
SMALL_PART = 8
"""One in so many of the tokens inside is for the second door, and one in so many of those for a single request."""
BY_ARRIVAL, BY_SIZE = 0, 1
"""The doors."""
BATCHES_TO_RECOVER = 16
"""After this many batches in a row that fitted, batches may be larger again."""


class Taken(NamedTuple):
    """A batch for a worker."""

    tasks: list[Task]
    choice: Choice | None = None
    """How to compute it, if it is part of too little work for all workers; otherwise side by side."""


class Queue:
    """What waits, and the limit on it. Any number of threads may use it."""

    def __init__(self, token_budget: int, max_tokens: int) -> None:
        """
        Args:
            token_budget: tokens in a batch at most; a longer sequence is a batch of its own.
            max_tokens: tokens that may wait inside. A request that has no room waits outside; one that is larger than
                this waits until nothing else that came before it is left.
        """
        self.max_tokens = max_tokens
        self._for_small = max_tokens // SMALL_PART
        self._budget = self._full_budget = token_budget
        self._good_batches = 0
        self._patience = BATCHES_TO_RECOVER
        self._raised = False
        self._workers = self._idle = 0
        self._shares = 0
        self._sharing: Sharing | None = None
        self._inside = [0, 0]
        """Tokens that wait, by the door through which their request came."""
        self._outside: dict[int, Request] = {}
        """By arrival."""
        self._by_size: list[tuple[int, int]] = []
        """A heap of the tokens and the numbers of those outside, and perhaps of some that have left."""
        self._numbers = count()
        self._turns: OrderedDict[Recipe, OrderedDict[Hashable, deque[Request]]] = OrderedDict()
        self._unsettled: dict[Future[list[LayerScores]], Request] = {}
        self._lock = threading.RLock()
        self._bell: SimpleQueue[None] = SimpleQueue()
        """What idle workers wait for. One that comes later hears it, too, as it would not hear a condition: the garbage
        collector may close a queue in its own worker's thread, just before that waits."""
        self._closed = False

    @property
    def tokens(self) -> int:
        """Tokens that wait inside."""
        return sum(self._inside)

    @property
    def token_budget(self) -> int:
        """Tokens in a batch at most, now."""
        return self._budget

    @token_budget.setter
    def token_budget(self, tokens: int) -> None:
        with self._lock:
            self._budget = self._full_budget = tokens

    @property
    def closed(self) -> bool:
        return self._closed

    def __len__(self) -> int:
        """Requests that wait, inside and outside."""
        with self._lock:
            return sum(1 for request in self._unsettled.values() if request.waiting)

    def put(self, request: Request) -> None:
        """Queue a request; its `admitted` is done when it is inside."""
        request.future.add_done_callback(self._forget)  # which holds no request: it is free without the collector
        with self._lock:
            if self._closed:
                raise ClosedError("this scorer was closed: load it again")
            if request.future.done():
                return
            if request.sequences:
                self._unsettled[request.future] = request
                request.number = next(self._numbers)
                if len(self._by_size) > 2 * len(self._outside) + 64:  # most have left: forget them
                    self._by_size = [(one.tokens, number) for number, one in self._outside.items()]
                    heapify(self._by_size)
                heappush(self._by_size, (request.tokens, request.number))
                self._outside[request.number] = request
                self._admit()
                return
        settle(request.admitted.set_result, None)
        request.fill(())

    def enter(self, workers: int, shares: int, sharing: Sharing | None = None) -> None:
        """So many workers come: each takes batches and `leave`s once.

        Args:
            shares: how many of them compute side by side, so that what waits is divided among them.
            sharing: chooses the way for work that is too little for all of them; None: always side by side.
        """
        with self._lock:
            self._workers += workers
            self._shares += shares
            self._sharing = sharing

    def share(self, sharing: Sharing) -> None:
        """Choose the way for little work by this from now on, if there is a choice."""
        with self._lock:
            if self._sharing is not None:
                self._sharing = sharing

    def take(self) -> Taken | None:
        """The next batch, longest sequence first, once there is one; None when the queue was closed."""
        with self._lock:
            self._idle += 1
        while True:
            with self._lock:
                if self._closed:
                    return None
                batch: list[Task] = []
                try:
                    self._admit()
                    choice = self._choose()
                    self._plan(batch, choice)
                except BaseException as error:  # noqa: BLE001 - no error here may end the worker, or lose a task
                    self._drop(batch, error)
                    continue
                if batch:
                    self._idle -= 1
                    return Taken(batch, choice)
                if self._turns:
                    continue  # what was first in turn had been cancelled
            self._bell.get()

    def measured(self, choice: Choice, tokens: int, seconds: float) -> None:
        """What a worker took for a batch of such a choice."""
        if self._sharing is not None:
            self._sharing.measured(choice, tokens, seconds)

    def put_back(self, tasks: Iterable[Task]) -> None:
        """Queue tasks again that were taken and not run."""
        late = []
        with self._lock:
            for task in tasks:
                request = task.request
                if self._closed:
                    late.append(request)
                elif not request.future.done():
                    if not request.waiting:
                        self._stand(request)
                    request.waiting.append(task.position)
                    self._inside[request.door] += task.tokens
            self._ring()
        for request in late:
            request.fail(ClosedError(_CLOSED))

    def shrink(self, failed_tokens: int) -> None:
        """A batch of this many tokens did not fit the device's memory: use at most half as many for some time."""
        with self._lock:
            self._budget = max(1, min(self._budget, failed_tokens // 2))
            self._good_batches = 0
            if self._raised:  # what fails again is tried less often
                self._patience = min(2 * self._patience, 64 * BATCHES_TO_RECOVER)
                self._raised = False

    def fitted(self) -> None:
        """A batch ran: after some of them in a row batches may be larger again, up to what was asked for."""
        with self._lock:
            full = self._budget == self._full_budget
            if full and self._patience == BATCHES_TO_RECOVER:
                return
            self._good_batches += 1
            if self._good_batches < self._patience:
                return
            self._good_batches = 0
            if full:
                self._patience = BATCHES_TO_RECOVER
                self._raised = False
            else:
                self._budget = min(self._full_budget, 2 * self._budget)
                self._raised = True

    def close(self, error: BaseException | None = None) -> None:
        """Take nothing more; what waits fails, with the error given or a `ClosedError`."""
        with self._lock:
            self._closed = True
            waiting = [request for request in self._unsettled.values() if request.waiting]
            self._turns.clear()
            self._ring()
        for request in waiting:
            request.fail(error or ClosedError(_CLOSED))

    def leave(self, error: BaseException | None = None) -> None:
        """A worker ends, and so does the queue. When the last one is gone, nobody is left without an answer."""
        self.close(error)
        with self._lock:
            self._workers -= 1
            left = [] if self._workers else list(self._unsettled.values())
        for request in left:
            request.fail(error or ClosedError(_CLOSED))

    def _ring(self) -> None:
        while self._bell.qsize() < self._workers:
            self._bell.put(None)

    def _admit(self) -> None:
        if not self._turns:
            self._inside = [0, 0]  # whatever an exception has interrupted
        while self._outside:
            oldest = next(iter(self._outside.values()))
            tokens = self._inside[BY_ARRIVAL] and self._inside[BY_ARRIVAL] + oldest.tokens
            if tokens <= self.max_tokens - self._for_small:
                self._let_in(oldest, BY_ARRIVAL)
                continue
            smallest = self._smallest()
            if self._inside[BY_SIZE] + SMALL_PART * smallest.tokens > self._for_small:
                break
            self._let_in(smallest, BY_SIZE)

    def _smallest(self) -> Request:
        """The smallest request outside, of equal ones the oldest."""
        while self._by_size[0][1] not in self._outside:
            heappop(self._by_size)
        return self._outside[self._by_size[0][1]]

    def _let_in(self, request: Request, door: int) -> None:
        self._stand(request)
        request.door = door
        self._inside[door] += request.tokens
        del self._outside[request.number]
        self._ring()
        settle(request.admitted.set_result, None)

    def _stand(self, request: Request) -> None:
        """Take a place: after the caller's other requests, a new caller after the others of its recipe."""
        self._turns.setdefault(request.recipe, OrderedDict()).setdefault(request.caller, deque()).append(request)

    def _forget(self, future: Future[list[LayerScores]]) -> None:
        """A request is settled: none of it waits any more. It is skipped when its turn comes."""
        with self._lock:
            request = self._unsettled.pop(future, None)
            if request is None:
                return
            if self._outside.pop(request.number, None) is None:
                self._inside[request.door] -= sum(len(request.sequences[index].ids) for index in request.waiting)
            request.waiting.clear()
            self._ring()

    def _drop(self, batch: list[Task], error: BaseException) -> None:
        """Planning a batch failed: give the error to those who are in it, or to the next in turn."""
        hit = {task.request for task in batch}
        if not hit and self._turns:
            recipe, callers = next(iter(self._turns.items()))
            _, requests = callers.popitem(last=False)
            if not callers:
                del self._turns[recipe]
            hit.update(requests)
        elif not hit:
            hit.update(list(self._outside.values())[:1])
        if not hit:
            raise error
        for request in hit:
            request.fail(error)

    def _choose(self) -> Choice | None:
        """How to compute what waits, if nothing else runs and it is fewer sequences than there are workers."""
        if self._sharing is None or self._idle < self._workers:
            return None
        lengths: list[int] = []
        for callers in self._turns.values():
            for request in chain.from_iterable(callers.values()):
                if len(lengths) + len(request.waiting) >= self._workers:
                    return None
                lengths += [len(request.sequences[index].ids) for index in request.waiting]
        return self._sharing.choose(lengths) if lengths else None

    def _plan(self, batch: list[Task], choice: Choice | None) -> None:
        """Add one sequence of each caller in turn, of the recipe whose turn it is; none if all were cancelled."""
        if not self._turns:
            return
        recipe, callers = next(iter(self._turns.items()))
        budget = self._budget
        if choice is None or choice.way is Way.SPLIT:
            budget = min(budget, -(-self.tokens // self._shares))  # leave their shares to the others
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
                self._inside[request.door] -= task.tokens
                request.waiting.popleft()
            if not request.waiting:  # taken whole, or cancelled
                requests.popleft()
            if requests:
                callers.move_to_end(caller)
            else:
                del callers[caller]
        if callers:
            self._turns.move_to_end(recipe)  # other recipes come first next time
        else:
            del self._turns[recipe]
        batch.sort(key=lambda task: -task.tokens)
