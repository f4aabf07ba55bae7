"""What adapters, `rank` and `evaluate` need of a scorer: whatever has these methods can take the place of `Scorer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

from bge_rerank_integrations.options import ScoringOptions
from bge_rerank_integrations.ranking import Pair, Ranked

Progress = Callable[[int, int], object]
"""Called with how many texts are scored and how many there are."""


@runtime_checkable
class ScorerProtocol(Protocol):
    """Scores texts for queries. `Scorer` documents what each method takes, returns and raises."""

    @property
    def options(self) -> ScoringOptions:
        """How it scores."""

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """One score a text, in the order given."""

    def score_pairs(self, pairs: Iterable[Pair]) -> list[float]:
        """One score a pair, in the order given."""

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
        """Free what it holds. Closing twice is fine."""


def missing_methods(scorer: object) -> list[str]:
    """The names of `ScorerProtocol` that an object lacks; none: it can be used as a scorer."""
    wanted = [name for name in vars(ScorerProtocol) if not name.startswith("_")]
    return [name for name in wanted if not hasattr(scorer, name)]
