"""Queries about Python with known answers, which come with this package: to measure rerankers on, never to train on.

There are two files: a frozen evaluation set with its own corpus, and questions written by hand. These name their
answers by words in them, and therefore fit the language reference of any Python. `training/build_evaluation.py` of the
repository says how they were made.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bge_rerank_integrations.corpus import Passage

EVALUATION = Path(__file__).with_name("evaluation.jsonl.gz")
QUESTIONS = Path(__file__).with_name("questions.jsonl")

Kind = Literal["faq", "heading", "sentence", "question"]


@dataclass(frozen=True)
class Query:
    """A query, its kind, and the indices of its relevant passages in the corpus, ascending."""

    text: str
    kind: Kind
    relevant: tuple[int, ...]


def load_evaluation_set() -> tuple[list[str], list[Query]]:
    """The texts of the frozen corpus, and the queries about it."""
    passages, queries = load_passages()
    return [passage.text for passage in passages], queries


def load_passages() -> tuple[list[Passage], list[Query]]:
    """The frozen corpus with its headings, and the queries about it."""
    with gzip.open(EVALUATION, "rt", encoding="utf-8") as file:
        corpus, *queries = map(json.loads, file)
    passages = [Passage(*row) for row in corpus["corpus"]]
    return passages, [Query(row["query"], row["kind"], tuple(row["relevant"])) for row in queries]


def load_questions(passages: Sequence[Passage]) -> list[Query]:
    """The questions written by hand that some of these passages answer.

    A question names its answers by words that only they contain: `relevant` has the indices of the passages with one
    of them. A question is left out if no passage does, which can happen with the reference of another Python.
    """
    queries = []
    for line in QUESTIONS.read_text(encoding="utf-8").splitlines():
        question = json.loads(line)
        answers = question["passages"]
        relevant = tuple(i for i, p in enumerate(passages) if any(words in p.text for words in answers))
        if relevant:
            queries.append(Query(question["query"], "question", relevant))
    return queries
