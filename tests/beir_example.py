"""A data set of a dozen documents in BEIR's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CORPUS = {
    "paris": ("Paris", "Paris is the capital of France."),
    "seine": ("Seine", "The Seine is the river that flows through the capital of France."),
    "lyon": ("Lyon", "Lyon is a large city in France, at two rivers."),
    "bread": ("", "A croissant is made of laminated dough."),
    "berlin": ("Berlin", "Berlin has been the capital of Germany since 1990."),
    "rhine": ("Rhine", "The Rhine is a river in Germany, France and the Netherlands."),
    "python": ("Python", "Python is a programming language with significant indentation."),
    "snake": ("Python", "Pythons are snakes that live in Africa and Asia."),
    "generator": ("", "A generator function contains yield and returns an iterator."),
    "list": ("", "A list is a mutable sequence, a tuple an immutable one."),
    "china": ("China", "China has over 1.4 billion people and a large capital."),
    "danube": ("Danube", "The Danube passes four capital cities; its language is water."),
}
QUERIES = {
    "capital": "What is the capital of France?",
    "rivers": "rivers in Germany",
    "population": "How many people live in China?",
    "language": "a programming language",
    "iterate": "Which function returns an iterator?",
    "mutable": "Is a tuple mutable?",
    "unjudged": "Does anybody judge this?",
}
QRELS = {
    "capital": {"paris": 2, "seine": 1, "berlin": 0},
    "rivers": {"rhine": 1, "danube": 1},
    "population": {"china": 1},
    "language": {"python": 1, "snake": 0},
    "iterate": {"generator": 1},
    "mutable": {"list": 1},
}


def write_beir(folder: Path) -> Path:
    """Write it below a folder and say where."""
    root = folder / "example"
    (root / "qrels").mkdir(parents=True)
    corpus = [{"_id": name, "title": title, "text": text} for name, (title, text) in CORPUS.items()]
    queries = [{"_id": name, "text": text} for name, text in QUERIES.items()]
    for file, rows in (("corpus", corpus), ("queries", queries)):
        (root / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    judged = [f"{query}\t{name}\t{value}" for query, names in QRELS.items() for name, value in names.items()]
    (root / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]) + "\n")
    return root


def lines(*rows: Any) -> str:
    """JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)
