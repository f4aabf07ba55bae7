"""BM25 as the evaluation's first stage: what it reads in which script, and what it says about the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bge_rerank_integrations.errors import DataError, OptionError
from bge_rerank_integrations.evaluation import read_beir, read_jsonl


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def chinese(folder: Path) -> Path:
    """Four documents and three queries, one of which says nothing, in BEIR's layout."""
    corpus = {
        "a": "北京是中国的首都，人口超过两千万。",
        "b": "巴黎是法国的首都。",
        "c": "猫喜欢睡觉。",
        "d": "Paris is in France.",
    }
    queries = {"paris": "法国的首都是哪里？", "cat": "喜欢睡觉的动物", "nothing": "？！"}
    root = folder / "chinese"
    (root / "qrels").mkdir(parents=True)
    for file, texts in (("corpus", corpus), ("queries", queries)):
        rows = [{"_id": name, "text": text} for name, text in texts.items()]
        (root / f"{file}.jsonl").write_text(lines(*rows), encoding="utf-8")
    judged = "paris\tb\t1\ncat\tc\t1\nnothing\ta\t1\n"
    (root / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    return root


def test_chinese_is_retrieved(tmp_path: Path) -> None:
    data = read_beir(chinese(tmp_path))
    assert next(iter(data.candidates["paris"])) == "b"
    assert next(iter(data.candidates["cat"])) == "c"
    assert any("letters in pairs for Chinese" in note for note in data.notes)
    assert "not read by BM25: 1 query without a word that it counts, such as '？！'" in data.notes
    assert "0 in every row: 1 query without candidates" in data.notes


def test_queries_in_another_script_than_the_texts_are_told(tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_text(
        lines(
            {"query": "法国的首都", "pos": ["Paris is the capital."], "neg": ["Berlin is a city."]},
            {"query": "capital", "pos": ["Paris is the capital."], "neg": ["Berlin is a city.", "!!!"]},
        )
    )
    notes = read_jsonl(path).notes
    assert any("not ordered by BM25, so negatives first: 1 query" in note and "法国的首都" in note for note in notes)
    assert "not read by BM25: 1 text without a word that it counts" in notes
    assert not any("Chinese" in note for note in notes)
    folder = chinese(tmp_path)
    (folder / "queries.jsonl").write_text(lines({"_id": "paris", "text": "city of light"}))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nparis\tb\t1\n")
    with pytest.raises(DataError, match=r"are in one language; with candidates \(--candidates\), give the run"):
        read_beir(folder)


def test_data_in_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    content = '{"query": "法国的首都", "pos": ["巴黎是法国的首都。"], "neg": ["北京是中国的首都。"]}\n'
    path.write_text(content, encoding="gb18030")
    with pytest.raises(DataError, match=r"mine\.jsonl, line 1 is not UTF-8 .*--encoding gb18030"):
        read_jsonl(path)
    assert list(read_jsonl(path, encoding="gb18030").queries.values()) == ["法国的首都"]
    with pytest.raises(OptionError, match="encoding='klingon': use a name"):
        read_jsonl(path, encoding="klingon")
    path.write_text(content.replace("的首都", "的\u2028首都"), encoding="utf-8")
    assert list(read_jsonl(path).queries.values()) == ["法国的\u2028首都"]
