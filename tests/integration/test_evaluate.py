"""`bge-rerank evaluate`, from files to files."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytrec_eval
from rich.console import Console

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.cli import main
from bge_rerank_integrations.errors import CheckpointError, DataError, OptionError
from bge_rerank_integrations.evaluation import evaluate, read_beir, read_jsonl
from tests.beir_example import QRELS, write_beir
from tests.conftest import CHECKPOINTS

ENCODER, LAYERWISE, LIGHTWEIGHT = (str(CHECKPOINTS / name) for name in ("encoder", "layerwise", "lightweight"))


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    return write_beir(tmp_path)


def read_run(path: Path) -> dict[str, dict[str, float]]:
    run: dict[str, dict[str, float]] = {}
    for line in path.read_text().splitlines():
        query, _, document, _, score, _ = line.split()
        run.setdefault(query, {})[document] = float(score)
    return run


def quality(out: Path) -> list[Any]:
    """Everything of results.json that does not depend on the clock."""
    rows = json.loads((out / "results.json").read_text())["rows"]
    return [(row["name"], row["metrics"], row["difference"]) for row in rows]


def test_the_command(
    beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["evaluate", str(beir), "--config", "demo,max_length=32+64", "--config", f"{ENCODER},name=tiny"]
    monkeypatch.setattr(sys, "argv", ["bge-rerank", *words, "--out", str(out), "--timing-queries", "2"])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr()
    assert not stopped.value.code
    assert said.err == ""
    for words_said in ("first stage", "tiny", "Pareto front", "the median of 2 sampled queries", "Best nDCG@10"):
        assert words_said in " ".join(said.out.split())
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "figure.svg").read_text()
    results = json.loads((out / "results.json").read_text())
    names = ["first stage (BM25)", "demo,max_length=32", "demo,max_length=64", "tiny"]
    assert [row["name"] for row in results["rows"]] == names
    for row in results["rows"]:
        run = read_run(out / row["run_file"])
        theirs = pytrec_eval.RelevanceEvaluator(QRELS, {"ndcg_cut_10", "recall_10", "map"}).evaluate(run)
        for ours, name in (("nDCG@10", "ndcg_cut_10"), ("R@10", "recall_10"), ("MAP", "map")):
            mean = sum(values[name] for values in theirs.values()) / len(QRELS)
            assert row["metrics"][ours]["value"] == pytest.approx(mean)
        if row["settings"]:
            assert row["seconds"]["median"] > 0
    assert any(row["on_front"] for row in results["rows"])


KILLED = """
import os, sys
from bge_rerank_integrations.evaluation import evaluate, read_beir
from bge_rerank_integrations.evaluation import scoring

scoring.CPU_PAIRS = 1

def watch(what, done, total):
    if what.startswith("scoring") and done == 3:
        os.kill(os.getpid(), 9)

evaluate(read_beir(sys.argv[1]), sys.argv[3:], out=sys.argv[2], timing_queries=1, watch=watch)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no kill -9")
def test_killed_and_started_again(beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [f"{LAYERWISE},cutoff_layer=3+5+8"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    done = subprocess.run([sys.executable, "-c", KILLED, str(beir), str(killed), *given], check=False, timeout=300)
    assert done.returncode == -9
    scored = (killed / "scores.jsonl").read_text()
    assert scored.count('"query"') == 9  # three queries at three layers
    with (killed / "scores.jsonl").open("a") as file:
        file.write('{"configuration": "layerwise,cut')
    monkeypatch.setattr("bge_rerank_integrations.evaluation.scoring.CPU_PAIRS", 1)
    data = read_beir(beir)
    evaluate(data, given, out=killed, timing_queries=1)
    evaluate(data, given, out=whole, timing_queries=1)
    assert (killed / "scores.jsonl").read_text().startswith(scored)
    assert quality(killed) == quality(whole)
    for run in (whole / "runs").iterdir():
        assert (killed / "runs" / run.name).read_bytes() == run.read_bytes()


def test_what_is_done_is_not_done_again(beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = read_beir(beir), tmp_path / "out"
    evaluate(data, ["demo"], out=out, timing_queries=1)
    first = quality(out)
    before = (out / "scores.jsonl").read_bytes()
    watched: list[str] = []
    evaluate(data, ["demo"], out=out, timing_queries=1, watch=lambda what, done, total: watched.append(what))
    assert (out / "scores.jsonl").read_bytes() == before
    assert not any(what.startswith(("loading", "scoring", "timing")) for what in watched)
    evaluate(data, ["demo", ENCODER], out=out, timing_queries=1)  # a configuration more
    assert (out / "scores.jsonl").read_bytes().startswith(before)
    assert quality(out)[:2] == first


def test_changes_are_noticed(beir: Path, tmp_path: Path) -> None:
    data, out = read_beir(beir), tmp_path / "out"
    evaluate(data, ["demo,name=mine"], out=out, timing_queries=1)
    with pytest.raises(DataError, match=r"'mine' with other settings: max_length \(was 512, is 64\).*delete"):
        evaluate(data, ["demo,name=mine,max_length=64"], out=out, timing_queries=1)
    with pytest.raises(DataError, match=r"other queries, candidates or judgements.*delete"):
        evaluate(read_beir(beir, depth=3), ["demo,name=mine"], out=out, timing_queries=1)


@pytest.mark.parametrize("model", [LAYERWISE, LIGHTWEIGHT, f"{LIGHTWEIGHT},head_index=layer"])
def test_layers_scored_together_are_those_scored_alone(
    model: str, beir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[list[int]] = []
    together = Scorer.score_layers

    def counted(self: Scorer, pairs: Any, cutoff_layers: Any) -> Any:
        passes.append(list(cutoff_layers))
        return together(self, pairs, cutoff_layers)

    monkeypatch.setattr(Scorer, "score_layers", counted)
    data, out = read_beir(beir), tmp_path / "out"
    evaluate(data, [f"{model},cutoff_layer=3-4+8"], out=out, timing_queries=1)
    assert passes == ([[3], [4], [8]] if model == LIGHTWEIGHT else [[3, 4, 8]])
    folder, _, rest = model.partition(",")
    options = {"head_index": "layer"} if rest else {}
    stored = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    for layer in (3, 4, 8):
        with load_scorer(folder, cutoff_layer=layer, **options) as scorer:  # type: ignore[arg-type]
            for row in stored:
                if "scores" in row and row["configuration"].endswith(f"cutoff_layer={layer}"):
                    alone = scorer.score_pairs(data.pairs(row["query"]))
                    assert row["scores"] == pytest.approx(alone, abs=1e-4)
    assert sum("scores" in row for row in stored) == 3 * len(QRELS)


def test_configurations_that_score_alike_are_rows_of_their_own(beir: Path) -> None:
    rows = evaluate(read_beir(beir), ["demo", "demo,max_length=256+512"], timing_queries=1).rows
    assert [row.name for row in rows[1:]] == ["demo", "demo,max_length=256", "demo,max_length=512"]
    assert rows[1].metrics == rows[3].metrics


def test_json_lines_and_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"query": "capital of France", "pos": ["Paris is it"], "neg": ["capital letters", "no"]}\n')
    result = evaluate(read_jsonl(path), ["demo"], timing_queries=1)
    assert [row.metrics["R@3"].value for row in result.rows] == [1, 1]
    assert result.rows[1].metrics["nDCG@10"].low is None
    result.plot(tmp_path / "figure.svg")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "figure.svg", path]


def test_equal_scores_are_told(beir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that cannot tell candidates apart gets the first stage's figures, and the table says so."""
    monkeypatch.setattr(Scorer, "score_pairs", lambda self, pairs: [0.25 for _ in pairs])
    first, constant = evaluate(read_beir(beir), ["demo"], timing_queries=1).rows
    assert constant.metrics == first.metrics
    assert constant.tied_queries > 0


def test_what_is_impossible_is_refused_before_anything_is_scored(
    beir: Path, tmp_path: Path, copy: Callable[..., Any]
) -> None:
    data, out = read_beir(beir), tmp_path / "out"
    with pytest.raises(OptionError, match=r"configuration 'layerwise,cutoff_layer=2': cutoff layer 2"):
        evaluate(data, ["demo", f"{LAYERWISE},cutoff_layer=2-4"], out=out)
    with pytest.raises(OptionError, match="not an option of the encoder family"):
        evaluate(data, ["demo,compress_ratio=2"], out=out)
    with pytest.raises(OptionError, match=r"max_length=1024: this model takes 512 tokens at most"):
        evaluate(data, ["demo,max_length=512+1024"], out=out)
    with pytest.raises(OptionError, match=r"compress_layers=\(8,\) with compress_ratio=2: .* layers 1 to 7"):
        evaluate(data, ["demo-lightweight,compress_ratio=1+2"], out=out)
    with pytest.raises(OptionError, match=r"compress_ratio=2 merges nothing: of compress_layers=\(5,\) none"):
        evaluate(data, ["demo-lightweight,compress_ratio=1+2,compress_layers=5,cutoff_layer=4"], out=out)
    with pytest.raises(OptionError, match=r"configuration 'demo,max_length=5': max_length=5 has no room"):
        evaluate(data, ["demo", "demo,max_length=5"], out=out)
    with pytest.raises(OptionError, match="seed=-1"):
        evaluate(data, "demo", out=out, seed=-1)
    broken = copy("encoder")
    (broken.folder / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(CheckpointError, match="broken or cut short"):
        evaluate(data, ["demo", f"{broken.folder},family=encoder"], out=out)
    assert not (out / "scores.jsonl").exists()


def test_a_change_of_the_tokenizers_settings_is_noticed(beir: Path, tmp_path: Path, copy: Callable[..., Any]) -> None:
    data, out, model = read_beir(beir), tmp_path / "out", copy("layerwise")
    evaluate(data, str(model.folder), out=out, timing_queries=1)
    settings = model.folder / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"pad_token": "<s>"}))
    with pytest.raises(DataError, match="other settings: weights or tokenizer"):
        evaluate(data, str(model.folder), out=out, timing_queries=1)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_the_table_on_any_terminal_whatever_names_hold(encoding: str, beir: Path, tmp_path: Path) -> None:
    name = r"costs $5 and $\frac{ [/b] 问题 " + "x" * 250
    words = ["evaluate", str(beir), "--out", str(tmp_path / "o[/1]"), "--timing-queries", "1"]
    finished = subprocess.run(
        [sys.executable, "-m", "bge_rerank_integrations", *words, "--config", f"demo,name={name}"],
        env=os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "60"},
        capture_output=True, encoding=encoding, timeout=120, check=True,
    )  # fmt: skip
    assert finished.stderr == ""
    assert "costs $5" in finished.stdout
    assert "on the Pareto front" in finished.stdout
    lines = finished.stdout.splitlines()
    (heads,) = (line for line in lines if "configuration" in line and "nDCG@10" in line)
    for head in ("nDCG@10", "MRR@10", "MAP", "stage, nDCG", "a query", "MB"):
        assert head in heads
    (first,) = (line for line in lines if "first stage" in line and "MAP" not in line and line.count("0.") > 2)
    assert len(re.findall(r"\b[01]\.\d{3}\b", first)) == 5
    assert (tmp_path / "o[/1]" / "figure.png").exists()


@pytest.mark.parametrize("width", [40, 80])
def test_names_are_broken_between_their_words(width: int, beir: Path) -> None:
    config = f"{LAYERWISE},cutoff_layer=8,query_max_length=32,query_instruction=representation,passage_instruction=x"
    result = evaluate(read_beir(beir), [config], timing_queries=1)
    words = set(re.split(r"[-\s,=+/_]+", result.rows[1].name))
    with io.StringIO() as file:
        Console(file=file, width=width).print(result.table(width), no_wrap=True, overflow="ignore", crop=False)
        printed = file.getvalue()
    for word in words:
        assert re.search(rf"\b{re.escape(word)}\b|_{re.escape(word)}\b|\b{re.escape(word)}_", printed), printed


def test_one_of_each_is_told_in_the_singular(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"query": "capital", "pos": ["Paris"], "neg": ["capital letters"]}\n')
    result = evaluate(read_jsonl(path), ["demo"], timing_queries=1)
    with io.StringIO() as file:
        result.show(Console(file=file, width=500))
        printed = file.getvalue()
    assert "Quality: 1 query with at most 2 candidates;" in printed
    assert "the median of 1 sampled query after" in printed
    assert not re.search(r"\b1 (queries|candidates|threads|texts|lines)\b", printed)


def test_results_need_a_folder(beir: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match="taken is a file: name a folder"):
        evaluate(read_beir(beir), ["demo"], out=tmp_path / "taken")


def test_one_process_at_a_time(beir: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / ".lock"), pytest.raises(DataError, match="another process"):
        evaluate(read_beir(beir), ["demo"], out=tmp_path)


@pytest.mark.parametrize("missing", ["ir_measures", "scipy", "matplotlib", "pytrec_eval", "filelock"])
def test_a_missing_extra_is_one_line(missing: str, beir: Path) -> None:
    code = f"""
import sys
sys.argv = ["bge-rerank", "evaluate", {str(beir)!r}, "--config", "demo", "--out", {str(beir / "out")!r}]
from bge_rerank_integrations.cli import main
sys.modules[{missing!r}] = None
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    package = {"ir_measures": "ir-measures", "pytrec_eval": "pytrec-eval-terrier"}.get(missing, missing)
    said = " ".join(done.stderr.split())
    assert f"{package}: not installed, and 'evaluate' needs it. Run: pip install {package}" in said
    assert "Traceback" not in done.stderr


def test_fused_rows_cost_no_scores_of_their_own_and_their_weight_is_chosen(
    beir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    real = Scorer.score_pairs

    def counted(self: Scorer, pairs: Any) -> Any:
        scored.append(len(pairs))
        return real(self, pairs)

    monkeypatch.setattr(Scorer, "score_pairs", counted)
    data = read_beir(beir)
    evaluate(data, ["demo"], timing_queries=1)
    once = len(scored)
    given = ["demo", "demo,fusion=weighted,fusion_weight=0+0.5+1", "demo,fusion=rrf,fusion_weight=chosen"]
    result = evaluate(data, given, timing_queries=1)
    assert len(scored) - once <= once + 4 * 4  # timed each by itself
    first, plain, none, both, retriever, chosen = result.rows
    assert (none.metrics, retriever.metrics) == (plain.metrics, first.metrics)
    assert both.settings == {"model": "demo", "fusion": "weighted"}
    assert len(chosen.chosen_weights) == 2
    console = Console(file=io.StringIO(), width=200)
    result.show(console)
    assert "chosen on each half of the queries" in console.file.getvalue()  # type: ignore[attr-defined]
    for bad, said in (("fusion_weight=0.5", "has no effect: add fusion"), ("fusion=rrf,fusion_weight=x", "or chosen")):
        with pytest.raises(OptionError, match=said):
            evaluate(data, [f"demo,{bad}"])


def test_windows_find_answers_after_the_cut(tmp_path: Path) -> None:
    rows = [
        {
            "query": f"What is the capital of {country}?",
            "positives": ["A croissant is made of dough. " * 20 + f"{city} is the capital of {country}."],
            "negatives": ["Butter is yellow. " * 30 + "It is cold.", "Bread is made of flour."],
        }
        for country, city in (("France", "Paris"), ("Italy", "Rome"), ("Spain", "Madrid"))
    ]
    path = tmp_path / "long.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    given = [f"demo,max_length=64,{long}" for long in ("long=truncate", "long=windows,max_windows=2+20")]
    result = evaluate(read_jsonl(path), given, out=tmp_path / "out", timing_queries=1)
    _, cut, few, windows = (row.metrics["nDCG@10"].value for row in result.rows)
    assert windows == 1 > max(cut, few)
    assert result.rows[3].settings["long"] == "windows"
    again = evaluate(read_jsonl(path), given, out=tmp_path / "out", timing_queries=1)
    assert [row.metrics for row in again.rows] == [row.metrics for row in result.rows]
    with pytest.raises(ValueError, match=r"passage 0 has \d+ tokens"):
        evaluate(read_jsonl(path), ["demo,max_length=64,long=refuse"], timing_queries=1)
