"""The methods that adapters need. Any object that has them can be used in place of `Scorer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

from bge_rerank_integrations.options import ScoringOptions
from bge_rerank_integrations.ranking import Pair, Ranked

Progress = Callable[[int, int], object]
"""Called with the number of scored texts and the number of all."""


@runtime_checkable
class ScorerProtocol(Protocol):
    """Scores texts for queries. The docstrings of `Scorer` say what each method takes, returns and raises."""

    @property
    def options(self) -> ScoringOptions:
        """The options that it scores with."""

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """One score for each text, in the order given."""

    def score_pairs(self, pairs: Iterable[Pair]) -> list[float]:
        """One score for each pair, in the order given."""

    def rank(
        self, query: str, texts: Sequence[str], top_n: int | None = None, score_threshold: float | None = None
    ) -> list[Ranked]:
        """The texts by score, best first, ties in the order given."""

    async def ascore(self, query: str, texts: Sequence[str]) -> list[float]:
        """As `score`, without blocking the event loop."""

    async def ascore_pairs(self, pairs: Iterable[Pair]) -> list[float]:
        """As `score_pairs`, without blocking the event loop."""

    async def arank(
        self, query: str, texts: Sequence[str], top_n: int | None = None, score_threshold: float | None = None
    ) -> list[Ranked]:
        """As `rank`, without blocking the event loop."""

    def close(self) -> None:
        """Free what it holds. May be called twice."""


def missing_methods(scorer: object) -> list[str]:
    """The names in `ScorerProtocol` that an object does not have; if there are none, it can be used as a scorer."""
    wanted = [name for name in vars(ScorerProtocol) if not name.startswith("_")]
    return [name for name in wanted if not hasattr(scorer, name)]
