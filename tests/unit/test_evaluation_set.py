"""The evaluation set and the hand-written questions that come with the package."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bge_rerank_integrations.corpus import Passage, language_reference
from bge_rerank_integrations.demo.evaluation_set import load_evaluation_set, load_questions

ROOT = Path(__file__).parents[2]


def test_the_frozen_set_is_the_published_one() -> None:
    texts, queries = load_evaluation_set()
    assert len(texts) == len(set(texts)) == 1643
    assert Counter(query.kind for query in queries) == {"faq": 178, "heading": 147, "sentence": 110, "question": 98}
    for query in queries:
        assert query.text.strip()
        assert list(query.relevant) == sorted(set(query.relevant))
        assert query.relevant
        assert 0 <= query.relevant[0] <= query.relevant[-1] < len(texts)


def test_questions_find_their_answers_in_the_reference_of_this_python() -> None:
    passages = language_reference()
    questions = load_questions(passages)
    assert len(questions) >= 80
    assert {question.kind for question in questions} == {"question"}
    (swap,) = (question for question in questions if "swap two variables" in question.text)
    assert any("overlaps between the left-hand side" in passages[index].text for index in swap.relevant)


def test_questions_that_nothing_answers_are_left_out() -> None:
    words = "no code for an assert statement when optimization is requested"
    passages = [Passage("assert", "assert", text) for text in ("something else", f"It emits {words}.", words)]
    (only,) = load_questions(passages)
    assert "sanity checks" in only.text
    assert only.relevant == (1, 2)
    assert load_questions([]) == []


def test_what_is_shown_and_tested_needs_the_package_alone() -> None:
    """`training/` is in the repository, not in the wheel."""
    shown = [
        *ROOT.glob("notebooks/*.ipynb"),
        *ROOT.glob("tests/**/*.py"),
        *ROOT.glob("bge_rerank_integrations/**/*.py"),
    ]
    words = ("from " + "training", "import " + "training")
    assert [path.name for path in shown if any(word in path.read_text(encoding="utf-8") for word in words)] == []
