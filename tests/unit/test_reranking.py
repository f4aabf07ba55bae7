"""What is done before and after scoring: which text is read, texts without a word, duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bge_rerank_integrations.blanks import is_blank
from bge_rerank_integrations.options import RankingOptions, Scale, ScoringOptions
from bge_rerank_integrations.ranking import Pair, Ranked, rank, scaled
from bge_rerank_integrations.reranking import Reranked, arerank, rerank
from bge_rerank_integrations.text_choice import Passage, heads
from tests.unit.test_protocol import ByLength


class Letters(ByLength):
    """A scorer by the number of letters: a longer text is the better one."""

    def __init__(self, scale: Scale = "logit") -> None:
        self.options = ScoringOptions(scale=scale)
        self.read: list[str] = []

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        self.read += texts
        return [scaled(len(text), self.options.scale) for text in texts]

    def score_pairs(self, pairs: Iterable[Pair]) -> list[float]:
        return self.score("", [text for _, text in pairs])

    def rank(
        self, query: str, texts: Sequence[str], top_n: int | None = None, score_threshold: float | None = None
    ) -> list[Ranked]:
        self.read += texts
        return rank([len(text) for text in texts], top_n, score_threshold, self.options.scale)


def order(texts: Iterable[str], top_n: int | None = None, scorer: Letters | None = None, **options: Any) -> list[int]:
    found = rerank(scorer or Letters(), "q", [Passage(text) for text in texts], RankingOptions(**options), top_n)
    return [one.index for one in found]


# --- which text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata_fields", "metadata", "head"),
    [
        ((), {"title": "T"}, ""),
        (["title", "year"], {"year": 1999, "title": " T "}, "T\n1999\n"),
        (["title", "year"], {"title": None, "year": 0}, "0\n"),
        (["tags"], {"tags": ["a", "b"]}, "a, b\n"),
        ("{title} ({dc:year}) {text}", {"title": "T", "dc:year": 1}, "T (1) "),
        ("{title}: {text}", {"title": "{year}", "year": 1}, "{year}: "),  # a value is no template
        (lambda found: found["title"].upper(), {"title": "t"}, "T\n"),
        (lambda found: "", {"title": "t"}, ""),
    ],
)
def test_what_stands_before_a_text(metadata_fields: Any, metadata: dict[str, Any], head: str) -> None:
    before = dict(metadata)
    assert heads([metadata], RankingOptions(metadata_fields=metadata_fields).metadata_fields) == [head]
    assert metadata == before
    assert Passage("the text", head).scored.endswith("the text")


def test_a_function_must_return_text_and_changes_nothing() -> None:
    metadata = {"title": "t"}
    assert heads([metadata], lambda found: found.pop("title")) == ["t\n"]
    assert metadata == {"title": "t"}
    with pytest.raises(TypeError, match="metadata_fields returned None"):
        heads([metadata], lambda found: None)  # type: ignore[arg-type, return-value]


def test_a_key_that_no_document_has_is_a_warning_with_those_they_have() -> None:
    with pytest.warns(UserWarning, match="none of 2 documents has 'titel' in its metadata, which has 'title'"):
        heads([{"title": "t"}, {"title": "u"}], ["titel"])
    assert heads([{"title": "t"}, {"other": "u"}], ["title"]) == ["t\n", ""]
    assert heads([], ["title"]) == []


# --- texts without a word --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " ", "\n\t", "...", "* * *", "\u200b", "\ufeff", "\u3000。", "---", "\ud800"])
def test_a_text_without_a_word(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", "7", "。好", "½", "+", "😀", "- a -", "\u0e01"])
def test_a_text_with_a_word(text: str) -> None:
    assert not is_blank(text)


def test_texts_without_a_word_are_not_scored_and_stand_last() -> None:
    scorer, texts = Letters(), ["", "a", " " * 50, "abc"]
    found = rerank(scorer, "q", [Passage(text) for text in texts])
    assert [(one.index, one.score) for one in found] == [(3, 3), (1, 1), (0, -1000.0), (2, -1000.0)]
    assert sorted(scorer.read) == ["a", "abc"]
    assert order(texts, blank="drop") == [3, 1]
    assert order(texts, blank="score") == [2, 3, 1, 0]
    assert order(texts, top_n=3) == [3, 1, 0]


def test_on_the_other_scale_they_have_0_and_a_threshold_leaves_them_out() -> None:
    passages = [Passage(""), Passage("a")]
    assert [one.score for one in rerank(Letters("sigmoid"), "q", passages)] == [pytest.approx(0.731, abs=1e-3), 0.0]
    assert [one.index for one in rerank(Letters(), "q", passages, score_threshold=-100)] == [1]


def test_texts_without_a_word_alone_ask_the_model_nothing() -> None:
    scorer = Letters()
    assert order(["", " "], scorer=scorer) == [0, 1]
    assert order(["", " "], scorer=scorer, blank="drop") == []
    assert scorer.read == []


def test_a_title_is_a_word() -> None:
    found = rerank(Letters(), "q", [Passage("", head="a title\n"), Passage("a")])
    assert [one.index for one in found] == [0, 1]


# --- duplicates ------------------------------------------------------------------------------------------------------


def test_of_equal_texts_the_best_is_kept() -> None:
    texts = ["the  Text", "other", "THE TEXT ", "the text", "Straße", "STRASSE"]
    assert order(texts, deduplicate=True) == [0, 5, 1]
    assert order(texts, top_n=2, deduplicate=True) == [0, 5]  # others move up
    assert sorted(order(texts)) == list(range(6))


def test_equal_texts_with_other_titles_and_texts_without_a_word_are_no_duplicates() -> None:
    passages = [
        Passage("same", "one\n"),
        Passage("same", "three\n"),
        Passage("same", "one\n"),
        Passage(""),
        Passage(" "),
    ]
    found = rerank(Letters(), "q", passages, RankingOptions(deduplicate=True))
    assert [one.index for one in found] == [1, 0, 3, 4]


# --- altogether ------------------------------------------------------------------------------------------------------

TEXTS = st.lists(st.text("ab \n.B", max_size=6), max_size=12)


@given(TEXTS, st.sampled_from(["last", "drop", "score"]), st.booleans())
def test_what_is_kept_has_the_order_of_the_scorer(texts: list[str], blank: Any, deduplicate: bool) -> None:
    found = order(texts, blank=blank, deduplicate=deduplicate)
    assert len(set(found)) == len(found)
    with_words = [index for index, _ in Letters().rank("q", texts) if not is_blank(texts[index]) or blank == "score"]
    assert [index for index in found if index in with_words] == [index for index in with_words if index in found]
    if not deduplicate and blank != "drop":
        assert sorted(found) == list(range(len(texts)))


@given(TEXTS)
async def test_the_async_form_is_the_same(texts: list[str]) -> None:
    passages, options = [Passage(text) for text in texts], RankingOptions(deduplicate=True)
    found: list[Reranked] = await arerank(Letters(), "q", passages, options, top_n=3)
    assert found == rerank(Letters(), "q", passages, options, top_n=3)
