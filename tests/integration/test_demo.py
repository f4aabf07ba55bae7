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


def test_the_demonstration(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(
        sys, "argv", ["bge-rerank", "demo", "--query", "how do decorators work", "--query", "xyzzy", "--top-n", "4"]
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(SystemExit) as stopped:
        main()
    said = " ".join(capsys.readouterr().out.split())
    assert not stopped.value.code
    assert "demonstration model" in said
    assert "before: BM25" in said
    assert "the same ranking" in said
    assert "xyzzy: no passage shares a word with it" in said
