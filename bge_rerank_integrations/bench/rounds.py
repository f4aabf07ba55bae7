"""Timing in turn: in every round one of each, so that whatever else the machine does meets all alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from bge_rerank_integrations.bench import peers
from bge_rerank_integrations.bench.busy import BusyProcesses
from bge_rerank_integrations.bench.load import observed
from bge_rerank_integrations.bench.results import Timing, Work
from bge_rerank_integrations.ranking import Pair

Say = Callable[[str], object]
"""Told what is being done."""
Clock = Callable[[], float]
"""Seconds since some moment."""
Problem = Callable[[str, list[float], list[float]], str | None]
"""For a peer, the scores of the first, and its own: why they are not those of the same model; None if they agree."""
WRONG = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)
"""What a peer may raise that does not run this model."""


class Timed(Protocol):
    """Something that scores pairs."""

    def timed(self, pairs: list[Pair]) -> dict[str, Any]:
        """As `peers.timed`."""

    def weighed(self, pairs: list[Pair]) -> dict[str, Any]:
        """As `peers.weighed`."""


class Local:
    """A peer in this process."""

    def __init__(self, peer: Any, clock: Clock) -> None:
        self._peer = peer
        self._clock = clock

    def timed(self, pairs: list[Pair]) -> dict[str, Any]:
        """As `peers.timed`."""
        return peers.timed(self._peer, pairs, self._clock)

    def weighed(self, pairs: list[Pair]) -> dict[str, Any]:
        """As `peers.weighed`."""
        return peers.weighed(self._peer, pairs)

    def close(self) -> None:
        """Free what it holds."""
        self._peer.close()


def measure(
    running: dict[str, Timed],
    pairs: list[Pair],
    work: Work,
    *,
    rounds: int,
    busy: BusyProcesses,
    peak: Callable[[], float] | None,
    problem: Problem,
    say: Say,
) -> list[Timing]:
    """Time a workload.

    Args:
        running: the peers. The first is what the others' scores are compared with, and what it raises is raised.
        work: is completed with what is measured.
        busy: processes that compute in one half of each round; none: there is no such half.
        peak: FLOP per second, measured in each round.
    """
    timings = _warm(running, pairs, work, problem, say)
    peaks, computed = [], busy.seconds
    for turn in range(rounds):
        doing = f"{work.name}: round {turn + 1} of {rounds}"
        if peak:
            say(f"{doing}, peak")
            peaks.append(peak())
        # Each begins a round in turn: whoever comes after a large one meets other caches.
        turned = [*timings[turn % len(timings) :], *timings[: turn % len(timings)]]
        with observed(work.quiet):
            for timing, seconds in _one_of_each(running, turned, pairs, doing, say):
                timing.seconds.append(seconds)
        if len(busy):
            with busy.computing(), observed(work.busy):
                for timing, seconds in _one_of_each(running, turned, pairs, f"{doing}, beside", say):
                    timing.beside.append(seconds)
    work.busy_seconds = busy.seconds - computed
    work.peak_flops = statistics.median(peaks) if peaks else None
    return timings


def _warm(running: dict[str, Timed], pairs: list[Pair], work: Work, problem: Problem, say: Say) -> list[Timing]:
    """Run each once, check that the scores agree, and measure memory.

    For that, the allocator first gives back its free memory, which would make a timed run slower.
    """
    timings: list[Timing] = []
    expected: list[float] = []
    for name, peer in running.items():
        say(f"{work.name}: warming up {name}")
        timing = Timing(name, work.name)
        timings.append(timing)
        try:
            answer = peer.weighed(pairs)
        except WRONG as error:
            if len(timings) == 1:
                raise
            timing.problem = f"{type(error).__name__}: {error}"
            continue
        timing.extra_bytes = answer["extra_bytes"]
        expected = expected or answer["scores"]
        timing.difference = max(abs(a - b) for a, b in zip(expected, answer["scores"], strict=True))
        timing.problem = problem(name, expected, answer["scores"])
    return timings


def _one_of_each(
    running: dict[str, Timed], timings: list[Timing], pairs: list[Pair], doing: str, say: Say
) -> Iterator[tuple[Timing, float]]:
    for timing in timings:
        if timing.problem:
            continue
        say(f"{doing}, {timing.peer}")
        try:
            seconds = running[timing.peer].timed(pairs)["seconds"]
        except RuntimeError as error:
            timing.problem = str(error)
        else:
            yield timing, seconds
