"""Scores that are remembered, and work that is not done twice at once."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue

import pytest

from bge_rerank_integrations.engine.cache import ScoreCache, key_of
from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.engine.work import Recipe, Request, Task, TokenSequence
from tests.unit.engine.conftest import LONG, Adder, hold, request, submit


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


# --- the cache alone --------------------------------------------------------------------------------------------------


def tasks(*ids: list[int], recipe: Recipe | None = None) -> list[Task]:
    made = request(*ids, recipe=recipe)
    return [Task(made, position) for position in range(len(ids))]


def test_a_batch_is_split_into_what_is_known_what_runs_and_what_waits() -> None:
    cache = ScoreCache(9)
    first, twin, other = tasks([1], [1], [2])
    assert cache.claim([first, twin, other]) == ([], [first, other])
    done = cache.finish([first, other], [[1.0], [2.0]])
    assert sorted(done, key=lambda pair: pair[0].position) == [(first, [1.0]), (twin, [1.0]), (other, [2.0])]
    (again,) = tasks([1])
    assert cache.claim([again]) == ([(again, [1.0])], [])
    assert (cache.hits, cache.misses) == (2, 2)


def test_whoever_waited_for_a_failure_is_handed_back() -> None:
    cache = ScoreCache(9)
    first, twin = tasks([1], [1])
    cache.claim([first, twin])
    assert cache.abandon([first]) == [twin]
    assert cache.claim([twin]) == ([], [twin])  # which now runs itself


def test_beyond_its_size_the_least_recently_used_is_forgotten() -> None:
    cache = ScoreCache(2)
    for ids in ([1], [2]):
        (task,) = tasks(ids)
        cache.claim([task])
        cache.finish([task], [[float(ids[0])]])
    (used,) = tasks([1])
    assert cache.claim([used])[0] == [(used, [1.0])]
    (third,) = tasks([3])
    cache.claim([third])
    cache.finish([third], [[3.0]])
    one, two = tasks([1], [2])
    assert cache.claim([one, two]) == ([(one, [1.0])], [two])


def test_a_key_is_tokens_passage_and_recipe() -> None:
    def key(ids: list[int], passage: tuple[int, int] = (1, 2), recipe: Recipe | None = None) -> object:
        return key_of(Task(Request([TokenSequence(ids, passage, truncated=True)], recipe or Recipe()), 0))

    assert key([1, 2]) == key([1, 2])
    different = [key([1, 2]), key([2, 1]), key([1]), key([1, 2], (0, 2)), key([1, 2], recipe=Recipe((3,)))]
    assert len(set(different)) == len(different)
    assert key([70_000]) != key([70_000 - 65_536])  # no id is cut short
