"""What is done before and after scoring, in the one order in which it is done.

    passages -> `text_choice` -> `blanks` set aside -> `windows` -> texts -> any scorer -> its ranking -> best window
    -> `fusion` -> `blanks` last -> threshold -> `duplicates` -> cut

Both adapters and `bge-rerank rank` go this way, with scorers of any kind. Without one of the two frameworks:

    ranked = rerank(scorer, query, [Passage(text, head=f"{title}\\n"), ...], RankingOptions(deduplicate=True), top_n=5)
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from bge_rerank_integrations.blanks import BLANK_LOGIT, is_blank
from bge_rerank_integrations.duplicates import alike
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.fusion import fused, retrieval_ranks
from bge_rerank_integrations.options import RankingOptions, Scale
from bge_rerank_integrations.protocol import ScorerProtocol
from bge_rerank_integrations.ranking import Ranked, check_query, check_threshold, check_top_n, scaled
from bge_rerank_integrations.text_choice import Passage
from bge_rerank_integrations.windows import CharacterRuler, Ruler, Span, fits, short_head, windows

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
    span: Span | None = None
    """With windows: the characters of its text, first and one after the last, that its score is of."""


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
        TypeError, ValueError: as `Scorer.rank`; or a text is too long, and `long` is "refuse".
        OptionError: `long` is "refuse", and the scorer has no tokenizer here.
    """
    cut = Cut.checked(top_n, score_threshold, scorer.options.scale)
    plan = Plan.of(query, passages, options, scorer)
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
    if options.long == "truncate":
        plan = Plan.of(query, passages, options, scorer)
    else:  # tokenizing takes a while
        plan = await asyncio.to_thread(Plan.of, query, passages, options, scorer)
    return plan.ranking(await scorer.arank(query, plan.texts) if plan.texts else [], cut)


def _check_fit(passages: Sequence[Passage], indices: Sequence[int], room: int, ruler: Ruler) -> None:
    if not ruler.exact:
        raise OptionError(
            "long='refuse' needs the model's tokenizer, which a scorer that runs elsewhere does not have here: use "
            "long='windows' or 'truncate', or let the server refuse"
        )
    for index in indices:
        if not fits(passages[index].scored, room, ruler):
            raise ValueError(
                f"passage {index} has {len(ruler.tokens(passages[index].scored)):,} tokens, and {room:,} fit beside "
                "the query: use long='windows', a larger max_length, or long='truncate' to read the beginning alone"
            )


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
    spans: list[Span | None]
    """For each of the texts, with windows: which characters of the passage's own text it has."""

    @staticmethod
    def of(query: str, passages: Sequence[Passage], options: RankingOptions, scorer: ScorerProtocol) -> Plan:
        kept = [i for i, one in enumerate(passages) if options.blank == "score" or not is_blank(one.scored)]
        if options.long == "truncate":
            return Plan(passages, options, [passages[i].scored for i in kept], kept, [None] * len(kept))
        check_query(query)
        ruler: Ruler = getattr(scorer, "ruler", None) or CharacterRuler(scorer.options.max_length)
        room = ruler.room(query)
        if options.long == "refuse":
            _check_fit(passages, kept, room, ruler)
            return Plan(passages, options, [passages[i].scored for i in kept], kept, [None] * len(kept))
        plan = Plan(passages, options, [], [], [])
        for i in kept:
            text, head = passages[i].text, passages[i].head
            short = short_head(head, room, ruler)
            cut = windows(text, short, room, options.window_overlap, options.max_windows, ruler)
            whole = cut == [(0, len(text))]
            for start, end in cut:
                plan.texts.append((head if whole else short) + text[start:end])
                plan.passage_of.append(i)
                plan.spans.append((start, end))
        return plan

    def best(self, scores: Sequence[float]) -> list[float]:
        """The score of each passage, in the order given: its best text's. Every passage must have one.

        *Shape:* (texts,) to (passages,).
        """
        best = [-math.inf] * len(self.passages)
        for passage, score in zip(self.passage_of, scores, strict=True):
            best[passage] = max(best[passage], score)
        return best

    def ranking(self, ranked: Sequence[Ranked], cut: Cut) -> list[Reranked]:
        """The passages, best first, by the ranking of all the texts."""
        best: dict[int, Reranked] = {}
        for one in ranked:  # the first of a passage's windows is its best
            index = self.passage_of[one.index]
            best.setdefault(index, replace(self._reranked(index, one.score), span=self.spans[one.index]))
        found = list(best.values())
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
