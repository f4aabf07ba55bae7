"""Two batches at a time on a device that computes one after the other, whose batches end late and in any order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

import pytest

from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.engine.work import DoesNotFit, LayerScores, Recipe, Request, TokenSequence
from bge_rerank_integrations.errors import ClosedError
from tests.unit.engine.conftest import LONG, Adder, submit


class Batch:
    """What was handed to the device, until it is told to end it."""

    def __init__(self, sequences: Sequence[TokenSequence]) -> None:
        self.ids = [list(sequence.ids) for sequence in sequences]
        self.error: BaseException | None = None
        self._ended = threading.Event()

    def end(self, error: BaseException | None = None) -> None:
        self.error = error
        self._ended.set()

    def wait(self) -> list[LayerScores]:
        assert self._ended.wait(LONG)
        if self.error is not None:
            raise self.error
        return [[float(sum(ids))] for ids in self.ids]


class Late(Adder):
    """A device with two workers and one share, which ends a batch when it is told to."""

    def __init__(self) -> None:
        super().__init__(workers=2, shares=1)
        self.given: SimpleQueue[Batch] = SimpleQueue()
        self.at_once = False

    def run(self, sequences: Sequence[TokenSequence], recipe: Recipe) -> list[LayerScores]:
        batch = Batch(sequences)
        if self.at_once:
            batch.end()
        self.given.put(batch)
        return batch.wait()

    def next(self) -> Batch:
        return self.given.get(timeout=LONG)


@pytest.fixture
def late(engine_of: Callable[..., Engine]) -> tuple[Engine, Late]:
    device = Late()
    return engine_of([device]), device


def in_flight(engine: Engine, device: Late, *ids: list[int]) -> tuple[Request, Batch]:
    """A request that is on the device."""
    asked = submit(engine, *ids)
    return asked, device.next()


def test_the_next_batch_is_there_before_the_first_is_done(late: tuple[Engine, Late]) -> None:
    engine, device = late
    first, running = in_flight(engine, device, [1])
    second, prepared = in_flight(engine, device, [2])
    third = submit(engine, [3])
    assert device.given.empty()  # two in flight, no more
    assert not third.future.done()
    prepared.end()
    running.end()
    device.next().end()
    assert [one.future.result(LONG) for one in (first, second, third)] == [[[1.0]], [[2.0]], [[3.0]]]


def test_little_work_is_not_divided(late: tuple[Engine, Late]) -> None:
    engine, device = late
    asked = submit(engine, [1], [2], [3], [4])
    batch = device.next()
    assert sorted(batch.ids) == [[1], [2], [3], [4]]
    batch.end()
    assert asked.future.result(LONG) == [[1.0], [2.0], [3.0], [4.0]]
    assert device.whole == []


def test_callers_take_turns_in_what_comes_next(late: tuple[Engine, Late]) -> None:
    engine, device = late
    held = [in_flight(engine, device, [number] * 60) for number in (1, 2)]
    many = submit(engine, *[[5] * 30] * 20)
    one = submit(engine, [7])
    held[0][1].end()
    turn = device.next()
    assert [7] in turn.ids
    assert [5] * 30 in turn.ids
    device.at_once = True
    for batch in (held[1][1], turn):
        batch.end()
    assert one.future.result(LONG) == [[7.0]]
    assert many.future.result(LONG) == [[150.0]] * 20
    assert [asked.future.result(LONG) for asked, _ in held] == [[[60.0]], [[120.0]]]


def test_a_batch_that_fails_or_does_not_fit_leaves_the_other_alone(late: tuple[Engine, Late]) -> None:
    engine, device = late
    bad, first = in_flight(engine, device, [1], [2])
    good, second = in_flight(engine, device, [3])
    first.end(DoesNotFit("no memory"))
    for _ in range(2):  # its halves, one after the other
        half = device.next()
        half.end(ValueError("poison") if half.ids == [[1]] else None)
    with pytest.raises(ValueError, match="poison"):
        bad.future.result(LONG)
    assert not good.future.done()
    second.end()
    assert good.future.result(LONG) == [[3.0]]


def test_close_finishes_both_and_refuses_what_waits(late: tuple[Engine, Late]) -> None:
    engine, device = late
    first, running = in_flight(engine, device, [1])
    second, prepared = in_flight(engine, device, [2])
    waiting = submit(engine, [3])
    closing = threading.Thread(target=engine.close)
    closing.start()
    with pytest.raises(ClosedError):
        waiting.future.result(LONG)
    running.end()
    prepared.end()
    closing.join(LONG)
    assert [first.future.result(LONG), second.future.result(LONG)] == [[[1.0]], [[2.0]]]
    assert device.closed
