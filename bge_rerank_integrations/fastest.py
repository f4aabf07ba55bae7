"""`dtype="fastest"`: the dtype that this machine computes a model fastest in, among those that rank as float32 does."""

from __future__ import annotations

import logging
import statistics
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from bge_rerank_integrations.corpus import language_reference
from bge_rerank_integrations.errors import DeviceError, OutOfMemory, ScoreError
from bge_rerank_integrations.protocol import ScorerProtocol
from bge_rerank_integrations.ranking import Pair

CLOSE = 0.999
"""The least rank correlation with the scores in float32."""
ROUNDS = 3
"""How many times the sentences are scored; the quickest time counts, since others on the machine only add to it."""
HOPELESS = 2.0
"""What took so many times as long as the best in its first round is not timed again."""
QUERIES, SENTENCES, CHARACTERS = 4, 12, 200
"""So many queries with so many texts of so many characters each."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tried:
    """What was measured of one dtype."""

    dtype: str
    seconds: float
    correlation: float
    """Of ranks, with the scores in float32."""

    def __str__(self) -> str:
        return f"{self.dtype} {self.seconds:.3g} s, rank correlation {self.correlation:.4f}"


def fastest(
    load: Callable[[str], ScorerProtocol], dtypes: Sequence[str], clock: Callable[[], float] = time.perf_counter
) -> str:
    """Load a model in one dtype after the other, score a few sentences, and tell which to take. The log says why.

    Args:
        load: gives a scorer in a dtype, which is closed before the next one is loaded.
        dtypes: "float32" first, which the others are compared with.
        clock: seconds since some moment.

    Raises:
        DeviceError, OutOfMemory, ScoreError: float32 itself does not run here. Another dtype that does not is left out.
    """
    pairs = sample()
    expected: list[float] = []
    tried: list[Tried] = []
    for dtype in dtypes:
        try:
            with closing(load(dtype)) as scorer:
                scores = scorer.score_pairs(pairs)  # not timed: the first call also compiles kernels
                expected = expected or scores
                limit = HOPELESS * min((one.seconds for one in tried), default=float("inf"))
                tried.append(Tried(dtype, _seconds(scorer, pairs, limit, clock), rank_correlation(expected, scores)))
        except (DeviceError, OutOfMemory, ScoreError) as error:
            if not expected:
                raise
            _log.info("dtype='fastest': %s does not run here: %s", dtype, error)
    best = min((one for one in tried if one.correlation >= CLOSE), key=lambda one: one.seconds)
    _log.warning(  # what was decided for the user is shown without any setting of the log
        "dtype='fastest' chose %s for %d short texts (%s)", best.dtype, len(pairs), "; ".join(map(str, tried))
    )
    return best.dtype


def sample() -> list[Pair]:
    """Pairs of queries and short texts, the same ones every time."""
    passages = language_reference()
    chosen = passages[:: len(passages) // (QUERIES * SENTENCES)][: QUERIES * SENTENCES]
    titles = [passage.title for passage in chosen[::SENTENCES]]
    return [(titles[index % QUERIES], passage.text[:CHARACTERS]) for index, passage in enumerate(chosen)]


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's: 1.0 for the same order, ties included. *Shape:* (pairs,) both."""
    both = _ranks(first), _ranks(second)
    return 1.0 if both[0] == both[1] else statistics.correlation(*both) if len(set(both[1])) > 1 else 0.0


def _ranks(scores: Sequence[float]) -> list[int]:
    """Twice the mean of the places that equal scores share."""
    ordered = sorted(scores)
    return [bisect_left(ordered, score) + bisect_right(ordered, score) for score in scores]


def _seconds(scorer: ScorerProtocol, pairs: Sequence[Pair], limit: float, clock: Callable[[], float]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        started = clock()
        scorer.score_pairs(pairs)
        best = min(best, clock() - started)
        if best > limit:
            break
    return best
