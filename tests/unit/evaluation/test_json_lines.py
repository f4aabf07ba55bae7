"""Data sets of one JSON file: a query, its positives and its negatives on each line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bge_rerank_integrations.errors import DataError
from bge_rerank_integrations.evaluation import read_jsonl
from tests.beir_example import lines


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(
        lines(
            {"query": "cats", "positives": ["about cats"], "negatives": ["about dogs", "cats and cats"]},
            {"query": "zebra", "pos": ["one", "two"], "neg": ["three"], "prompt": "ignored"},
        )
    )
    data = read_jsonl(path)
    order = {query: [data.texts[document] for document in found] for query, found in data.candidates.items()}
    assert order["q1"][-1] == "about dogs"
    assert order["q2"] == ["three", "one", "two"]  # BM25 finds nothing: the negative comes first
    assert sum(data.qrels["q2"].values()) == 2


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"query": "q", "positives": ["a"]}, "none of 'negatives' and 'neg'"),
        ({"query": "q", "positives": ["a"], "pos": ["a"], "neg": ["b"]}, "both of 'positives' and 'pos'"),
        ({"query": "q", "positives": "a", "negatives": ["b"]}, "positives='a': use a list"),
        ({"query": "q", "positives": [], "negatives": ["b"]}, "line 1 has no positives"),
        ({"query": "q", "positives": ["a"], "negatives": []}, "line 1 has no negatives"),
        ({"query": "q", "positives": ["a"], "negatives": ["a", "b"]}, "'a' is a positive and a negative"),
        ({"query": "q", "positives": ["a", "a"], "negatives": ["b"]}, "positives[1]='a' is given twice"),
        ({"query": "q", "positives": ["a"], "negatives": [" "]}, "negatives[0] is blank"),
        ({"query": " ", "positives": ["a"], "negatives": ["b"]}, "the query is blank"),
        ({"positives": ["a"], "negatives": ["b"]}, "has no 'query'"),
    ],
)
def test_bad_json_lines(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(lines(row))
    with pytest.raises(DataError, match=r"bad\.jsonl, line 1") as refused:
        read_jsonl(path)
    assert said in str(refused.value)


def test_lines_of_one_query_are_taken_together(tmp_path: Path) -> None:
    path = tmp_path / "twice.jsonl"
    path.write_text(
        lines(
            {"query": "cats", "pos": ["about cats"], "neg": []},
            {"query": "dogs", "pos": ["about dogs"], "neg": ["about cats"]},
            {"query": "cats", "pos": ["about cats", "cats and cats"], "neg": ["about dogs"]},
        )
    )
    data = read_jsonl(path)
    judged = {data.queries[query]: {data.texts[d]: v for d, v in found.items()} for query, found in data.qrels.items()}
    assert judged == {
        "cats": {"about cats": 1, "cats and cats": 1, "about dogs": 0},
        "dogs": {"about dogs": 1, "about cats": 0},
    }
    assert "merged with an earlier line of the same query: 1 line" in data.notes
    path.write_text(lines({"query": "q", "pos": ["a"], "neg": ["b"]}, {"query": "q", "pos": ["b"], "neg": ["c"]}))
    with pytest.raises(DataError, match=r"line 2: 'b' is a positive and a negative .*first line: .*line 1"):
        read_jsonl(path)
    assert sorted(read_jsonl(path, skip_bad=True).qrels["q1"].values()) == [0, 1, 1]
