"""Whatever is raised in or beside the worker: the callers of that batch are told, everyone else is served."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import weakref
from collections.abc import Callable

import pytest
import torch

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.engine import queue as queue_module
from bge_rerank_integrations.engine import worker as worker_module
from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.engine.queue import Queue
from bge_rerank_integrations.engine.sharing import Choice
from bge_rerank_integrations.engine.work import Request, Task, TokenSequence
from bge_rerank_integrations.errors import ClosedError, RerankError
from bge_rerank_integrations.stats import Counters
from tests.attack.conftest import ENCODER, Device, in_thread
from tests.unit.engine.conftest import LONG, Adder, hold, queue_of, submit

RAISED = [
    SystemExit(3),
    KeyboardInterrupt(),
    asyncio.CancelledError(),
    GeneratorExit(),
    concurrent.futures.CancelledError(),
    StopIteration(5),
    StopAsyncIteration(),
    TimeoutError("of the disk"),
    MemoryError(),
    RecursionError(),
    BaseException("anything"),
]


def name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__name__}"


@pytest.mark.parametrize("error", RAISED, ids=name)
def test_a_hook_that_raises_costs_nobody_a_score(error: BaseException) -> None:
    seen = []

    def hook(batch: object) -> None:
        seen.append(batch)
        raise error

    with load_scorer(ENCODER, on_batch=hook) as scorer:
        assert len(in_thread(lambda: scorer.score("q", ["a"]))()) == 1
        assert len(in_thread(lambda: scorer.score("q", ["b", "c"]))()) == 2
        assert not scorer.closed
    assert len(seen) == scorer.stats().hook_errors == scorer.stats().batches


@pytest.mark.parametrize("error", RAISED, ids=name)
def test_progress_that_raises_ends_its_own_call_alone(error: BaseException) -> None:
    def progress(done: int, total: int) -> None:
        raise error

    with load_scorer(ENCODER) as scorer:
        with pytest.raises(type(error)):
            in_thread(lambda: scorer.score("q", ["a"] * 3, on_progress=progress))()
        assert len(in_thread(lambda: scorer.score("q", ["b", "c"]))()) == 2
        assert scorer.stats().queued_requests == 0


@pytest.mark.parametrize("error", RAISED, ids=name)
def test_a_batch_that_raises_is_told_to_its_caller_in_a_way_that_ends_nothing_else(
    error: BaseException, device: Device
) -> None:
    def fail(sequences: list[TokenSequence]) -> None:
        if len(sequences[0].ids) > 20:
            raise error

    device.before = fail
    bad = "word " * 40
    expected = RerankError if type(error) not in (MemoryError, RecursionError) else type(error)
    with load_scorer(ENCODER) as scorer:
        for call in (scorer.score, lambda *asked: asyncio.run(scorer.ascore(*asked))):
            with pytest.raises(expected) as told:
                in_thread(lambda call=call: call("q", [bad]))()
            assert expected is not RerankError or type(error).__name__ in str(told.value)
        assert len(in_thread(lambda: scorer.score("q", ["good"]))()) == 1
        assert not scorer.closed


def test_a_hook_may_block_and_call_the_scorer() -> None:
    go, answers = threading.Event(), []
    called = threading.Event()

    def hook(batch: object) -> None:
        if not called.is_set():
            called.set()
            answers.append(scorer.score("asked by", ["the hook"]))
            assert go.wait(LONG)

    with load_scorer(ENCODER, on_batch=hook) as scorer:
        for _ in range(3):
            assert len(in_thread(lambda: scorer.score("q", ["a"]))()) == 1
        assert called.wait(LONG)
        go.set()
    assert len(answers) == 1


def test_a_hook_may_close_the_scorer() -> None:
    closed = threading.Event()

    def hook(batch: object) -> None:
        scorer.close()
        closed.set()

    scorer = load_scorer(ENCODER, on_batch=hook)
    in_thread(lambda: scorer.score("q", ["a"]))()
    assert closed.wait(LONG)
    with pytest.raises(ClosedError):
        scorer.score("q", ["a"])
    for thread in threading.enumerate():
        if thread.name == "bge-rerank-hook":
            thread.join(LONG)
            assert not thread.is_alive()


def test_a_queue_that_closes_just_before_its_worker_waits() -> None:
    """As the garbage collector may do it, in the worker's own thread: the worker must not wait for ever."""
    queue = queue_of(100, 1000, 1)
    real = queue._plan

    def closing(batch: list[Task], choice: Choice | None) -> None:
        real(batch, choice)
        queue.close()

    queue._plan = closing  # type: ignore[method-assign]
    assert in_thread(queue.take)() is None


def test_a_hook_for_which_there_is_no_thread_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    refused = []

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "bge-rerank-hook" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    seen = []
    with load_scorer(ENCODER, on_batch=seen.append) as scorer:
        assert len(scorer.score("q", ["a"])) == len(scorer.score("q", ["b"])) == 1
    assert len(seen) == 2
    assert scorer.stats().hook_errors == 1


def test_progress_may_call_the_scorer() -> None:
    with load_scorer(ENCODER, token_budget=16) as scorer:
        inner = []

        def progress(done: int, total: int) -> None:
            inner.append(scorer.score("q", [f"inner {done}"], on_progress=lambda *_: None))

        assert len(in_thread(lambda: scorer.score("q", ["a b", "c d e"], on_progress=progress))()) == 2
        assert inner


def test_progress_that_blocks_holds_up_nobody_else() -> None:
    reached, go = threading.Event(), threading.Event()

    def progress(done: int, total: int) -> None:
        reached.set()
        assert go.wait(LONG)

    with load_scorer(ENCODER) as scorer:
        slow = in_thread(lambda: scorer.score("q", ["a"], on_progress=progress))
        assert reached.wait(LONG)
        assert len(in_thread(lambda: scorer.score("q", ["b"]))()) == 1
        go.set()
        assert len(slow()) == 1


@pytest.mark.parametrize("step", ["_deliver", "fill", "count_batch", "fitted", "claim", "finish"])
def test_memory_that_runs_out_at_any_step_costs_one_batch(
    step: str, engine_of: Callable[..., Engine], replica: Adder, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners = {"_deliver": worker_module, "fill": Request, "count_batch": Counters, "fitted": Queue}
    engine = engine_of(cache_size=9)
    owner = owners.get(step, engine._cache)
    real, failed = getattr(owner, step), []

    def fail_once(*given: object) -> object:
        if not failed:
            failed.append(given)
            raise MemoryError(step)
        return real(*given)

    monkeypatch.setattr(owner, step, fail_once)
    first = submit(engine, [1], [2])
    with pytest.raises(MemoryError, match=step):
        first.future.result(LONG)
    assert submit(engine, [1], [3]).future.result(LONG) == [[1.0], [3.0]]
    assert engine.stats().queued_tokens == 0


def test_planning_that_fails_at_any_step_loses_no_request(
    engine_of: Callable[..., Engine], replica: Adder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every look at a task, in turn, finds no memory."""
    for failing in range(1, 12):
        engine = engine_of(token_budget=3)
        hold(engine, replica)
        waiting = [submit(engine, [i], [i]) for i in range(4)]
        looks = iter(range(10_000))
        monkeypatch.setattr(
            queue_module, "Task", lambda *given, looks=looks, at=failing: Task(*given) if next(looks) != at else 1 // 0
        )
        replica.go.set()
        for i, one in enumerate(waiting):
            assert one.future.exception(LONG) is not None or one.future.result() == [[float(i)]] * 2
        monkeypatch.undo()
        assert engine.stats().queued_tokens == 0
        assert submit(engine, [5]).future.result(LONG) == [[5.0]]


def test_token_ids_of_any_size_with_a_cache(engine_of: Callable[..., Engine]) -> None:
    engine = engine_of(cache_size=9)
    for token in (2**31 - 1, 2**31, 2**32 - 1, 2**40):
        assert submit(engine, [token]).future.result(LONG) == [[float(token)]]


def test_a_thread_that_ends_closes_the_scorer_and_tells_everyone(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it comes about: here by an error where no batch is to blame."""
    scorer = load_scorer(ENCODER, max_queued_tokens=40)
    device.hold()
    calls = [in_thread(lambda: scorer.score("running", ["a"]))]
    assert device.started.wait(LONG)
    calls += [in_thread(lambda i=i: scorer.score("q", [f"waits, inside or outside {i}"])) for i in range(5)]
    while scorer.stats().queued_requests < 5:
        pass

    def end(*_: object) -> None:
        raise MemoryError("no memory at all")

    monkeypatch.setattr(worker_module.Worker, "_fail", end)
    device.before = end
    device.go.set()
    for call in calls:
        with pytest.raises(ClosedError, match=r"thread ended \(MemoryError: no memory at all\): load it again"):
            call()
    assert scorer.closed
    with pytest.raises(ClosedError):
        scorer.score("q", ["a"])
    with pytest.raises(ClosedError):
        asyncio.run(scorer.ascore("q", ["a"]))
    scorer.close()


def test_of_two_threads_one_ends(engine_of: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also who waits for the other's result of the same sequence is told."""
    both = [Adder(), Adder()]
    engine = engine_of(both, cache_size=9)
    both[0].starts = both[1].starts
    for adder in both:
        adder.go.clear()
    first = submit(engine, [5])
    running = both[1].starts.get(timeout=LONG)
    same = submit(engine, [5])
    other = submit(engine, [6])
    both[1].starts.get(timeout=LONG)

    def end(*_: object) -> None:
        raise MemoryError("gone")

    monkeypatch.setattr(worker_module.Worker, "_fail", end)
    running.fail_on = 5
    for adder in both:
        adder.go.set()
    for one in (first, same):
        with pytest.raises(ClosedError):
            one.future.result(LONG)
    assert other.future.exception(LONG) is None or isinstance(other.future.exception(), ClosedError)
    assert engine.closed


def test_an_error_that_a_caller_keeps_holds_no_tensors(device: Device) -> None:
    made: list[weakref.ref[torch.Tensor]] = []

    def fail(sequences: list[TokenSequence]) -> None:
        tensor = torch.zeros(3)
        made.append(weakref.ref(tensor))
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    device.before = fail
    with load_scorer(ENCODER) as scorer:
        with pytest.raises(ValueError, match="outer") as kept:
            scorer.score("q", ["a"])
        assert isinstance(kept.value.__cause__, KeyError)
        assert [tensor() for tensor in made] == [None]
