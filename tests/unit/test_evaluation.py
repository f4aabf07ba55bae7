"""The parts of the evaluation that need no model: reading, configurations, run files, statistics, the store."""

from __future__ import annotations

import json
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytrec_eval

from bge_rerank_integrations.errors import DataError, OptionError
from bge_rerank_integrations.evaluation import read_beir, read_configurations, read_jsonl
from bge_rerank_integrations.evaluation.figure import spread, untangled
from bge_rerank_integrations.evaluation.metrics import estimate, measure
from bge_rerank_integrations.evaluation.store import Store
from bge_rerank_integrations.evaluation.trec import ranked, write_run
from tests.beir_example import QRELS, QUERIES, write_beir


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


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
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n", "leaves no query"),
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
    with pytest.raises(DataError, match=r"dev\.tsv does not exist: splits there are: test"):
        read_beir(folder, "dev")
    with pytest.raises(DataError, match="not a folder"):
        read_beir(tmp_path / "nowhere")
    (folder / "corpus.jsonl").write_bytes(b'{"_id": "a", "text": "\xff"}\n')
    with pytest.raises(DataError, match=r"corpus\.jsonl, line 1 is not UTF-8"):
        read_beir(folder)


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
        ({"query": "q", "positives": ["a"], "negatives": ["a", "b"]}, "'a' is among the positives and the negatives"),
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
    assert "taken together with an earlier line of the same query: 1 line" in data.notes
    path.write_text(lines({"query": "q", "pos": ["a"], "neg": ["b"]}, {"query": "q", "pos": ["b"], "neg": ["c"]}))
    with pytest.raises(DataError, match=r"line 2: 'b' is among the positives and the negatives .*first line: .*line 1"):
        read_jsonl(path)
    assert sorted(read_jsonl(path, skip_bad=True).qrels["q1"].values()) == [0, 1, 1]


def test_configurations_expand_and_are_named() -> None:
    found = read_configurations(
        ["demo", "a/b,cutoff_layer=2-3+8,compress_ratio=2+4,compress_layers=8+16", "demo,devices=cpu,dtype=float32"]
    )
    assert [c.name for c in found[:3]] == [
        "demo",
        "b,cutoff_layer=2,compress_ratio=2,compress_layers=8+16",
        "b,cutoff_layer=2,compress_ratio=4,compress_layers=8+16",
    ]
    assert len(found) == 8
    assert found[1].options.compress_layers == (8, 16)
    assert found[-1].loading.placement.devices == ("cpu",)
    assert found[-1].settings() == {"model": "demo", "dtype": "float32", "devices": ["cpu"]}
    assert [c.options.query_instruction for c in read_configurations("demo,query_instruction=Frage: ")] == ["Frage: "]
    assert [c.options.max_length for c in read_configurations("demo, max_length = 64 + 65")] == [64, 65]
    swept = read_configurations({"model": Path("demo"), "max_length": (64, 65)})
    assert [c.name for c in swept] == ["demo,max_length=64", "demo,max_length=65"]


def test_long_names_are_told_apart_by_files_that_can_be_written(tmp_path: Path) -> None:
    names = ["问" * 200 + end for end in "ab"]
    files = [c.run_file for c in read_configurations([{"model": "demo", "name": name} for name in names])]
    assert files[0] != files[1]
    for file in files:
        (tmp_path / file).write_text("")


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_configurations_of_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    entries = [{"model": "demo", "name": "quick", "max_length": [64, 128]}, {"model": "demo", "prompt": "a, b"}]
    toml = '[[configuration]]\nmodel = "demo"\nname = "quick"\nmax_length = [64, 128]\n'
    toml += '[[configuration]]\nmodel = "demo"\nprompt = "a, b"\n'
    path.write_text("\ufeff" + (toml if suffix == ".toml" else json.dumps(entries)), encoding="utf-8")
    found = read_configurations([path])
    assert [c.name for c in found] == ["quick,max_length=64", "quick,max_length=128", "demo,prompt=a, b"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no configuration"),
        (["demo,length=5"], "'length' is not a setting of a configuration: use model, max_length,"),
        (["demo,max_length"], "not KEY=VALUE"),
        (["demo,max_length=5,max_length=6"], "max_length is given twice"),
        (["demo,cutoff_layer=8-2"], "backwards"),
        (["demo,max_length=abc"], "use a number, a range"),
        (["demo,scale=percent"], "'logit' or 'sigmoid'"),
        (["demo,attention_softcap=maybe"], "True or False"),
        (["demo", "demo"], "two configurations are called 'demo'"),
        (["a/demo", "b/demo"], "tell them apart with name="),
        (["demo,name=first stage"], "'first stage'"),
        ([",max_length=5"], "without a model"),
        ([{"model": "demo", "max_length": []}], "max_length=[] makes no configuration"),
        (["nowhere.toml"], "nowhere.toml does not exist"),
    ],
)
def test_bad_configurations(given: list[Any], said: str) -> None:
    with pytest.raises(OptionError) as refused:
        read_configurations(given)
    assert said in str(refused.value)


def test_runs_have_one_order_for_trec_eval(tmp_path: Path) -> None:
    """Equal scores, and scores that 32-bit floats cannot tell apart, keep the order given."""
    documents = [f"d{i}" for i in range(6)]
    scores = [0.5, 0.5, 0.1 + 1e-12, 0.1, 0.9, 0.5]
    run = ranked(documents, scores)
    assert list(run) == ["d4", "d0", "d1", "d5", "d2", "d3"]
    as_read = [float(np.float32(score)) for score in run.values()]
    assert as_read == list(run.values())
    assert all(a > b for a, b in pairwise(as_read))
    assert max(abs(run[d] - s) for d, s in zip(documents, scores, strict=True)) < 1e-6
    write_run(tmp_path / "x.run", {"q": run}, "x")
    read = {row.split()[2]: float(np.float32(row.split()[4])) for row in (tmp_path / "x.run").read_text().splitlines()}
    assert read == run


@pytest.mark.parametrize("relevant", ["d0", "d3"])
def test_a_query_of_equal_scores_keeps_the_first_stages_order(relevant: str) -> None:
    """trec_eval alone would put d3, the last name, first."""
    values = measure({"q": {relevant: 1}}, {"q": ranked(["d0", "d1", "d2", "d3"], [7.0] * 4)}, 4)
    rank = int(relevant[1]) + 1
    assert values["MRR@10"].tolist() == [1 / rank]
    assert values["nDCG@10"].tolist() == pytest.approx([1 / np.log2(rank + 1)])


def test_measures_are_those_of_trec_eval() -> None:
    random = np.random.default_rng(5)
    documents = [f"d{i}" for i in range(40)]
    qrels = {f"q{i}": {d: int(random.integers(0, 3)) for d in random.choice(documents, 8, False)} for i in range(20)}
    run = {query: ranked(documents, random.integers(0, 9, 40).tolist()) for query in qrels}
    values = measure(qrels, {**run, "q7": {}}, 40)
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10", "recall_10", "recall_40", "map"}).evaluate(run)
    for ours, name in (("nDCG@10", "ndcg_cut_10"), ("R@10", "recall_10"), ("R@40", "recall_40"), ("MAP", "map")):
        wanted = [0.0 if query == "q7" else theirs[query][name] for query in qrels]
        assert values[ours].tolist() == pytest.approx(wanted)


def test_intervals() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 400)
    found = estimate({"a": values, "b": values - values})
    assert found["a"].value == pytest.approx(values.mean())
    assert found["a"].low == pytest.approx(values.mean() - 1.96 * values.std() / 20, abs=0.002)
    assert found["a"].high == pytest.approx(values.mean() + 1.96 * values.std() / 20, abs=0.002)
    assert (found["b"].low, found["b"].high) == (0, 0)
    assert estimate({"a": values[:1]})["a"].low is None


def test_the_store_survives_a_line_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    store = Store(path, "data")
    store.open_configuration("a", {"max_length": 5})
    store.add([("a", "q1", [0.1, 1 / 3])])
    store.close()
    whole = path.read_bytes()
    for cut in (1, 20):
        path.write_bytes(whole + b'{"configuration": "a", "query": "q2", "scores": [1, 2]}'[:-cut])
        again = Store(path, "data")
        assert {query: list(scores) for query, scores in again.scores("a").items()} == {"q1": [0.1, 1 / 3]}
        again.close()
    with pytest.raises(DataError, match="other queries"):
        Store(path, "other data")
    again = Store(path, "data")
    with pytest.raises(DataError, match=r"max_length \(was 5, is 6\)"):
        again.open_configuration("a", {"max_length": 6})
    again.close()
    path.write_bytes(whole + b"garbage\n")
    with pytest.raises(DataError, match="line 4 is damaged"):
        Store(path, "data")
    path.write_bytes(whole + b"\xff\n")
    with pytest.raises(DataError, match="line 4 is damaged"):
        Store(path, "data")


@pytest.mark.parametrize("content", [b'{"player": "a"}\n{"player": "b"}', b"a note to myself"])
def test_the_store_leaves_the_files_of_others_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"scores\.jsonl is not a file of this command"):
        Store(path, "data")
    assert path.read_bytes() == content


def test_labels_are_spread() -> None:
    heights = spread([0.9, 0.5, 0.5, 0.5, 0.01, 0.0], 0.1)
    assert heights == pytest.approx([0.9, 0.5, 0.4, 0.3, 0.1, 0.0])
    assert spread([0.5], 0.1) == [0.5]


def test_lines_to_labels_never_cross() -> None:
    random = np.random.default_rng(3)
    for count in (1, 2, 7, 15):
        points = [(float(x), float(y)) for x, y in random.random((count, 2)).round(1)]  # some of them equal
        heights = spread(sorted((y for _, y in points), reverse=True), 0.06)
        chosen = untangled(points, heights, 1.1)
        assert sorted(chosen) == list(range(count))
        lines = [(points[index], (1.1, height)) for index, height in zip(chosen, heights, strict=True)]
        for upper, lower in combinations(lines, 2):
            for x in (upper[0][0], lower[0][0]):
                if x >= max(upper[0][0], lower[0][0]):
                    assert at(upper, x) >= at(lower, x) - 1e-9


def at(line: tuple[tuple[float, float], tuple[float, float]], x: float) -> float:
    (x0, y0), (x1, y1) = line
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
