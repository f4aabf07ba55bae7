"""What is done before and after scoring, in the one order in which it is done.

    passages -> `text_choice` -> `blanks` set aside -> texts -> any scorer -> its ranking -> `fusion` -> `blanks` last
    -> threshold -> `duplicates` -> cut

Both adapters and `bge-rerank rank` go this way, with scorers of any kind. Without one of the two frameworks:

    ranked = rerank(scorer, query, [Passage(text, head=f"{title}\\n"), ...], RankingOptions(deduplicate=True), top_n=5)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from bge_rerank_integrations.blanks import BLANK_LOGIT, is_blank
from bge_rerank_integrations.duplicates import alike
from bge_rerank_integrations.fusion import fused, retrieval_ranks
from bge_rerank_integrations.options import RankingOptions, Scale
from bge_rerank_integrations.protocol import ScorerProtocol
from bge_rerank_integrations.ranking import Ranked, check_threshold, check_top_n, scaled
from bge_rerank_integrations.text_choice import Passage

DEFAULT = RankingOptions()


@dataclass(frozen=True)
class Reranked:
    """One passage of a ranking."""

    index: int
    """In the list that was given."""
    score: float
    """What the passages are ordered by: the reranker's score, or with fusion one out of both, from 0 to 1."""
    rerank_score: float
    """The reranker's own score, on its scale."""
    retrieval_score: float | None = None
    """The retriever's, as it was given."""
    retrieval_rank: int | None = None
    """With fusion: the rank, from 1, that the retriever gave it among those that were scored."""


def rerank(
    scorer: ScorerProtocol,
    query: str,
    passages: Sequence[Passage],
    options: RankingOptions = DEFAULT,
    top_n: int | None = None,
    score_threshold: float | None = None,
) -> list[Reranked]:
    """The passages, best first, ties in the order given.

    Args:
        scorer: a `Scorer`, or whatever has the methods of `ScorerProtocol`.
        top_n: how many to return at most; None: all.
        score_threshold: return only passages with at least this score of the reranker, in the unit of the scorer's
            scale, with fusion as well; None: all.

    Raises:
        TypeError, ValueError: as `Scorer.rank`.
    """
    cut = Cut.checked(top_n, score_threshold, scorer.options.scale)
    plan = Plan.of(passages, options)
    return plan.ranking(scorer.rank(query, plan.texts) if plan.texts else [], cut)


async def arerank(
    scorer: ScorerProtocol,
    query: str,
    passages: Sequence[Passage],
    options: RankingOptions = DEFAULT,
    top_n: int | None = None,
    score_threshold: float | None = None,
) -> list[Reranked]:
    """As `rerank`, without blocking the event loop."""
    cut = Cut.checked(top_n, score_threshold, scorer.options.scale)
    plan = Plan.of(passages, options)
    return plan.ranking(await scorer.arank(query, plan.texts) if plan.texts else [], cut)


class Cut(NamedTuple):
    """What of a ranking is returned, and on which scale."""

    top_n: int | None
    score_threshold: float | None
    scale: Scale

    @staticmethod
    def checked(top_n: int | None, score_threshold: float | None, scale: Scale) -> Cut:
        return Cut(check_top_n(top_n), check_threshold(score_threshold, scale), scale)


@dataclass(frozen=True)
class Plan:
    """Which texts are scored for some passages, and how their ranking becomes that of the passages."""

    passages: Sequence[Passage]
    options: RankingOptions
    texts: list[str]
    """To be ranked by a scorer, without a cut."""
    passage_of: list[int]
    """For each of the texts, which passage it is of."""

    @staticmethod
    def of(passages: Sequence[Passage], options: RankingOptions) -> Plan:
        kept = [i for i, one in enumerate(passages) if options.blank == "score" or not is_blank(one.scored)]
        return Plan(passages, options, texts=[passages[i].scored for i in kept], passage_of=kept)

    def ranking(self, ranked: Sequence[Ranked], cut: Cut) -> list[Reranked]:
        """The passages, best first, by the ranking of all the texts."""
        found = [self._reranked(self.passage_of[one.index], one.score) for one in ranked]
        if self.options.fuses:
            found = self._fused(found, cut.scale)
        found += self._blanks(cut.scale)
        if cut.score_threshold is not None:
            found = [one for one in found if one.rerank_score >= cut.score_threshold]
        if self.options.deduplicate:
            found = self._distinct(found)
        return found[: cut.top_n]

    def _reranked(self, index: int, score: float) -> Reranked:
        return Reranked(index, score, score, self.passages[index].retrieval_score)

    def _fused(self, found: Sequence[Reranked], scale: Scale) -> list[Reranked]:
        """By both scores, best first; equal ones as the reranker has them."""
        places, retrieved = [one.index for one in found], [one.retrieval_score for one in found]
        scores = fused([one.rerank_score for one in found], places, retrieved, self.options, scale)
        ranks = retrieval_ranks(places, retrieved)
        both = [
            replace(one, score=score, retrieval_rank=rank)
            for one, score, rank in zip(found, scores, ranks, strict=True)
        ]
        return sorted(both, key=lambda one: -one.score)

    def _blanks(self, scale: Scale) -> list[Reranked]:
        """The passages that were not scored, in the order given."""
        if self.options.blank != "last":
            return []
        scored = set(self.passage_of)
        blanks = [
            self._reranked(index, scaled(BLANK_LOGIT, scale))
            for index in range(len(self.passages))
            if index not in scored
        ]
        return [replace(one, score=0.0) for one in blanks] if self.options.fuses else blanks

    def _distinct(self, found: list[Reranked]) -> list[Reranked]:
        """The best of those with the same text. Those without a word stay: what differs in them is no text."""
        best: dict[object, Reranked] = {}
        for one in found:
            text = self.passages[one.index].scored
            best.setdefault(one.index if is_blank(text) else alike(text), one)
        return list(best.values())
