"""What a worker does when batches, hooks or callers fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.errors import OutOfMemory
from tests.unit.engine.conftest import LONG, Adder, hold, submit


def test_an_error_reaches_its_callers_and_no_others(engine_of: Callable[..., Engine], replica: Adder) -> None:
    engine = engine_of(token_budget=2)
    replica.fail_on = 13
    hold(engine, replica)
    bad, good = submit(engine, [13, 1], [1, 1]), submit(engine, [2, 2], [3, 3])
    replica.go.set()
    with pytest.raises(RuntimeError, match="cannot score 13"):
        bad.future.result(LONG)
    assert good.future.result(LONG) == [[4.0], [6.0]]
    assert submit(engine, [4]).future.result(LONG) == [[4.0]]


def test_out_of_memory_halves_down_to_one(engine_of: Callable[..., Engine], replica: Adder) -> None:
    engine = engine_of(token_budget=64)
    replica.memory = 3
    made = submit(engine, *[[i, i] for i in range(8)])
    assert made.future.result(LONG) == [[2.0 * i] for i in range(8)]
    stats = engine.stats()
    assert stats.out_of_memory == 7  # 8, 4, 4, 2, 2, 2, 2 sequences did not fit
    assert stats.token_budget < 16  # later batches are planned smaller
    too_long = submit(engine, [1, 1, 1, 1])
    with pytest.raises(OutOfMemory, match="4 tokens"):
        too_long.future.result(LONG)
    assert submit(engine, [1]).future.result(LONG) == [[1.0]]


def test_callers_are_told_which_sequences_are_scored(engine_of: Callable[..., Engine]) -> None:
    seen: list[list[int]] = []
    made = submit(engine_of(token_budget=2), [1], [1, 1], [1], on_scored=seen.append)
    made.future.result(LONG)
    assert seen == [[1], [0, 2]]  # the longest first


def test_a_caller_that_cannot_be_told_is_the_only_one_to_fail(engine_of: Callable[..., Engine], replica: Adder) -> None:
    engine = engine_of()

    def refuse(indices: list[int]) -> None:
        raise MemoryError

    hold(engine, replica)
    before, failing, after = submit(engine, [1]), submit(engine, [2], on_scored=refuse), submit(engine, [3])
    replica.go.set()
    with pytest.raises(MemoryError):
        failing.future.result(LONG)
    assert before.future.result(LONG) == [[1.0]]
    assert after.future.result(LONG) == [[3.0]]
    assert len(replica.batches) == 2  # all three were in one


def test_a_hook_that_fails_costs_no_score(engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(on_batch=lambda batch: 1 // 0)
    assert submit(engine, [1]).future.result(LONG) == [[1.0]]
    engine.close()
    assert engine.stats().hook_errors == 1
    assert "ZeroDivisionError" in str(engine.stats().last_hook_error)
