"""Long texts in windows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bge_rerank_integrations import Scorer
from bge_rerank_integrations.blanks import is_blank
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.options import RankingOptions
from bge_rerank_integrations.reranking import Plan, rerank
from bge_rerank_integrations.text_choice import Passage
from bge_rerank_integrations.windows import CharacterRuler, windows
from tests.conftest import FAMILIES
from tests.unit.test_reranking import Letters

RULER = CharacterRuler(512)
QUERY = "the capital of France"
TEXT = st.text("abc .。\n好é", max_size=400)


@given(TEXT, st.integers(10, 60), st.integers(0, 40))
def test_windows_have_every_letter_and_fit(text: str, room: int, overlap: int) -> None:
    found = windows(text, "", room, overlap, 1000, RULER)
    read = {place for start, end in found for place in range(start, end)}
    assert not "".join(letter for place, letter in enumerate(text) if place not in read).strip()
    assert all(len(RULER.tokens(text[start:end])) <= room for start, end in found)
    starts = [start for start, _ in found]
    assert starts == sorted(set(starts))
    if len(RULER.tokens(text)) <= room:
        assert found == [(0, len(text))]


def test_windows_end_with_sentences_and_overlap_by_them() -> None:
    text = "".join(f"This is sentence {number:02}. " for number in range(20))
    found = [text[start:end] for start, end in windows(text, "", 40, 10, 100, RULER)]
    assert all(window.startswith("This") and window.endswith(".") for window in found)
    assert all(after.split(". ")[0] in before for before, after in pairwise(found))
    apart = windows(text, "", 40, 0, 100, RULER)
    assert all(after[0] - before[1] == 1 for before, after in pairwise(apart))


def test_the_number_of_windows_is_bounded() -> None:
    assert len(windows("word " * 100_000, "", 50, 10, 3, RULER)) == 3


def test_a_head_is_in_every_window() -> None:
    options = RankingOptions(long="windows", max_windows=3)
    plan = Plan.of("q", [Passage("word " * 1000, "Title\n"), Passage("short", "T\n")], options, Letters())
    assert plan.passage_of == [0, 0, 0, 1]
    assert all(text.startswith("Title\nword") for text in plan.texts[:3])
    assert plan.texts[3] == "T\nshort"
    assert all(len(RULER.tokens(text)) < 512 for text in plan.texts)
    long_title = Plan.of("q", [Passage("word " * 1000, "title " * 1000)], options, Letters())
    assert all("word" in text for text in long_title.texts)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_after_the_cut_is_found_and_its_place_told(family: str, scorers: Callable[[str], Scorer]) -> None:
    scorer = scorers(family).with_options(max_length=48)
    sentences = [f"A croissant number {number} is made of dough. " for number in range(12)]
    passage = Passage("".join(sentences))
    before = scorer.truncated_pairs
    plan = Plan.of(QUERY, [passage], RankingOptions(long="windows", max_windows=50), scorer)
    (found,) = rerank(scorer, QUERY, [passage], RankingOptions(long="windows", max_windows=50))
    assert scorer.truncated_pairs == before
    assert found.span in plan.spans
    assert found.span is not None
    assert found.score == pytest.approx(max(scorer.score(QUERY, plan.texts)), abs=1e-4)
    start, end = found.span
    assert scorer.score(QUERY, [passage.text[start:end]])[0] == pytest.approx(found.score, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_windows_of_a_short_text_are_the_text(family: str, scorers: Callable[[str], Scorer]) -> None:
    scorer = scorers(family).with_options(max_length=64)

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.text("abc Paris.\n好é", max_size=24), min_size=1, max_size=4), st.text("ab ", max_size=9))
    def check(texts: list[str], query: str) -> None:
        passages = [Passage(text) for text in texts]
        fitting = scorer.truncated_pairs
        plain = rerank(scorer, query, passages)
        if scorer.truncated_pairs > fitting:
            return
        plan = Plan.of(query, passages, RankingOptions(long="windows"), scorer)
        assert plan.texts == [text for text in texts if not is_blank(text)]
        windowed = rerank(scorer, query, passages, RankingOptions(long="windows"))
        assert [one.index for one in windowed] == [one.index for one in plain]
        assert [one.score for one in windowed] == pytest.approx([one.score for one in plain], abs=1e-4)
        assert rerank(scorer, query, passages, RankingOptions(long="refuse"))

    check()


def test_what_does_not_fit_is_refused_by_number(scorers: Callable[[str], Scorer]) -> None:
    scorer = scorers("encoder").with_options(max_length=32)
    with pytest.raises(ValueError, match=r"passage 1 has \d+ tokens, and \d+ fit beside the query: use long="):
        rerank(scorer, QUERY, [Passage("short"), Passage("long " * 50)], RankingOptions(long="refuse"))
    with pytest.raises(OptionError, match="needs the model's tokenizer"):
        rerank(Letters(), QUERY, [Passage("short")], RankingOptions(long="refuse"))
