"""Little work goes the way that was quicker, as measured; all other work goes side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.engine.sharing import RETRY, SAMPLES, Always, Sharing, Way
from bge_rerank_integrations.engine.work import LayerScores, Recipe, TokenSequence
from tests.unit.engine.conftest import LONG, Adder, hold, submit


class Machine:
    """Takes as long as it is told for each token, and lets `Sharing` measure it."""

    def __init__(self, split: float, whole: float) -> None:
        self.sharing = Sharing()
        self.seconds = {Way.SPLIT: split, Way.WHOLE: whole}

    def compute(self, *lengths: int) -> Way:
        choice = self.sharing.choose(lengths)
        tokens = max(lengths) if choice.way is Way.SPLIT else sum(lengths)
        self.sharing.measured(choice, tokens, tokens * self.seconds[choice.way])
        return choice.way


@pytest.mark.parametrize(
    ("split", "whole", "quicker"), [(1.0, 0.6, Way.WHOLE), (1.0, 1.2, Way.SPLIT)], ids=["whole", "split"]
)
def test_one_sequence_goes_the_quicker_way(split: float, whole: float, quicker: Way) -> None:
    machine = Machine(split, whole)
    assert [machine.compute(100) for _ in range(2 * SAMPLES)].count(quicker) == SAMPLES
    assert {machine.compute(100) for _ in range(RETRY)} == {quicker}


def test_two_of_many_workers_or_all_cores_one_after_the_other() -> None:
    """With all cores two sequences take twice as long; with two workers they take no longer than one."""
    machine = Machine(1.0, 0.6)
    for _ in range(2 * SAMPLES):
        machine.compute(100)
        machine.compute(100, 100)
    assert machine.compute(100) is Way.WHOLE
    assert machine.compute(100, 100) is Way.SPLIT
    assert machine.compute(100, 2, 3) is Way.WHOLE


def test_a_machine_that_got_busy_and_quiet_again_is_noticed() -> None:
    machine = Machine(1.0, 0.6)
    for _ in range(50):
        machine.compute(100)
    machine.seconds[Way.WHOLE] = 2.4
    assert [machine.compute(100) for _ in range(10)].count(Way.WHOLE) <= SAMPLES
    machine.seconds[Way.WHOLE] = 0.6
    ways = [machine.compute(100) for _ in range(1000)]
    assert ways[-1] is Way.WHOLE
    machine.seconds[Way.SPLIT] = 0.59
    ways = [machine.compute(100) for _ in range(2000)]
    assert ways[-1] is Way.SPLIT


def test_trying_the_slower_way_again_costs_little() -> None:
    machine = Machine(50.0, 1.0)
    for _ in range(2 * SAMPLES):
        machine.compute(100)
    ways = [machine.compute(100) for _ in range(10_000)]
    assert 0 < 50.0 * ways.count(Way.SPLIT) <= ways.count(Way.WHOLE) / (RETRY - 1)


# --- in an engine -----------------------------------------------------------------------------------------------------


class Holding(Adder):
    """Holds back the batch of one sequence alone."""

    def run(self, sequences: Sequence[TokenSequence], recipe: Recipe) -> list[LayerScores]:
        if sequences[0].ids == [1000]:
            self.started.set()
            assert self.go.wait(LONG)
        return [[float(sum(sequence.ids))] for sequence in sequences]


def test_one_runner_has_several_workers(engine_of: Callable[..., Engine]) -> None:
    adder = Adder(3)
    engine = engine_of([adder])
    submit(engine, *[[i] for i in range(1, 40)]).future.result(LONG)
    engine.close()
    assert adder.entered == 3
    assert adder.closed


class Refusing(Adder):
    """Has no room for so many threads."""

    def enter(self) -> None:
        super().enter()
        if self.entered == self.workers:
            raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("workers", [1, 3])
def test_a_worker_that_cannot_enter_fails_the_load(workers: int, engine_of: Callable[..., Engine]) -> None:
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="can't start new thread"):
        engine_of([Refusing(workers)])
    for thread in set(threading.enumerate()) - before:
        thread.join(LONG)
        assert not thread.is_alive()


def test_a_batch_that_takes_long_holds_up_its_own_worker_alone(engine_of: Callable[..., Engine]) -> None:
    adder = Holding(2)
    engine = engine_of([adder])
    first = hold(engine, adder)
    assert submit(engine, [4]).future.result(LONG) == [[4.0]]
    assert not first.future.done()
    adder.go.set()
    assert first.future.result(LONG) == [[1000.0]]


def test_one_sequence_may_have_all_cores_and_many_may_not(engine_of: Callable[..., Engine]) -> None:
    adder = Adder(2)
    engine = engine_of([adder])
    for _ in range(2 * SAMPLES):
        submit(engine, [5]).future.result(LONG)
    tried = len(adder.whole)
    assert tried >= SAMPLES
    submit(engine, *[[1]] * 50).future.result(LONG)
    assert [batch for batch in adder.whole[tried:] if len(batch) > 1] == []


@pytest.mark.parametrize(("way", "whole"), [(Way.WHOLE, 10), (Way.SPLIT, 0)], ids=["whole", "split"])
def test_one_way_can_be_had_alone(way: Way, whole: int, engine_of: Callable[..., Engine]) -> None:
    adder = Adder(2)
    engine = engine_of([adder])
    engine.share(Always(way))
    for _ in range(10):
        submit(engine, [5]).future.result(LONG)
    assert len(adder.whole) == whole


def test_several_devices_or_one_worker_never_ask_for_all_cores(engine_of: Callable[..., Engine]) -> None:
    for adders in ([Adder(2), Adder(2)], [Adder(1)]):
        engine = engine_of(adders)
        engine.share(Always(Way.WHOLE))
        for _ in range(10):
            submit(engine, [5]).future.result(LONG)
        assert [adder.whole for adder in adders] == [[]] * len(adders)


def test_a_worker_that_closes_its_engine_waits_for_no_other(engine_of: Callable[..., Engine]) -> None:
    """The garbage collector may do it, at any moment: also while the worker has the lock that the others wait for."""
    adder = Adder(2)
    engine = engine_of([adder], max_queued_tokens=1)
    adder.go.clear()
    for number in (1, 2):
        submit(engine, [number])
        adder.starts.get(timeout=LONG)
    submit(engine, [3])
    last = submit(engine, [4])
    assert not last.admitted.done()
    last.admitted.add_done_callback(lambda _: engine.close())  # by a worker, inside the queue
    adder.go.set()
    for thread in engine._threads:
        thread.join(LONG)
        assert not thread.is_alive()
    assert adder.closed
