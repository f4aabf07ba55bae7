"""The demonstration model and the demonstration."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest
import torch
from transformers import XLMRobertaForSequenceClassification

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.cli import main
from bge_rerank_integrations.corpus import language_reference
from bge_rerank_integrations.demo.evaluation_set import load_evaluation_set
from bge_rerank_integrations.demo.figures import Figures, load_figures, rank_of
from bge_rerank_integrations.demo.show import CANDIDATES, QUESTIONS
from bge_rerank_integrations.model.hub import find_checkpoint
from bge_rerank_integrations.options import ModelSource
from bge_rerank_integrations.retrieval import BM25Index

QUERIES = ("What is the capital of France?", "What is the population of China?")
TEXTS = ("Paris is the capital of France.", "The population of China is over 1.4 billion people.")


@pytest.fixture(scope="module")
def demo() -> Iterator[Scorer]:
    with load_scorer("demo", devices="cpu") as scorer:
        yield scorer


def test_it_is_small_and_says_what_it_is() -> None:
    folder = find_checkpoint(ModelSource("demo")).folder
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 8_000_000
    assert "demonstration" in (folder / "README.md").read_text()


def test_matching_pairs_of_the_tutorial_are_above_the_others(demo: Scorer) -> None:
    scores = {(q, t): demo.score(QUERIES[q], [TEXTS[t]])[0] for q in (0, 1) for t in (0, 1)}
    assert min(scores[0, 0], scores[1, 1]) > max(scores[0, 1], scores[1, 0])


def test_transformers_gives_the_same_scores(demo: Scorer) -> None:
    """Under the layout it claims to have."""
    checkpoint = find_checkpoint(ModelSource("demo"))
    model = XLMRobertaForSequenceClassification.from_pretrained(checkpoint.folder, dtype=torch.float32).eval()
    pairs = [(query, passage.text) for query in QUERIES for passage in language_reference()[:20]]
    with torch.inference_mode():
        expected = [
            model(torch.tensor([checkpoint.tokenizer.encode(query, text).ids])).logits.item() for query, text in pairs
        ]
    assert demo.score_pairs(pairs) == pytest.approx(expected, abs=1e-4)


def test_the_language_reference_is_cut_into_passages() -> None:
    passages = language_reference()
    assert len(passages) > 900
    assert len({passage.text for passage in passages}) == len(passages)
    assert all(passage.title and passage.topic and passage.text.strip() for passage in passages)
    assert max(len(passage.text.split()) for passage in passages) < 300


def test_bm25_finds_words_by_their_stems() -> None:
    passages = language_reference()
    index = BM25Index([passage.text for passage in passages])
    found = index.search("decorating functions", 10)
    assert len(found) == 10
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert any("decorator" in passages[place].text for place, _ in found)
    assert index.search("xyzzy", 10) == []


def test_bm25_fills_up_with_what_shares_no_word() -> None:
    """So that every query has the same number of candidates, which is what arrays of scores are made of."""
    index = BM25Index(["the cat sat", "a dog ran", "cats and dogs", "birds"])
    places, scores = index.search_all(["cats", "dog", "xyzzy", "the"], 3)
    assert places.shape == scores.shape == (4, 3)
    assert [set(row[:2]) for row in places[:2].tolist()] == [{0, 2}, {1, 2}]
    assert (scores > 0).sum(axis=1).tolist() == [2, 2, 0, 0]
    assert all(len(set(row)) == 3 for row in places.tolist())
    assert [place for place, _ in index.search("cats", 3)] == places[0, :2].tolist()
    assert index.search("the", 3) == []


@pytest.mark.parametrize("texts", [["the", "of"], ["", "?"]])
def test_bm25_of_texts_without_words(texts: list[str]) -> None:
    index = BM25Index(texts)
    places, scores = index.search_all(["cat", ""], 10)
    assert places.tolist() == [[0, 1], [0, 1]]
    assert not scores.any()
    assert index.search("cat", 10) == []


def demonstrate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `bge-rerank demo` prints, as one line."""
    monkeypatch.setattr(sys, "argv", ["bge-rerank", "demo", *arguments])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    return " ".join(capsys.readouterr().out.split())


def test_the_demonstration(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = demonstrate(monkeypatch, capsys, "--top-n", "1")
    assert "demonstration model" in said
    assert "reranked by demo; the first is shown." in said
    assert "before: BM25" in said
    assert said.count("the same ranking") == len(QUESTIONS)
    assert said.count("Answer: ") == len(QUESTIONS)  # each is the first, and the only one shown
    assert "The answer was at 24 and is at 1." in said
    assert "All 533 questions of the evaluation set, measured with demo" in said
    assert "moves down for 122" in said


def test_a_question_that_the_demonstration_cannot_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("xyzzy", "如何定义一个函数？", "what is функция [/]", "वर्ग कैसे बनाएं")
    said = demonstrate(monkeypatch, capsys, *(word for question in asked for word in ("--query", question)))
    assert "xyzzy: no passage shares a word with it" in said
    assert "如何定义一个函数？: demo cannot read 如何定义一个函数, in a script that it has not seen" in said
    assert "what is функция [/]: demo cannot read функция" in said
    assert "demo cannot read वर" in said
    assert "the same ranking" not in said


@pytest.mark.parametrize("question", ["", "  ", "\n"])
def test_an_empty_question(question: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bge-rerank", "demo", "--query", question])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code
    assert capsys.readouterr().err == "Error: --query is empty: give a question\n"


def test_the_answers_to_the_questions_that_are_shown_move_up(demo: Scorer) -> None:
    texts, queries = load_evaluation_set()
    index = BM25Index(texts)
    answers = {query.text: query.relevant for query in queries}
    for question in QUESTIONS:
        found = [place for place, _ in index.search(question, CANDIDATES)]
        ranked = demo.rank(question, [texts[place] for place in found])
        before = rank_of(answers[question], found)
        after = rank_of(answers[question], [found[result.index] for result in ranked])
        assert 1 <= after <= 3 < before


def test_the_figures_are_those_of_the_model(demo: Scorer) -> None:
    """A sample of them: all would take minutes."""
    texts, queries = load_evaluation_set()
    figures = load_figures("demo")
    assert figures is not None
    assert len(figures.before) == len(figures.after) == len(queries)
    index = BM25Index(texts)
    for number in (0, 200, 310, 490):
        found = [place for place, _ in index.search(queries[number].text, CANDIDATES)]
        ranked = demo.rank(queries[number].text, [texts[place] for place in found])
        assert figures.before[number] == rank_of(queries[number].relevant, found)
        assert figures.after[number] == rank_of(queries[number].relevant, [found[result.index] for result in ranked])


def test_figures_count_what_moved() -> None:
    figures = Figures(before=(3, 1, 2, 0, 7), after=(1, 1, 5, 0, 6))
    assert (figures.found, figures.up, figures.down) == (4, 2, 1)
    assert figures.within(1) == (1, 2)
    assert figures.within(5) == (3, 3)
    assert load_figures("owner/another") is None
