"""`bge-rerank score-dataset`: every row once, whenever it is killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock
from tokenizers import Tokenizer

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.cli import main
from bge_rerank_integrations.dataset import Columns, Summary, score
from bge_rerank_integrations.errors import CheckpointError, DataError, OptionError, ScoreError
from tests.conftest import Copy
from tests.integration.dataset_example import (
    BLOCK_ROWS,
    BROKEN,
    ENCODER,
    ROWS,
    rows,
    score_and_report,
    scores,
    set_aside,
    write_lines,
    write_table,
)

GOOD = [row for row in rows() if row["id"] not in BROKEN]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "rows.jsonl")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "rows.parquet")


@pytest.fixture(scope="module")
def expected() -> dict[int, float]:
    """Every row's score, without blocks."""
    with load_scorer(ENCODER) as scorer:
        found = scorer.score_pairs([(row["query"], row["passage"]) for row in rows()])
    return dict(enumerate(found))


@pytest.fixture(scope="module")
def processes() -> BaseContext:
    """Processes that start with the package imported, in a moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.integration.dataset_example", "bge_rerank_integrations.loading"])
    return context


def run(source: Path, destination: Path, **options: Any) -> Summary:
    return score(source, destination, **{"model": ENCODER, "block_rows": BLOCK_ROWS, **options})


def check_lines(folder: Path, expected: dict[int, float]) -> None:
    """The output of `write_lines`: each row once, in order, scored or set aside."""
    found = scores(folder)
    assert [number for number, _ in found] == [row["id"] for row in GOOD]
    assert [value for _, value in found] == pytest.approx([expected[number] for number, _ in found], abs=1e-5)
    assert [row["row"] for row in set_aside(folder)] == [number + 1 for number in BROKEN]
    assert not list(folder.rglob(".writing-*"))


def test_the_command(
    lines: Path,
    tmp_path: Path,
    expected: dict[int, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    words = ["score-dataset", str(lines), str(out), "--model", ENCODER, "--block-rows", str(BLOCK_ROWS)]
    monkeypatch.setattr(sys, "argv", ["bge-rerank", *words, "--option", "max_length=512"])
    said = []
    for _ in range(2):
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code
        said.append(capsys.readouterr())
    assert [one.err for one in said] == ["", ""]
    assert f"58 of 61 rows have scores in {out}" in said[0].out
    assert f"3 could not be scored: {out / '_set_aside'} says why" in said[0].out
    assert "58 pairs in" in said[0].out
    assert "61 rows were done before" in said[1].out
    check_lines(out, expected)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--option", "max_length"], "--option max_length: use NAME=VALUE"),
        (["--option", "max_length=long"], "--option max_length=long: use a number"),
        (["--option", "length=3"], "unknown option 'length'"),
        (["--option", "devices=cpu"], "unknown option 'devices'"),
        (["--format", "csv"], "output_format='csv': use one of parquet, jsonl"),
        (["--gpus-per-actor", "1"], "--gpus-per-actor 1 is for Ray: say how many --actors"),
    ],
)
def test_words_that_are_refused(
    lines: Path,
    tmp_path: Path,
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["bge-rerank", "score-dataset", str(lines), str(tmp_path / "out"), *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_parquet(table: Path, tmp_path: Path, expected: dict[int, float]) -> None:
    summary = run(table, tmp_path / "out")
    assert (summary.rows, summary.set_aside, summary.pairs_now) == (ROWS, 0, ROWS)
    assert dict(scores(tmp_path / "out")) == pytest.approx(expected, abs=1e-5)
    whole = pq.read_table(tmp_path / "out")  # as a folder: what is no data is left out
    assert whole.schema.names == ["id", "score"]
    assert whole["id"].to_pylist() == list(range(ROWS))


def test_lists_of_passages(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    texts = ["one", "one and two", "three"]
    given = [{"key": f"r{n}", "q": "one", "texts": texts[:n]} for n in (3, 0, 1)]
    path.write_text("\n".join(map(json.dumps, given)))
    with load_scorer(ENCODER, scale="sigmoid") as scorer:
        wanted = scorer.score("one", texts)
    for form in ("jsonl", "parquet"):
        out = tmp_path / form
        run(path, out, options={"scale": "sigmoid"}, columns=Columns("key", "q", "texts"), output_format=form)
        found = scores(out)
        assert [key for key, _ in found] == ["r3", "r0", "r1"]
        assert found[0][1] == pytest.approx(wanted, abs=1e-5)
        assert [len(values) for _, values in found] == [3, 0, 1]


def test_a_folder_of_files(tmp_path: Path, expected: dict[int, float]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows()[:20]))
    (folder / "b.jsonl").write_text("")
    (folder / "c.ndjson").write_text("\n".join(json.dumps(row) for row in rows()[20:]))
    assert run(folder, tmp_path / "out").rows == ROWS
    found = scores(tmp_path / "out")
    assert [number for number, _ in found] == list(range(ROWS))
    assert dict(found) == pytest.approx(expected, abs=1e-5)


def test_killed_again_and_again(
    lines: Path, tmp_path: Path, expected: dict[int, float], processes: BaseContext
) -> None:
    draw = random.Random(3)
    out = tmp_path / "out"
    done = [0]
    for _ in range(4):
        receiver, sender = processes.Pipe(duplex=False)
        process = processes.Process(target=score_and_report, args=(lines, out, sender.send))
        process.start()
        sender.close()
        what, rows_done = "", 0
        while what != "scoring rows":
            what, rows_done = receiver.recv()
        assert rows_done >= done[-1]  # nothing that was written is done again
        goal = min(ROWS, rows_done + draw.choice([0, 0, 1]))
        while rows_done < goal:
            _, rows_done = receiver.recv()
        process.join(draw.uniform(0, 0.02))
        process.kill()
        process.join()
        assert process.exitcode in (-signal.SIGKILL, 0)
        done.append(rows_done)
    summary = run(lines, out)
    assert summary.rows_now <= ROWS - done[-1]
    check_lines(out, expected)


def _kill_at(call: int, lines: Path, out: Path) -> None:
    """Score, and die before the data of the given write is safe on the disk."""
    real, calls = os.fsync, iter(range(1, 1000))

    def fsync(handle: int) -> None:
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        real(handle)

    os.fsync = fsync
    run(lines, out)


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5, 6, 7])
def test_killed_between_writing_and_renaming(
    call: int, lines: Path, tmp_path: Path, expected: dict[int, float], processes: BaseContext
) -> None:
    """The first calls are those for the job's file and folder, then come rows set aside, then the scores of a block."""
    out = tmp_path / "out"
    process = processes.Process(target=_kill_at, args=(call, lines, out))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    run(lines, out)
    check_lines(out, expected)


def test_stopped_by_an_error_and_taken_up(lines: Path, tmp_path: Path, expected: dict[int, float]) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if 0 < done < total and what == "scoring rows":
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(lines, out, watch=stop)
    before = sum(len(path.read_text().splitlines()) for path in out.rglob("part-*"))
    assert 0 < before < ROWS
    assert run(lines, out).rows_now == ROWS - before
    check_lines(out, expected)


def test_rows_that_the_model_cannot_score(copy: Callable[..., Copy], encoder: Scorer, tmp_path: Path) -> None:
    """An embedding so large that whatever holds its token scores no number."""
    name = "roberta.embeddings.word_embeddings.weight"
    broken = copy("encoder")
    token = Tokenizer.from_file(str(broken.folder / "tokenizer.json")).token_to_id("▁Par")
    broken.tensors(lambda tensors: tensors[name][token].copy_(torch.tensor([1e30, -1e30] * 32)))
    path = tmp_path / "rows.jsonl"
    texts = ["one", "two", "Paris", "three", "four Paris", "five", "Paris", "Paris"]
    path.write_text("\n".join(json.dumps({"id": n, "query": "q", "passage": text}) for n, text in enumerate(texts)))
    with pytest.raises(ScoreError, match="no row of block 3 could be scored"):
        run(path, tmp_path / "out", model=str(broken.folder), block_rows=2)
    run(path, tmp_path / "whole", model=str(broken.folder))
    found = scores(tmp_path / "whole")
    assert [number for number, _ in found] == [0, 1, 3, 5]
    assert [value for _, value in found] == pytest.approx(encoder.score("q", ["one", "two", "three", "five"]), abs=1e-5)
    aside = set_aside(tmp_path / "whole")
    assert [row["id"] for row in aside] == [2, 4, 6, 7]
    assert all("scored nan in float32" in row["reason"] for row in aside)


def _append(path: Path) -> None:
    with path.open("a") as file:
        file.write('\n{"id": 99, "query": "q", "passage": "p"}')


def _touch(path: Path) -> None:
    os.utime(path, (1, 1))


def test_another_job_is_refused_and_named(lines: Path, tmp_path: Path, expected: dict[int, float]) -> None:
    out = tmp_path / "out"
    run(lines, out)
    for options, said in (
        ({"options": {"max_length": 64}}, "max_length was left at its default and is 64"),
        ({"model": "demo"}, "model was .* and is 'demo'"),
        ({"block_rows": 10}, "block_rows was 9 and is 10"),
        ({"output_format": "parquet"}, "output_format was 'jsonl' and is 'parquet'"),
        ({"options": {"dtype": "bfloat16"}}, "dtype was left at its default and is 'bfloat16'"),
    ):
        with pytest.raises(DataError, match=said):
            run(lines, out, **options)  # type: ignore[arg-type]
    run(lines, out, options={"token_budget": 999, "dtype": "auto"})  # scores do not depend on it
    _touch(lines)
    assert run(lines, out).rows_now == 0
    _append(lines)
    with pytest.raises(DataError, match=r"the content of rows\.jsonl is another"):
        run(lines, out)
    with pytest.raises(DataError, match=r"had rows\.jsonl and has it no more; the input had no rows\.parquet"):
        run(write_table(tmp_path / "rows.parquet"), out)
    check_lines(out, expected)


def test_the_input_must_stay_as_it_is(lines: Path, tmp_path: Path) -> None:
    def change(what: str, done: int, total: int) -> None:
        if what == "scoring rows" and done == 0:
            _append(lines)

    with pytest.raises(DataError, match=r"rows\.jsonl was changed while it was read"):
        run(lines, tmp_path / "out", watch=change)


def test_output_folders_that_are_refused(lines: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl is a file: name a folder"):
        run(lines, lines)
    with pytest.raises(DataError, match="has files that are not of this command"):
        run(lines, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl"}
    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / ".lock"), pytest.raises(DataError, match="is being written by another process"):
        run(lines, out)
    (out / "_job.json").write_text("{")
    with pytest.raises(DataError, match=r"_job\.json is damaged"):
        run(lines, out)


def test_a_model_that_cannot_be_loaded_leaves_a_job_to_take_up(
    lines: Path, tmp_path: Path, copy: Callable[..., Copy], expected: dict[int, float]
) -> None:
    model = copy("encoder")
    weights = model.folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:100])
    with pytest.raises(CheckpointError):
        run(lines, tmp_path / "out", model=str(model.folder))
    weights.write_bytes(content)
    run(lines, tmp_path / "out", model=str(model.folder))
    check_lines(tmp_path / "out", expected)


def test_values_that_are_refused(lines: Path, tmp_path: Path) -> None:
    for options, said in (
        ({"block_rows": 0}, "block_rows=0: use a whole number of 1 or more"),
        ({"options": {"scale": "percent"}}, "scale='percent'"),
        ({"options": {"cache_size": -1}}, "cache_size=-1"),
        ({"options": {"token": "hf_1"}}, "option 'token' is a secret: set HF_TOKEN"),
    ):
        with pytest.raises(OptionError, match=said):
            run(lines, tmp_path / "out", **options)  # type: ignore[arg-type]


def test_ids_keep_their_type(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    for kind, values in ((pa.uint64(), [2**63, 1]), (pa.large_string(), ["ä", "b"]), (pa.int8(), [-1, 1])):
        pq.write_table(pa.table({"id": pa.array(values, kind), "query": ["q", "q"], "passage": ["p", ""]}), path)
        out = tmp_path / str(kind)
        run(path, out)
        assert [identity for identity, _ in scores(out)] == values
