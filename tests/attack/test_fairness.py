"""Who is served when: counted in batches and in steps, never in seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.engine import queue as queue_module
from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.engine.work import Recipe, Request, TokenSequence
from tests.attack.conftest import ENCODER, Device, in_thread
from tests.unit.engine.conftest import LONG, Adder, hold, queue_of, request, submit


def batches_until(device: Device, ids: list[int], since: int) -> int:
    """How many batches ran since then, up to the one that has this sequence."""
    return next(i for i, batch in enumerate(device.batches[since:], 1) if any(one.ids == ids for one in batch))


@pytest.mark.parametrize("bulk", [4, 8])
def test_a_pair_among_bulk_callers_is_in_one_of_the_next_batches(bulk: int, device: Device) -> None:
    """The queue is full: bulk callers stand inside and outside."""
    with load_scorer(ENCODER, token_budget=256, max_queued_tokens=4_000) as scorer:
        (tiny,) = scorer._inputs.encode([("tiny", "pair")])
        device.hold()
        texts = [[f"text {i} of caller {caller}" for i in range(300)] for caller in range(bulk)]
        callers = [in_thread(lambda mine=mine: scorer.score("bulk", mine)) for mine in texts]
        while scorer.stats().queued_requests < bulk:
            pass
        before = len(device.batches)
        small = in_thread(lambda: scorer.score("tiny", ["pair"]))
        while scorer.stats().queued_requests < bulk + 1:
            pass
        device.go.set()
        assert len(small()) == 1
        assert batches_until(device, tiny.ids, before) <= 2
        for caller, mine in zip(callers, texts, strict=True):
            assert len(caller()) == len(mine)


@pytest.mark.parametrize("size", [2000, 500, 60, 30])
@pytest.mark.parametrize("waiting", [10, 500])
def test_ten_pairs_among_requests_of_any_size(
    size: int, waiting: int, engine_of: Callable[..., Engine], replica: Adder
) -> None:
    """Also among so many of middling size that they fill the queue and more."""
    engine = engine_of(token_budget=1024, max_queued_tokens=100_000)
    hold(engine, replica)
    others = [submit(engine, *[[7] * 10] * size) for _ in range(waiting)]
    before = len(replica.batches)
    small = submit(engine, *[[1] * 10] * 10)
    small.future.add_done_callback(lambda _: done.append(len(replica.batches)))
    done: list[int] = []
    replica.go.set()
    small.future.result(LONG)
    in_turn = -(-waiting * 10 // 1024)  # batches in which everybody has a turn
    assert done[0] - before <= 10 * in_turn + 10
    for other in others:
        other.future.cancel()


def test_one_large_request_among_ever_more_small_ones() -> None:
    """Nor do small ones that keep coming hold up a large one, which leads the line."""
    queue = queue_of(100, 800, 1)
    large = request(*[[7] * 10] * 60)
    queue.put(request(*[[1] * 10] * 70))
    queue.put(large)
    for _ in range(20):
        while queue.tokens < 800 and len(queue) < 200:
            queue.put(request([1] * 10))
        assert queue.take()
    assert large.admitted.done()


def test_recipes_take_turns() -> None:
    queue = queue_of(10, 10_000, 1)
    for layer in range(20):
        for _ in range(5):
            queue.put(request(*[[1] * 5] * 4, recipe=Recipe(cutoffs=(layer,))))
    seen = [taken.tasks[0].request.recipe for _ in range(20) if (taken := queue.take())]
    assert len(set(seen)) == 20


def lines_of(work: Callable[[], Any]) -> int:
    """How many lines of the queue's code run in it."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename != queue_module.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def steps(waiting: int, max_tokens: int) -> list[int]:
    """Of one batch, one arrival, one cancellation; with so many callers of three sequences each."""
    queue = queue_of(300, max_tokens, 1)
    requests = [Request([TokenSequence([1] * 10, (0, 10))] * 3, Recipe()) for _ in range(waiting)]
    for one in requests:
        queue.put(one)
    arrival = request([1] * 5)
    return [
        lines_of(lambda: [queue.take() for _ in range(5)]),
        lines_of(lambda: queue.put(arrival)),
        lines_of(arrival.future.cancel),
        lines_of(requests[waiting // 2].future.cancel),
    ]


@pytest.mark.parametrize("max_tokens", [10_000, 10**9], ids=["outside", "inside"])
def test_a_step_costs_the_same_however_many_wait(max_tokens: int) -> None:
    few, many = steps(1000, max_tokens), steps(40_000, max_tokens)
    assert all(after <= 1.5 * before + 20 for before, after in zip(few, many, strict=True)), (few, many)
