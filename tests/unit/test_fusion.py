"""Retriever and reranker together."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bge_rerank_integrations.fusion import fused, retrieval_ranks, standardised
from bge_rerank_integrations.options import RankingOptions
from bge_rerank_integrations.reranking import rerank
from bge_rerank_integrations.text_choice import Passage
from tests.unit.test_reranking import Letters

FUSIONS = st.sampled_from(["rrf", "weighted"])
SCORES = st.none() | st.floats(allow_nan=True, allow_infinity=True)
PASSAGES = st.lists(st.builds(Passage, st.text("ab .", max_size=8), st.just(""), SCORES), max_size=10)


def test_reciprocal_ranks() -> None:
    options = RankingOptions(fusion="rrf", fusion_weight=0.25)
    found = fused([9.0, 5.0], [1, 0], [None, None], options, "logit")
    assert found == [0.75 / 61 + 0.25 / 62, 0.75 / 62 + 0.25 / 61]


def test_scores_are_standardised_and_added() -> None:
    options = RankingOptions(fusion="weighted", fusion_weight=0.25)
    found = fused([9.0, 5.0], [1, 0], [10.0, 30.0], options, "logit")
    assert found == pytest.approx([1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(0.5))])
    assert fused([9.0, 9.0], [0, 1], [1.0, 1.0], options, "logit") == [0.5, 0.5]
    assert standardised([]) == []
    assert standardised([1e308, -1e308]) == [1, -1]


@pytest.mark.parametrize("retrieved", [[1.0, None, 3.0], [None] * 3, [1.0, math.nan, 3.0], [1.0, math.inf, 3.0]])
def test_the_order_counts_where_a_score_is_missing(retrieved: Any) -> None:
    assert retrieval_ranks([2, 0, 1], retrieved) == [3, 1, 2]
    assert retrieval_ranks([2, 0, 1], [5.0, 5.0, 7.0]) == [3, 2, 1]


@pytest.mark.parametrize("fusion", ["rrf", "weighted"])
def test_the_retriever_alone_at_the_other_end(fusion: Any) -> None:
    passages = [Passage("a" * count, retrieval_score=-count) for count in (2, 3, 1)]
    options = RankingOptions(fusion=fusion, fusion_weight=1)
    assert [one.index for one in rerank(Letters(), "q", passages, options)] == [2, 0, 1]
    unscored = [Passage(one.text) for one in passages]
    assert [one.index for one in rerank(Letters(), "q", unscored, options)] == [0, 1, 2]


@pytest.mark.parametrize("fusion", ["rrf", "weighted"])
def test_both_numbers_are_kept_and_the_threshold_is_the_rerankers(fusion: Any) -> None:
    passages = [
        Passage("a", retrieval_score=9.0),
        Passage("", retrieval_score=8.0),
        Passage("abc", retrieval_score=0.0),
    ]
    found = rerank(Letters(), "q", passages, RankingOptions(fusion=fusion, fusion_weight=0.7))
    told = [(one.index, one.rerank_score, one.retrieval_score, one.retrieval_rank) for one in found]
    assert told == [(0, 1, 9, 1), (2, 3, 0, 2), (1, -1000, 8, None)]
    assert 1 > found[0].score > found[1].score > found[2].score == 0
    kept = rerank(Letters(), "q", passages, RankingOptions(fusion=fusion, fusion_weight=0.7), score_threshold=3)
    assert kept == [found[1]]  # with the score that it has among all


@given(PASSAGES, FUSIONS)
def test_a_weight_of_0_is_no_fusion(passages: list[Passage], fusion: Any) -> None:
    assert rerank(Letters(), "q", passages, RankingOptions(fusion=fusion, fusion_weight=0)) == rerank(
        Letters(), "q", passages
    )


@given(PASSAGES, FUSIONS, st.floats(0, 1))
def test_no_passage_is_lost_and_scores_fall(passages: list[Passage], fusion: Any, weight: float) -> None:
    found = rerank(Letters(), "q", passages, RankingOptions(fusion=fusion, fusion_weight=weight))
    assert sorted(one.index for one in found) == list(range(len(passages)))
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)


@given(PASSAGES, st.floats(0.01, 1))
def test_the_scale_changes_nothing(passages: list[Passage], weight: float) -> None:
    options = RankingOptions(fusion="weighted", fusion_weight=weight)
    logits, sigmoids = (rerank(Letters(scale), "q", passages, options) for scale in ("logit", "sigmoid"))  # type: ignore[arg-type]
    by_index = {one.index: one.score for one in sigmoids}
    assert [by_index[one.index] for one in logits] == pytest.approx([one.score for one in logits], abs=1e-6)
