"""Who waits, who is admitted, and what goes into the next batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.engine.queue import Queue
from bge_rerank_integrations.engine.work import Recipe
from tests.unit.engine.conftest import LONG, Adder, hold, submit


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
    engine = engine_of()
    plan, calls = Queue._next_batch, []

    def faulty(queue: Queue) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("planning failed")
        return plan(queue)

    monkeypatch.setattr(Queue, "_next_batch", faulty)
    hold(engine, replica)
    unlucky = submit(engine, [1])
    replica.go.set()
    with pytest.raises(RuntimeError, match="planning failed"):
        unlucky.future.result(LONG)
    assert submit(engine, [4]).future.result(LONG) == [[4.0]]


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
