"""Data sets in BEIR's layout, and the candidates of run files."""

from __future__ import annotations

from pathlib import Path

import pytest

from bge_rerank_integrations.errors import DataError
from bge_rerank_integrations.evaluation import read_beir
from tests.beir_example import QRELS, QUERIES, lines, write_beir


def test_beir_is_retrieved_with_bm25(tmp_path: Path) -> None:
    data = read_beir(write_beir(tmp_path), depth=5)
    assert list(data.queries) == [query for query in QUERIES if query != "unjudged"]
    assert data.first_stage == "BM25"
    assert data.depth <= 5
    assert next(iter(data.candidates["capital"])) == "paris"
    assert data.pairs("capital")[0] == (QUERIES["capital"], "Paris Paris is the capital of France.")
    for found in data.candidates.values():
        assert list(found.values()) == sorted(found.values(), reverse=True)
    assert any("not used: 1 query for which" in note for note in data.notes)


def test_a_run_file_is_taken_whole_unless_told_otherwise(tmp_path: Path) -> None:
    folder, run = write_beir(tmp_path), tmp_path / "my.run"
    extra = [f"d{i}" for i in range(60)]
    with (folder / "corpus.jsonl").open("a") as file:
        file.write(lines(*({"_id": name, "text": name} for name in extra)))
    run.write_text("".join(f"capital Q0 {name} {i} {-i} me\n" for i, name in enumerate(extra)))
    assert read_beir(folder, candidates=run).depth == 60
    assert read_beir(folder, candidates=run, depth=7).depth == 7


def test_a_query_is_no_candidate_of_itself(tmp_path: Path) -> None:
    folder, run = write_beir(tmp_path), tmp_path / "my.run"
    with (folder / "corpus.jsonl").open("a") as file:
        file.write(lines({"_id": "capital", "text": QUERIES["capital"]}))
    found = read_beir(folder, depth=3).candidates["capital"]
    assert len(found) == 3
    assert "capital" not in found
    run.write_text("capital Q0 capital 1 2 me\ncapital Q0 paris 2 1 me\n")
    assert list(read_beir(folder, candidates=run).candidates["capital"]) == ["paris"]


def test_candidates_of_a_run_file(tmp_path: Path) -> None:
    run = tmp_path / "my.run"
    run.write_text("capital Q0 seine 2 0.5 me\ncapital Q0 paris 1 0.5 me\ncapital Q0 bread 9 7e-1 me\n")
    data = read_beir(write_beir(tmp_path), candidates=run, depth=2)
    assert list(data.candidates["capital"]) == ["bread", "paris"]  # by score, then by rank
    assert data.candidates["rivers"] == {}
    assert data.first_stage == "my.run"
    assert any("without candidates" in note for note in data.notes)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("corpus.jsonl", "", "corpus.jsonl is empty"),
        ("corpus.jsonl", '{"_id": "a", "text": "x"}\n{oops\n', "line 2 is not JSON"),
        ("corpus.jsonl", "[1]\n", "line 1 is [1]: write an object"),
        ("corpus.jsonl", lines({"_id": "a", "title": "", "text": "  "}), "line 1: the text of _id='a' is blank"),
        ("corpus.jsonl", lines({"_id": "a", "text": "x"}, {"_id": "a", "text": "y"}), "line 2: _id='a' is given"),
        ("corpus.jsonl", lines({"_id": "a b", "text": "x"}), "_id='a b': use an id without white space"),
        ("corpus.jsonl", lines({"_id": "a\0b", "text": "x"}), "_id='a\\x00b': use an id without"),
        ("corpus.jsonl", '{"_id": ' + "9" * 5000 + "}\n", "line 1 is not JSON"),
        ("corpus.jsonl", lines({"_id": "a"}), "has no 'text'"),
        ("corpus.jsonl", lines({"_id": "a", "text": 5}), "text=5: use a string"),
        ("corpus.jsonl", lines({"_id": "a", "text": "\ud800"}), "half a surrogate pair"),
        ("queries.jsonl", lines({"_id": "q", "text": ""}), "queries.jsonl, line 1: the text of _id='q' is blank"),
        ("qrels/test.tsv", "capital\tparis\t1\n", "the header 'query-id\\tcorpus-id\\tscore' is needed"),
        (
            "qrels/test.tsv",
            "query-id\tcorpus-id\tscore\ncapital paris 1\n",
            "line 2 is 'capital paris 1': three columns",
        ),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\ncapital\tparis\thigh\n", "score='high': use a whole number"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\ncapital\tparis\t2147483648\n", "score=2147483648: use at most"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nnobody\tparis\t1\n", "query 'nobody' is not in queries.jsonl"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\ncapital\tx\t1\n", "document 'x' is not in corpus.jsonl"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\ncapital\tparis\t0\n", "'capital' has no relevant document"),
        (
            "qrels/test.tsv",
            "query-id\tcorpus-id\tscore\ncapital\tparis\t1\ncapital\tparis\t1\n",
            "line 3: query 'capital' and document 'paris' are judged a second time",
        ),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n", "has no usable query"),
    ],
)
def test_bad_beir_names_file_line_value_and_remedy(tmp_path: Path, file: str, content: str, said: str) -> None:
    folder = write_beir(tmp_path)
    (folder / file).write_text(content)
    with pytest.raises(DataError) as refused:
        read_beir(folder)
    assert said in str(refused.value)
    assert Path(file).name in str(refused.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("capital Q0 paris 1 1.0\n", "six columns"),
        ("capital Q0 paris 1 nan me\n", "score='nan': use finite numbers"),
        ("capital Q0 paris 1 -1e39 me\n", "score='-1e39': use finite numbers"),
        ("nobody Q0 paris 1 1 me\n", "query 'nobody'"),
        ("capital Q0 nowhere 1 1 me\n", "document 'nowhere'"),
        ("capital Q0 paris 1 1 me\ncapital Q0 paris 2 0 me\n", "line 2: document 'paris' is given twice"),
        ("\n", "is empty"),
    ],
)
def test_bad_run_files(tmp_path: Path, content: str, said: str) -> None:
    run = tmp_path / "bad.run"
    run.write_text(content)
    with pytest.raises(DataError, match=r"bad\.run") as refused:
        read_beir(write_beir(tmp_path), candidates=run)
    assert said in str(refused.value)


def test_bad_lines_can_be_left_out(tmp_path: Path) -> None:
    folder = write_beir(tmp_path)
    with (folder / "corpus.jsonl").open("a") as file:
        file.write(lines({"_id": "blank", "text": " "}, {"_id": "paris", "text": "again"}))
    with (folder / "qrels" / "test.tsv").open("a") as file:
        file.write("nobody\tparis\t1\ncapital\tblank\t1\nunjudged\tparis\t0\n")
    data = read_beir(folder, skip_bad=True)
    run = tmp_path / "my.run"
    run.write_text("capital Q0 paris 1 2 me\ncapital Q0 blank 2 1 me\nnobody Q0 paris 1 1 me\n")
    given = read_beir(folder, candidates=run, skip_bad=True)
    assert list(given.candidates["capital"]) == ["paris"]
    assert {"left out: unknown candidates (1)", "left out: candidates of unknown queries (1)"} < set(given.notes)
    assert list(data.queries) == list(QRELS)
    assert data.texts["paris"] == "Paris Paris is the capital of France."
    assert [note for note in data.notes if note.startswith("left out: ")] == data.notes[:5]


def test_other_splits_and_missing_files_are_named(tmp_path: Path) -> None:
    folder = write_beir(tmp_path)
    with pytest.raises(DataError, match=r"dev\.tsv does not exist: the splits of this folder are: test"):
        read_beir(folder, "dev")
    with pytest.raises(DataError, match="not a folder"):
        read_beir(tmp_path / "nowhere")
    (folder / "corpus.jsonl").write_bytes(b'{"_id": "a", "text": "\xff"}\n')
    with pytest.raises(DataError, match=r"corpus\.jsonl, line 1 is not UTF-8"):
        read_beir(folder)
