"""What a query, texts, pairs and `top_n` may be, and how scores become a ranking."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bge_rerank_integrations import Ranked, Scorer
from bge_rerank_integrations.ranking import rank


@pytest.mark.parametrize("bad", [None, 3, b"bytes", ["nested"], float("nan")])
def test_a_text_that_is_no_string_is_named_with_its_index(encoder: Scorer, bad: Any) -> None:
    with pytest.raises(TypeError, match=r"texts\[2\]"):
        encoder.score("q", ["a", "b", bad])
    with pytest.raises(TypeError, match=r"text of pairs\[1\]"):
        encoder.score_pairs([("q", "a"), ("q", bad)])
    with pytest.raises(TypeError, match="query"):
        encoder.score(bad, ["a"])
    with pytest.raises(TypeError, match=r"texts\[0\]"):
        asyncio.run(encoder.ascore("q", [bad]))


@pytest.mark.parametrize("bad", ["one string", None, 3])
def test_texts_must_be_a_list(encoder: Scorer, bad: Any) -> None:
    with pytest.raises(TypeError, match="list of strings"):
        encoder.score("q", bad)


@pytest.mark.parametrize("bad", ["q", None, [("q", "a", "b")], ["qa"], [("q",)], [3]])
def test_pairs_must_be_pairs(encoder: Scorer, bad: Any) -> None:
    with pytest.raises(TypeError, match="pair"):
        encoder.score_pairs(bad)


def test_any_sequence_or_iterator_will_do(encoder: Scorer) -> None:
    expected = encoder.score("q", ["a", "b"])
    assert encoder.score("q", ("a", "b")) == expected
    assert encoder.score_pairs(("q", text) for text in "ab") == expected
    assert encoder.score_pairs([["q", "a"], ["q", "b"]]) == expected  # type: ignore[list-item]


def test_rank_orders_and_cuts(encoder: Scorer) -> None:
    texts = ["a", "b c", "a", "", "d e f g"]
    scores = encoder.score("q", texts)
    ranked = encoder.rank("q", texts)
    assert [r.score for r in ranked] == sorted(scores, reverse=True)
    assert [r.index for r in ranked if texts[r.index] == "a"] == [0, 2]  # ties keep their order
    assert all(type(r.score) is float and scores[r.index] == r.score for r in ranked)
    assert encoder.rank("q", texts, top_n=2) == ranked[:2]
    assert encoder.rank("q", texts, top_n=0) == []
    assert encoder.rank("q", texts, top_n=99) == ranked
    threshold = ranked[2].score
    assert encoder.rank("q", texts, score_threshold=threshold) == [r for r in ranked if r.score >= threshold]
    assert ranked[0] == Ranked(ranked[0].index, ranked[0].score)


@pytest.mark.parametrize(("top_n", "error"), [(-1, ValueError), (2.0, TypeError), ("3", TypeError), (True, TypeError)])
def test_a_bad_top_n_is_refused(encoder: Scorer, top_n: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="top_n"):
        encoder.rank("q", ["a"], top_n=top_n)


def test_the_order_is_that_of_the_logits_where_sigmoids_are_all_one() -> None:
    ranked = rank([37.8, 35.8, 42.9, 64.8, 46.9, 36.5], scale="sigmoid")
    assert [one.index for one in ranked] == [3, 4, 2, 0, 5, 1]
    assert [one.score for one in ranked[:4]] == [1.0] * 4
    lowest = rank([-800.0, -750.0, 800.0], scale="sigmoid")
    assert lowest == [(2, 1.0), (1, 0.0), (0, 0.0)]


def test_ties_keep_their_order_and_thresholds_are_inclusive() -> None:
    assert [one.index for one in rank([40.0, 50.0, 40.0, 50.0], scale="sigmoid")] == [1, 3, 0, 2]
    assert rank([0.0, -1.0], score_threshold=0.5, scale="sigmoid") == [(0, 0.5)]
    assert rank([40.0, 3.0], score_threshold=1.0, scale="sigmoid") == [(0, 1.0)]  # as its score says
    assert rank([1.0, 2.0, 3.0], 1, 2.0) == [(2, 3.0)]


@pytest.mark.parametrize("threshold", [float("nan"), "0.5", True, b"1", object()])
@pytest.mark.parametrize("scale", ["logit", "sigmoid"])
def test_a_threshold_that_is_no_number_is_refused(threshold: Any, scale: Any, encoder: Scorer) -> None:
    scorer = encoder.with_options(scale=scale)
    with pytest.raises(ValueError, match=r"score_threshold=.*: use a number, or None to keep all"):
        scorer.rank("q", ["a"], score_threshold=threshold)
    with pytest.raises(ValueError, match="score_threshold="):
        asyncio.run(scorer.arank("q", ["a"], score_threshold=threshold))


@pytest.mark.parametrize("threshold", [5, -0.1, 1.0001])
def test_a_threshold_outside_the_scale_is_refused(threshold: float, encoder: Scorer) -> None:
    with pytest.raises(
        ValueError, match=f"score_threshold={threshold}: with scale='sigmoid' scores lie between 0 and 1"
    ):
        encoder.with_options(scale="sigmoid").rank("q", [], score_threshold=threshold)
    assert len(encoder.rank("q", ["a"], score_threshold=threshold)) <= 1
