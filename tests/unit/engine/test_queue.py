"""Who waits, who is admitted, and what goes into the next batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.engine.queue import Queue
from bge_rerank_integrations.engine.sharing import Choice
from bge_rerank_integrations.engine.work import Recipe, Task
from bge_rerank_integrations.errors import ClosedError
from tests.unit.engine.conftest import LONG, Adder, hold, queue_of, request, submit


def test_requests_that_wait_share_batches_in_turn(engine_of: Callable[..., Engine], replica: Adder) -> None:
    engine = engine_of(token_budget=6)
    first = hold(engine, replica)
    long = submit(engine, *[[1, 1]] * 6)
    short = submit(engine, [2])
    replica.go.set()
    assert short.future.result(LONG) == [[2.0]]
    assert long.future.result(LONG) == [[2.0]] * 6
    assert first.future.result(LONG) == [[1000.0]]
    assert [2] in replica.batches[1]  # the short one did not wait for the long one's end


def test_recipes_do_not_share_batches_and_take_turns(engine_of: Callable[..., Engine], replica: Adder) -> None:
    engine = engine_of(token_budget=2)
    hold(engine, replica)
    plain = submit(engine, [1], [1], [1], [1])
    other = submit(engine, [5], recipe=Recipe(cutoffs=(8,)))
    replica.go.set()
    assert other.future.result(LONG) == [[5.0, 8.0]]
    assert plain.future.result(LONG) == [[1.0]] * 4
    assert replica.batches[1:3] == [[[1], [1]], [[5]]]


def test_a_fault_in_planning_fails_one_request_and_not_the_worker(
    engine_of: Callable[..., Engine], replica: Adder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it comes after sequences were taken: they must not be lost."""
    engine = engine_of()
    plan = Queue._plan

    def faulty(queue: Queue, batch: list[Task], choice: Choice | None) -> None:
        plan(queue, batch, choice)
        if any(task.sequence.ids == [13] for task in batch):
            raise MemoryError("planning failed")

    monkeypatch.setattr(Queue, "_plan", faulty)
    hold(engine, replica)
    unlucky = submit(engine, [13], [14])
    replica.go.set()
    with pytest.raises(MemoryError, match="planning failed"):
        unlucky.future.result(LONG)
    assert submit(engine, [4]).future.result(LONG) == [[4.0]]
    assert engine.stats().queued_tokens == 0


def test_beyond_the_bound_requests_wait_outside(engine_of: Callable[..., Engine], replica: Adder) -> None:
    engine = engine_of(max_queued_tokens=4)
    hold(engine, replica)
    inside, outside, cancelled = submit(engine, [1, 1, 1]), submit(engine, [2, 2]), submit(engine, [3])
    assert inside.admitted.done()
    assert not outside.admitted.done()
    assert not cancelled.admitted.done()  # first come, first admitted
    assert cancelled.future.cancel()
    replica.go.set()
    assert outside.future.result(LONG) == [[4.0]]
    huge = submit(engine, [1] * 50)  # more than ever may wait runs when nothing else does
    assert huge.future.result(LONG) == [[50.0]]


# --- the queue alone --------------------------------------------------------------------------------------------------


def taken(queue: Queue) -> list[list[int]]:
    batch = queue.take()
    assert batch is not None
    return [task.sequence.ids for task in batch.tasks]


def test_a_batch_holds_what_the_budget_allows_and_one_longer_sequence_goes_alone() -> None:
    queue = queue_of(4, 1000, 1)
    queue.put(request([1] * 9, [2] * 2, [3] * 2, [4]))
    assert queue.tokens == 14
    assert taken(queue) == [[1] * 9]
    assert taken(queue) == [[2] * 2, [3] * 2]
    assert taken(queue) == [[4]]
    assert (queue.tokens, len(queue)) == (0, 0)


def test_several_devices_leave_each_other_their_share() -> None:
    queue = queue_of(100, 1000, 2)
    queue.put(request([1], [2], [3], [4]))
    assert [len(taken(queue)) for _ in range(3)] == [2, 1, 1]


def test_a_batch_that_did_not_fit_halves_the_budget_and_never_to_nothing() -> None:
    queue = queue_of(100, 1000, 1)
    for failed, budget in ((80, 40), (200, 40), (9, 4), (1, 1)):
        queue.shrink(failed)
        assert queue.token_budget == budget


def test_what_is_put_back_is_taken_again() -> None:
    queue = queue_of(100, 1000, 1)
    made = request([1], [2, 2])
    queue.put(made)
    batch = queue.take()
    assert batch is not None
    queue.put_back(batch.tasks)
    assert queue.tokens == 3
    assert taken(queue) == [[2, 2], [1]]


def test_a_closed_queue_gives_nothing_and_takes_nothing() -> None:
    queue = queue_of(100, 1000, 1)
    running, waiting = request([1]), request([2])
    queue.put(running)
    batch = queue.take()
    assert batch is not None
    queue.put(waiting)
    queue.close()
    assert queue.take() is None
    queue.put_back(batch.tasks)
    for made in (running, waiting):
        with pytest.raises(ClosedError, match="closed before this request was scored"):
            made.future.result(LONG)
    with pytest.raises(ClosedError, match="load it again"):
        queue.put(request([3]))


def test_nobody_is_left_when_the_last_worker_leaves() -> None:
    """Not even those whose sequences a worker took and never ran."""
    queue = queue_of(100, 1000, 2)
    lost = request([1], [2])
    queue.put(lost)
    assert taken(queue) == [[1]]
    queue.leave(MemoryError("the reason"))
    with pytest.raises(MemoryError, match="the reason"):
        lost.future.result(LONG)
    lost = request([1])
    queue = queue_of(100, 1000, 2)
    queue.put(lost)
    assert queue.take() is not None
    queue.leave(MemoryError("the reason"))
    assert not lost.future.done()  # the other worker may have it
    queue.leave()
    with pytest.raises(ClosedError):
        lost.future.result(LONG)


def test_two_doors() -> None:
    """The oldest comes in while there is room; the smallest, by a door of its own, while large ones wait outside."""
    queue = queue_of(100, 800, 1)
    first, large, small, smaller = request([1] * 700), request([1] * 600), request([1] * 9), request([1] * 3)
    for made in (first, large, small, smaller):
        queue.put(made)
    assert [made.admitted.done() for made in (first, large, small, smaller)] == [True, False, True, True]
    many = [request([1]) for _ in range(100)]
    for made in many:
        queue.put(made)
    assert queue.tokens <= 800
    assert large.future.cancel()
    queue.put(request([2]))  # and the others, who came by arrival after it, are let in
    assert taken(queue) == [[1] * 700]


def test_what_has_left_is_forgotten() -> None:
    """Neither requests that are cancelled outside, nor their numbers, pile up while nothing has room."""
    queue = queue_of(100, 80, 1)
    queue.put(request([1] * 70))
    queue.put(request([1] * 60))
    for _ in range(500):
        gone = request([1] * 50)
        queue.put(gone)
        assert gone.future.cancel()
    assert len(queue) == 2
    assert len(queue._by_size) < 100
    queue = queue_of(100, 80, 1)
    for _ in range(500):
        queue.put(request([1]))
        assert queue.take()
    assert len(queue._by_size) < 100
