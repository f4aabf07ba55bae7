"""The engine with a runner that the test controls: sharing, fairness, closing, the fork."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError

import pytest

from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.errors import ClosedError
from bge_rerank_integrations.options import EngineSettings
from tests.unit.engine.conftest import LONG, Adder, hold, made_by, submit


def test_rows_come_back_in_the_order_given(engine_of: Callable[..., Engine], replica: Adder) -> None:
    made = submit(engine_of(token_budget=4), [1], [2, 2, 2, 2, 2], [3, 3], [4])
    assert made.future.result(LONG) == [[1.0], [10.0], [6.0], [4.0]]
    assert [[sum(ids) for ids in batch] for batch in replica.batches] == [[10], [6, 1, 4]]  # the long one runs alone


def test_each_replica_is_made_in_the_thread_that_runs_it(replica: Adder) -> None:
    makers: list[threading.Thread] = []
    make = made_by(replica, makers)
    runners: list[threading.Thread] = []
    replica.running_in = runners
    engine = Engine([make, make], EngineSettings())
    submit(engine, [1]).future.result(LONG)
    engine.close()
    assert len(set(makers)) == 2
    assert set(runners) < set(makers)


def test_a_replica_that_cannot_be_made_ends_the_others(replica: Adder) -> None:
    makers: list[threading.Thread] = []
    make = made_by(replica, makers)
    with pytest.raises(ZeroDivisionError):
        Engine([make, lambda: 1 // 0], EngineSettings())  # type: ignore[list-item, return-value]
    makers[0].join(LONG)
    assert replica.closed


def test_batches_fit_the_smallest_device_unless_told_otherwise(engine_of: Callable[..., Engine]) -> None:
    both = [Adder(), Adder()]
    both[1].budget = 7
    assert engine_of(both, token_budget=None).stats().token_budget == 7
    assert engine_of(both, token_budget=30).stats().token_budget == 30


def test_two_replicas_share_one_request(engine_of: Callable[..., Engine]) -> None:
    both = [Adder(), Adder()]
    gate = threading.Barrier(2)
    for adder in both:
        adder.go.wait = lambda timeout, gate=gate: gate.wait(timeout) >= 0  # type: ignore[method-assign, misc]
    made = submit(engine_of(both), [1, 1], [2, 2])
    assert made.future.result(LONG) == [[2.0], [4.0]]  # the barrier opens only if both got a share
    assert [len(adder.batches) for adder in both] == [1, 1]


def test_cancelled_work_is_not_run(engine_of: Callable[..., Engine], replica: Adder) -> None:
    engine = engine_of()
    hold(engine, replica)
    gone, stays = submit(engine, [7]), submit(engine, [8])
    assert gone.future.cancel()
    replica.go.set()
    assert stays.future.result(LONG) == [[8.0]]
    assert [7] not in [ids for batch in replica.batches for ids in batch]
    with pytest.raises(CancelledError):
        gone.future.result(LONG)
    assert engine.stats().queued_tokens == 0


def test_close_fails_what_waits_and_ends_the_threads(engine_of: Callable[..., Engine], replica: Adder) -> None:
    engine = engine_of(max_queued_tokens=1)
    before = threading.active_count()
    running = hold(engine, replica)
    waiting, outside = submit(engine, [1]), submit(engine, [2])
    closing = threading.Thread(target=engine.close)
    closing.start()
    for made in (waiting, outside):
        with pytest.raises(ClosedError):
            made.future.result(LONG)
    replica.go.set()
    closing.join(LONG)
    assert running.future.result(LONG) == [[1000.0]]
    assert replica.closed
    assert threading.active_count() < before
    engine.close()
    with pytest.raises(ClosedError):
        submit(engine, [1])


def test_an_engine_that_is_dropped_ends_its_threads(replica: Adder) -> None:
    engine = Engine([made_by(replica)], EngineSettings(token_budget=10))
    assert submit(engine, [1]).future.result(LONG) == [[1.0]]
    del engine
    gc.collect()
    assert replica.closed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_is_told_to_load_for_itself(engine_of: Callable[..., Engine]) -> None:
    engine = engine_of()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # in the child: nothing but this, so that no fixture runs twice
        try:
            submit(engine, [1])
        except ClosedError as error:
            os.write(writing, str(error).encode())
        engine.close()
        os._exit(0)
    os.close(writing)
    assert b"load it again after the fork" in os.read(reading, 1000)
    assert os.waitpid(child, 0)[1] == 0
    os.close(reading)
    assert submit(engine, [1]).future.result(LONG) == [[1.0]]


def test_stats_and_the_hook(engine_of: Callable[..., Engine]) -> None:
    reports = []
    engine = engine_of(token_budget=2, on_batch=reports.append)
    submit(engine, [1], [1, 1], [1]).future.result(LONG)
    engine.close()  # which lets the hook see everything
    stats = engine.stats()
    assert (stats.tokens, stats.batches, stats.queued_tokens, stats.queued_requests) == (4, 2, 0, 0)
    assert [(report.sequences, report.tokens) for report in reports] == [(1, 2), (2, 2)]
    assert stats.seconds_forward > 0
