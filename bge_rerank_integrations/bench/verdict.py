"""Which of two is faster, or that these measurements do not tell."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

FEWEST = 4
"""Rounds for a verdict: fewer have no quartiles."""


@dataclass(frozen=True)
class Comparison:
    """Two that were timed in turn, one of each a round."""

    ratio: float
    """The second's median divided by the first's."""
    doubt: str | None
    """Why there is no verdict on which is faster; None: there is one."""


def quartiles(seconds: Sequence[float]) -> tuple[float, float]:
    """The first and the third: half of the times are between them. Of one time, that time twice."""
    if len(seconds) < 2:
        return seconds[0], seconds[0]
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low, high


def compare(first: Sequence[float], second: Sequence[float], names: tuple[str, str]) -> Comparison:
    """Compare times.

    There is a verdict only if, for each of the two, its odd and its even rounds (the same thing, timed twice) differ by
    less than the two do, and if their quartiles do not overlap. Of two things that are equal, the first condition alone
    would find a difference in 1 of 5 measurements, whatever the number of rounds; both together in 1 of 20 with 8
    rounds, and in 1 of 70 with 12 (simulated with log-normal times).

    Args:
        first, second: seconds, of one round after the other; at least one each.
        names: of the two, for the reason.
    """
    ratio = statistics.median(second) / statistics.median(first)
    return Comparison(ratio, _doubt(ratio, (first, second), names))


def _doubt(ratio: float, both: tuple[Sequence[float], Sequence[float]], names: tuple[str, str]) -> str | None:
    if (rounds := min(map(len, both))) < FEWEST:
        return f"a verdict needs {FEWEST} rounds, not {rounds}"
    noise, noisiest = max(zip(map(_noise, both), names, strict=True))
    if noise >= _factor(ratio):
        return f"the odd and the even rounds of {noisiest} differ by a factor of {noise:.3f}"
    (low, high), (other_low, other_high) = map(quartiles, both)
    if low <= other_high and other_low <= high:
        return f"the quartiles of {names[0]} and {names[1]} overlap"
    return None


def _noise(seconds: Sequence[float]) -> float:
    return _factor(statistics.median(seconds[::2]) / statistics.median(seconds[1::2]))


def _factor(ratio: float) -> float:
    """1.25 for a ratio of 1.25 and of 0.8."""
    return math.exp(abs(math.log(ratio)))
