"""Scores that are remembered, and work that is not done twice at once."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue

import pytest

from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.engine.work import Recipe
from tests.unit.engine.conftest import LONG, Adder, hold, submit


def test_the_cache_runs_the_same_once(engine_of: Callable[..., Engine], replica: Adder) -> None:
    engine = engine_of(cache_size=2)
    made = submit(engine, [1], [2], [1])
    assert made.future.result(LONG) == [[1.0], [2.0], [1.0]]
    assert submit(engine, [2], [1]).future.result(LONG) == [[2.0], [1.0]]
    assert sum(len(batch) for batch in replica.batches) == 2
    assert engine.stats().cache_hit_rate == pytest.approx(3 / 5)
    submit(engine, [3], [4]).future.result(LONG)  # pushes 1 and 2 out
    submit(engine, [1]).future.result(LONG)
    assert sum(len(batch) for batch in replica.batches) == 5
    submit(engine, [1], recipe=Recipe(cutoffs=(3,))).future.result(LONG)  # another recipe is another score
    assert sum(len(batch) for batch in replica.batches) == 6


def test_the_same_on_two_devices_at_once_runs_once(engine_of: Callable[..., Engine]) -> None:
    both = [Adder(), Adder()]
    starts: SimpleQueue[Adder] = SimpleQueue()
    engine = engine_of(both, cache_size=9)
    for adder in both:
        adder.go.clear()
        adder.starts = starts
    first = submit(engine, [5])
    running = starts.get(timeout=LONG)
    second = submit(engine, [5])
    third = submit(engine, [6])  # runs on the other device, which by then has set the second aside
    assert starts.get(timeout=LONG) is not running
    for adder in both:
        adder.go.set()
    assert [made.future.result(LONG) for made in (first, second, third)] == [[[5.0]], [[5.0]], [[6.0]]]
    assert sorted(ids for adder in both for batch in adder.batches for ids in batch) == [[5], [6]]


def test_work_that_waited_for_a_failure_runs_after_all(engine_of: Callable[..., Engine], replica: Adder) -> None:
    engine = engine_of(cache_size=9, token_budget=1)
    replica.fail_on = 13
    hold(engine, replica)
    doomed, twin = submit(engine, [13]), submit(engine, [13])
    replica.go.set()
    for made in (doomed, twin):
        with pytest.raises(RuntimeError, match="cannot score 13"):
            made.future.result(LONG)
    replica.fail_on = None
    assert submit(engine, [13]).future.result(LONG) == [[13.0]]
