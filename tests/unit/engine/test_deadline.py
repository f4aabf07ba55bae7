"""The end of a call's time, and what waiting past it raises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from bge_rerank_integrations.engine.deadline import Deadline
from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.errors import QueueFull, Timeout
from tests.unit.engine.conftest import Adder, hold, submit


def test_without_a_timeout_there_is_no_end(engine_of: Callable[..., Engine]) -> None:
    assert Deadline(engine_of(), None).remaining is None


def test_time_runs_down_to_nothing_and_not_below(engine_of: Callable[..., Engine]) -> None:
    remaining = Deadline(engine_of(), 1000).remaining
    assert remaining is not None
    assert 0 < remaining <= 1000
    over = Deadline(engine_of(), 1e-9)
    while over.remaining:  # until the clock has moved
        pass
    assert over.remaining == 0


def test_waiting_for_room_too_long_says_how_full_the_queue_is(engine_of: Callable[..., Engine], replica: Adder) -> None:
    engine = engine_of(max_queued_tokens=4, timeout=0.001)
    hold(engine, replica)
    submit(engine, [1, 1, 1])
    outside = submit(engine, [2, 2])
    deadline = Deadline(engine, engine.settings.timeout)
    said = r"queue full: 3 of 4 tokens after 0\.001 s.*max_queued_tokens"
    with pytest.raises(QueueFull, match=said), deadline.or_queue_full():
        outside.admitted.result(deadline.remaining)
    replica.go.set()


def test_waiting_for_scores_too_long_says_what_waits(engine_of: Callable[..., Engine], replica: Adder) -> None:
    engine = engine_of(timeout=0.001)
    held = hold(engine, replica)
    submit(engine, [1, 1])
    deadline = Deadline(engine, engine.settings.timeout)
    with pytest.raises(Timeout, match=r"not scored within 0\.001 s; 2 tokens are waiting"), deadline.or_timeout():
        held.future.result(deadline.remaining)
    replica.go.set()


async def test_awaiting_ends_in_the_same_errors(engine_of: Callable[..., Engine]) -> None:
    deadline = Deadline(engine_of(), 0.001)
    never: Future[None] = Future()
    with pytest.raises(Timeout), deadline.or_timeout():
        await asyncio.wait_for(asyncio.wrap_future(never), deadline.remaining)


def test_other_errors_pass(engine_of: Callable[..., Engine]) -> None:
    deadline = Deadline(engine_of(), 9)
    for waiting in (deadline.or_queue_full, deadline.or_timeout):
        with pytest.raises(ZeroDivisionError), waiting():
            _ = 1 // 0
