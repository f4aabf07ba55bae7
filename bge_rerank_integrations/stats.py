"""Statistics of a scorer: what it has scored, how long it took, what waits."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Batch:
    """One forward pass."""

    sequences: int
    tokens: int
    seconds_queued: float
    """How long its sequences waited, on average."""
    seconds_forward: float


@dataclass(frozen=True)
class Stats:
    """Totals since the model was loaded, and what waits now. Seconds are sums over all threads."""

    pairs: int
    truncated_pairs: int
    tokens: int
    batches: int
    out_of_memory: int
    """How often a batch did not fit the device's memory and was halved."""
    seconds_tokenizing: float
    seconds_queued: float
    """The sum over all sequences."""
    seconds_forward: float
    queued_requests: int
    queued_tokens: int
    token_budget: int
    """Tokens in a batch at most, now: fewer than were set, for some time after a batch that did not fit the memory."""
    cache_hits: int
    cache_misses: int
    hook_errors: int
    last_hook_error: str | None
    dropped_reports: int
    """Batches that were not reported, because the hook was too slow."""
    fused: tuple[str, ...] = ()
    """On GPUs in half precision: the operators that are one kernel there. One that is missing did not build, or did not
    agree with torch's own, which is used instead."""

    @property
    def cache_hit_rate(self) -> float:
        """Share of sequences whose score was known, or was being computed; 0.0 without a cache."""
        return self.cache_hits / max(1, self.cache_hits + self.cache_misses)


@dataclass
class Counters:
    """The totals. Any number of threads may add to them."""

    pairs: int = 0
    truncated_pairs: int = 0
    tokens: int = 0
    batches: int = 0
    out_of_memory: int = 0
    seconds_tokenizing: float = 0.0
    seconds_queued: float = 0.0
    seconds_forward: float = 0.0
    hook_errors: int = 0
    last_hook_error: str | None = None
    dropped_reports: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count_pairs(self, pairs: int, truncated: int, seconds: float) -> None:
        with self._lock:
            self.pairs += pairs
            self.truncated_pairs += truncated
            self.seconds_tokenizing += seconds

    def count_batch(self, batch: Batch) -> None:
        with self._lock:
            self.batches += 1
            self.tokens += batch.tokens
            self.seconds_queued += batch.seconds_queued * batch.sequences
            self.seconds_forward += batch.seconds_forward

    def count_out_of_memory(self) -> None:
        with self._lock:
            self.out_of_memory += 1

    def count_hook_error(self, error: BaseException) -> None:
        with self._lock:
            self.hook_errors += 1
            self.last_hook_error = repr(error)

    def count_dropped_report(self) -> None:
        with self._lock:
            self.dropped_reports += 1

    def stats(self, **now: Any) -> Stats:
        """The totals. `now` has the other fields of `Stats`, which the engine knows."""
        with self._lock:
            totals = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "_lock"}
        return Stats(**totals, **now)
