"""The engine with a replica that the test controls: sharing, fairness, faults, bounds, closing, caching."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from queue import SimpleQueue

import pytest

from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.engine.queue import Queue
from bge_rerank_integrations.engine.work import DoesNotFit, LayerScores, Recipe, Request, TokenSequence
from bge_rerank_integrations.errors import ClosedError, OptionError, OutOfMemory
from bge_rerank_integrations.model.families.base import Dimensions
from bge_rerank_integrations.model.replica import CUDA_TOKEN_BUDGET, affordable_tokens
from bge_rerank_integrations.options import EngineSettings

LONG = 60  # seconds no test should ever wait


class Adder:
    """Scores a sequence by the sum of its ids; records batches; a test may hold it and make it fail."""

    def __init__(self) -> None:
        self.batches: list[list[list[int]]] = []
        self.go = threading.Event()
        self.go.set()
        self.started = threading.Event()
        self.starts: SimpleQueue[Adder] = SimpleQueue()
        self.memory = 10**9
        self.fail_on: int | None = None
        self.closed = False
        self.budget = 100
        self.running_in: list[threading.Thread] = []

    def token_budget(self) -> int:
        return self.budget

    def run(self, sequences: Sequence[TokenSequence], recipe: Recipe) -> list[LayerScores]:
        self.started.set()
        self.running_in.append(threading.current_thread())
        self.starts.put(self)
        assert self.go.wait(LONG)
        ids = [sequence.ids for sequence in sequences]
        self.batches.append(ids)
        if sum(map(len, ids)) > self.memory:
            raise DoesNotFit("no memory")
        if any(self.fail_on in i for i in ids):
            raise RuntimeError(f"cannot score {self.fail_on}")
        return [[float(sum(i)), *map(float, recipe.cutoffs)] for i in ids]

    def close(self) -> None:
        self.closed = True


def request(*ids: list[int], recipe: Recipe | None = None, **options: object) -> Request:
    return Request([TokenSequence(i, (0, len(i))) for i in ids], recipe or Recipe(), **options)  # type: ignore[arg-type]


def made_by(adder: Adder, threads: list[threading.Thread] | None = None) -> Callable[[], Adder]:
    """What gives the adder to an engine, and notes the threads that ask for it."""

    def make() -> Adder:
        if threads is not None:
            threads.append(threading.current_thread())
        return adder

    return make


@pytest.fixture
def replica() -> Adder:
    return Adder()


@pytest.fixture
def engine_of(replica: Adder) -> Iterator[Callable[..., Engine]]:
    engines = []

    def make(replicas: Sequence[Adder] = (replica,), **settings: object) -> Engine:
        engines.append(Engine([made_by(r) for r in replicas], EngineSettings(**({"token_budget": 100} | settings))))  # type: ignore[arg-type]
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def submit(engine: Engine, *ids: list[int], **options: object) -> Request:
    made = request(*ids, **options)  # type: ignore[arg-type]
    engine.submit(made)
    return made


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


def hold(engine: Engine, replica: Adder) -> Request:
    """Occupy the worker, so that what follows waits together."""
    replica.go.clear()
    first = submit(engine, [1000])
    assert replica.started.wait(LONG)
    return first


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


def test_two_replicas_share_one_request(engine_of: Callable[..., Engine]) -> None:
    both = [Adder(), Adder()]
    gate = threading.Barrier(2)
    for adder in both:
        adder.go.wait = lambda timeout, gate=gate: gate.wait(timeout) >= 0  # type: ignore[method-assign, misc]
    made = submit(engine_of(both), [1, 1], [2, 2])
    assert made.future.result(LONG) == [[2.0], [4.0]]  # the barrier opens only if both got a share
    assert [len(adder.batches) for adder in both] == [1, 1]


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


def test_callers_are_told_which_sequences_are_scored(engine_of: Callable[..., Engine]) -> None:
    seen: list[list[int]] = []
    made = submit(engine_of(token_budget=2), [1], [1, 1], [1], on_scored=seen.append)
    made.future.result(LONG)
    assert seen == [[1], [0, 2]]  # the longest first


def test_a_caller_that_cannot_be_told_is_the_only_one_to_fail(engine_of: Callable[..., Engine]) -> None:
    engine = engine_of()

    def refuse(indices: list[int]) -> None:
        raise SystemExit

    failing = submit(engine, [1], on_scored=refuse)
    with pytest.raises(SystemExit):
        failing.future.result(LONG)
    assert submit(engine, [2]).future.result(LONG) == [[2.0]]


def test_stats_and_the_hook(engine_of: Callable[..., Engine]) -> None:
    reports = []
    engine = engine_of(token_budget=2, on_batch=reports.append)
    submit(engine, [1], [1, 1], [1]).future.result(LONG)
    engine.close()  # which lets the hook see everything
    stats = engine.stats()
    assert (stats.tokens, stats.batches, stats.queued_tokens, stats.queued_requests) == (4, 2, 0, 0)
    assert [(report.sequences, report.tokens) for report in reports] == [(1, 2), (2, 2)]
    assert stats.seconds_forward > 0


def test_a_hook_that_fails_costs_no_score(engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(on_batch=lambda batch: 1 // 0)
    assert submit(engine, [1]).future.result(LONG) == [[1.0]]
    engine.close()
    assert engine.stats().hook_errors == 1
    assert "ZeroDivisionError" in str(engine.stats().last_hook_error)


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


@pytest.mark.parametrize(
    "setting", [{"token_budget": 0}, {"max_queued_tokens": 1.5}, {"timeout": 0}, {"timeout": "1"}, {"cache_size": -1}]
)
def test_settings_out_of_range_are_refused(setting: dict[str, object]) -> None:
    (name,) = setting
    with pytest.raises(OptionError, match=name):
        EngineSettings(**({"token_budget": 1} | setting))  # type: ignore[arg-type]


def test_a_gpu_takes_as_many_tokens_as_fit() -> None:
    gemma = {"dimensions": Dimensions(18, 2048, 2048, 256, 16384, 3, True), "itemsize": 2}
    assert affordable_tokens(100 * 2**30, **gemma) == CUDA_TOKEN_BUDGET
    assert affordable_tokens(2 * 2**30, **gemma) == 2**30 // (2 * (8 * 2048 + 3 * 16384))
    assert affordable_tokens(0, **gemma) == 2048
