"""What makes a scorer: each part of the protocol is asked for by its name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from bge_rerank_integrations import Ranked
from bge_rerank_integrations.options import ScoringOptions
from bge_rerank_integrations.protocol import ScorerProtocol, missing_methods
from bge_rerank_integrations.ranking import Pair, rank


class ByLength:
    """Scores a text by its length: all that the protocol asks for, and no line of the package's own `Scorer`."""

    def __init__(self) -> None:
        self.options = ScoringOptions()
        self.closed = False

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(len(text)) for text in texts]

    def score_pairs(self, pairs: Iterable[Pair]) -> list[float]:
        return [float(len(text)) for _, text in pairs]

    def rank(
        self, query: str, texts: Sequence[str], top_n: int | None = None, score_threshold: float | None = None
    ) -> list[Ranked]:
        return rank(self.score(query, texts), top_n, score_threshold)

    async def ascore(self, query: str, texts: Sequence[str]) -> list[float]:
        return self.score(query, texts)

    async def ascore_pairs(self, pairs: Iterable[Pair]) -> list[float]:
        return self.score_pairs(pairs)

    async def arank(
        self, query: str, texts: Sequence[str], top_n: int | None = None, score_threshold: float | None = None
    ) -> list[Ranked]:
        return self.rank(query, texts, top_n, score_threshold)

    def close(self) -> None:
        self.closed = True


def test_a_class_with_every_part_is_a_scorer() -> None:
    scorer: ScorerProtocol = ByLength()
    assert isinstance(scorer, ScorerProtocol)
    assert missing_methods(scorer) == []


@pytest.mark.parametrize("name", [name for name in vars(ScorerProtocol) if not name.startswith("_")])
def test_every_part_of_the_protocol_is_asked_for(name: str) -> None:
    parts = {part: getattr(ByLength(), part) for part in vars(ScorerProtocol) if not part.startswith("_")}
    lacking = type("Lacking", (), {part: value for part, value in parts.items() if part != name})()
    assert missing_methods(lacking) == [name]
