"""When the benchmark says which is faster, and when it does not."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from bge_rerank_integrations.bench.verdict import compare, quartiles

NAMES = ("ours", "theirs")


def around(middle: float, spread: float, rounds: int, seed: int = 0) -> list[float]:
    drawn = random.Random(seed)
    return [middle * drawn.lognormvariate(0, spread) for _ in range(rounds)]


def test_a_clear_difference_is_a_verdict() -> None:
    comparison = compare(around(1.0, 0.01, 8), around(1.2, 0.01, 8, seed=1), NAMES)
    assert comparison.ratio == pytest.approx(1.2, rel=0.02)
    assert comparison.doubt is None


def test_the_slower_one_may_be_the_first() -> None:
    comparison = compare(around(1.2, 0.01, 8), around(1.0, 0.01, 8, seed=1), NAMES)
    assert comparison.ratio == pytest.approx(1 / 1.2, rel=0.02)
    assert comparison.doubt is None


@pytest.mark.parametrize(
    ("ours", "theirs", "doubt"),
    [
        ([1.0, 1.5, 1.0, 1.5], [1.3, 1.3, 1.3, 1.3], "rounds of ours differ by a factor of 1.500"),
        ([1.0, 1.0, 1.0, 1.0], [1.0, 1.4, 1.0, 1.4], "rounds of theirs differ by a factor of 1.400"),
        ([1.0, 1.0, 3.0, 3.0], [1.1, 1.1, 3.3, 3.3], "the quartiles of ours and theirs overlap"),
        ([1.0, 1.0, 1.0], [9.0, 9.0, 9.0], "a verdict needs 4 rounds, not 3"),
        ([1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], "differ by a factor of 1.000"),
    ],
)
def test_no_verdict_where_the_same_thing_differs_as_much(
    ours: Sequence[float], theirs: Sequence[float], doubt: str
) -> None:
    assert doubt in str(compare(ours, theirs, NAMES).doubt)


@pytest.mark.parametrize(("rounds", "wrong"), [(8, 0.07), (12, 0.03)])
def test_equal_things_seldom_get_a_verdict(rounds: int, wrong: float) -> None:
    tried = 2000
    verdicts = sum(
        compare(around(1.0, 0.05, rounds, 2 * seed), around(1.0, 0.05, rounds, 2 * seed + 1), NAMES).doubt is None
        for seed in range(tried)
    )
    assert verdicts / tried < wrong


def test_quartiles() -> None:
    assert quartiles([5.0, 1.0, 2.0, 4.0, 3.0]) == (2.0, 4.0)
    assert quartiles([2.0]) == (2.0, 2.0)
