"""What the engine works on: token sequences, recipes of forward passes, requests of callers, and what runs them."""

from __future__ import annotations

import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from bge_rerank_integrations.errors import RerankError

_MISLEADING = (StopIteration, StopAsyncIteration, CancelledError, TimeoutError, FutureTimeoutError)
LayerScores = list[float]
"""The scores of one sequence: one for each cutoff layer, or a single one."""


@dataclass(frozen=True)
class TokenSequence:
    """One query and one passage as the model reads them.

    Hundreds of thousands may wait. Tuples of numbers are nothing to the garbage collector, which stops all threads
    while it looks through lists.
    """

    ids: Sequence[int]
    passage: tuple[int, int]
    """Where the passage's tokens start in `ids`, and where they stop (exclusive)."""
    truncated: bool = False
    """Whether some text was cut off."""
    prefix: int = 0
    """How many of the first tokens do not depend on the passage (decoders): bos, query and separator."""

    @property
    def key(self) -> bytes:
        """Equal if, and only if, the model cannot tell two sequences apart."""
        numbers = array("q", [*self.passage, *self.ids])
        return blake2b(numbers, digest_size=16).digest()


@dataclass(frozen=True)
class Recipe:
    """What a forward pass depends on besides tokens; only sequences of equal recipes share a batch.

    A family with options of its own extends it.
    """

    cutoffs: tuple[int, ...] = ()
    """After which layers to score; empty: after the last."""

    def depth(self, layers: int) -> int:
        """How many of a model's `layers` it runs."""
        return max(self.cutoffs, default=layers)


class Runner(Protocol):
    """Turns batches into scores: one copy of a model on one device."""

    workers: int
    """How many threads may run batches at the same time. Each enters first, and leaves at the end."""
    shares: int
    """How many of them compute side by side. Beside one share, the other workers prepare a batch and read back scores
    while the device computes."""

    @property
    def fused(self) -> tuple[str, ...]:
        """What of `Stats.fused` its device can use."""

    def enter(self) -> None:
        """This thread will run batches."""

    def run(self, sequences: Sequence[TokenSequence], recipe: Recipe) -> list[LayerScores]:
        """Scores for each sequence, in the order given; `DoesNotFit` if the device's memory is too small."""

    def run_whole(self, sequences: Sequence[TokenSequence], recipe: Recipe) -> list[LayerScores]:
        """As `run`, with what the device has for all workers. Asked for only if there are several shares."""

    def token_budget(self) -> int:
        """How many tokens a worker can take at once."""

    def leave(self) -> None:
        """This thread runs nothing more; when the last one leaves, the device is freed."""


class DoesNotFit(Exception):
    """A batch needs more memory than the device has. A smaller batch may fit."""


@dataclass(eq=False)
class Request:
    """Sequences of one caller, and how many of them have no score yet."""

    sequences: Sequence[TokenSequence]
    recipe: Recipe
    caller: Hashable = field(default_factory=object)
    """Who asks: the requests of one caller take turns as one."""
    on_scored: Callable[[list[int]], object] | None = None
    """Called by a worker with the indices of sequences that have their scores now; must neither block nor raise."""
    future: Future[list[LayerScores]] = field(default_factory=Future)
    admitted: Future[None] = field(default_factory=Future)
    """Done once the request is inside the queue."""

    def __post_init__(self) -> None:
        self.tokens = sum(len(sequence.ids) for sequence in self.sequences)
        self.waiting = deque(in_order(self.sequences))
        self.number = -1
        """Which one it is of the queue's. Only the queue sets this."""
        self.door = 0
        """Through which of the queue's doors it came inside. Only the queue sets this."""
        self.scores: list[LayerScores] = [[]] * len(self.sequences)
        self.since = time.perf_counter()
        self._missing = len(self.sequences)
        self._lock = threading.Lock()  # two devices may finish parts of it at once

    def fill(self, scored: Sequence[tuple[int, LayerScores]]) -> None:
        """Set scores by index; the last ones settle the future."""
        with self._lock:
            for index, scores in scored:
                self.scores[index] = scores
            self._missing -= len(scored)
            missing = self._missing
        if self.on_scored is not None:
            self.on_scored([index for index, _ in scored])
        if missing == 0:
            settle(self.future.set_result, self.scores)

    def fail(self, error: BaseException) -> None:
        """Give the caller an error instead of scores, unless it has its scores already."""
        settle(self.admitted.set_result, None)
        settle(self.future.set_exception, _tellable(error))


class Task(NamedTuple):
    """One sequence of a request."""

    request: Request
    position: int

    @property
    def sequence(self) -> TokenSequence:
        return self.request.sequences[self.position]

    @property
    def tokens(self) -> int:
        return len(self.sequence.ids)


def in_order(sequences: Sequence[TokenSequence]) -> list[int]:
    """Indices in the order to score them: sequences of one prefix together, because they can share it; longest first.

    Neighbours of equal length share a kernel call, and the first batch needs the most memory.
    """
    prefixes: dict[tuple[int, ...], int] = {}
    groups = [prefixes.setdefault(tuple(s.ids[: s.prefix]), len(prefixes)) for s in sequences]
    return sorted(range(len(sequences)), key=lambda i: (groups[i], -len(sequences[i].ids)))


def _tellable(error: BaseException) -> BaseException:
    """An error that may be raised in a caller's thread or task; others, which would end or mislead it, as the cause.

    A `SystemExit` would end the caller, `StopIteration` can never be awaited, and a `TimeoutError` is not the call's.
    """
    if isinstance(error, RerankError) or (isinstance(error, Exception) and not isinstance(error, _MISLEADING)):
        return error
    told = RerankError(f"scoring failed with {type(error).__name__}: {error}")
    told.__cause__ = error
    return told


def settle(setter: Callable[[Any], None], outcome: object) -> None:
    """Set a future's outcome, unless its caller has cancelled it or another batch of its request has failed before."""
    with suppress(InvalidStateError):
        setter(outcome)
