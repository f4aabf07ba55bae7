"""Requests, recipes and the order in which sequences are scored."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bge_rerank_integrations.engine.work import Recipe, Task, TokenSequence, in_order, settle
from tests.unit.engine.conftest import LONG, request


def test_a_recipe_runs_as_deep_as_its_last_cutoff() -> None:
    assert Recipe().depth(12) == 12
    assert Recipe((3, 8, 5)).depth(12) == 8


def test_families_extend_recipes_and_those_are_never_equal_to_others() -> None:
    @dataclass(frozen=True)
    class Merging(Recipe):
        ratio: int = 1

    assert Merging((8,), 2) == Merging((8,), 2)
    assert len({Merging((8,), 2), Merging((8,), 2), Merging((8,), 4), Merging((8,)), Recipe((8,))}) == 4


@given(
    st.lists(
        st.builds(
            lambda prefix, length: TokenSequence([*prefix, *[9] * length], (len(prefix), 0), prefix=len(prefix)),
            st.sampled_from([[], [1], [1, 2], [3, 4]]),
            st.integers(1, 9),
        )
    )
)
def test_sequences_of_one_prefix_are_neighbours_and_the_longest_is_first(sequences: list[TokenSequence]) -> None:
    order = in_order(sequences)
    assert sorted(order) == list(range(len(sequences)))
    prefixes = [tuple(sequences[i].ids[: sequences[i].prefix]) for i in order]
    runs = [prefix for prefix, _ in groupby(prefixes)]
    assert len(runs) == len(set(runs))
    for before, after in pairwise(order):
        one, other = sequences[before], sequences[after]
        if one.ids[: one.prefix] == other.ids[: other.prefix]:
            assert len(one.ids) >= len(other.ids)


def test_a_request_is_done_when_its_last_score_is_there() -> None:
    made = request([1], [2, 2], [3])
    assert made.tokens == 4
    assert list(made.waiting) == [1, 0, 2]
    made.fill([(2, [3.0]), (0, [1.0])])
    assert not made.future.done()
    made.fill([(1, [4.0])])
    assert made.future.result(LONG) == [[1.0], [4.0], [3.0]]


def test_a_request_filled_from_many_threads_loses_no_score() -> None:
    made = request(*[[i] for i in range(200)])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: made.fill([(i, [float(i)])]), range(200)))
    assert made.future.result(LONG) == [[float(i)] for i in range(200)]


def test_a_failed_request_keeps_its_first_error_and_is_admitted() -> None:
    made = request([1])
    made.fail(ValueError("first"))
    made.fail(ValueError("second"))
    made.fill([(0, [1.0])])
    assert made.admitted.done()  # or its caller would wait for room for ever
    with pytest.raises(ValueError, match="first"):
        made.future.result(LONG)


def test_a_future_whose_caller_is_gone_is_left_alone() -> None:
    future: Future[int] = Future()
    assert future.cancel()
    settle(future.set_result, 3)
    assert future.cancelled()


def test_a_task_is_one_sequence_of_its_request() -> None:
    task = Task(request([1], [2, 2]), 1)
    assert task.sequence.ids == [2, 2]
    assert task.tokens == 2
