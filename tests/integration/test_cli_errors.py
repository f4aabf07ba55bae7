"""Every command's errors and exit statuses, as a shell sees them: one line, the right number, nothing obeyed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from bge_rerank_integrations.cli import main
from bge_rerank_integrations.terminal import printable
from tests.conftest import CHECKPOINTS

ENCODER = str(CHECKPOINTS / "encoder")
COMMAND = [sys.executable, "-m", "bge_rerank_integrations"]
POSIX = pytest.mark.skipif(os.name != "posix", reason="shells and files of POSIX")


class Finished(NamedTuple):
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str


@pytest.fixture
def bge_rerank(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Finished]:
    """Run the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Finished:
        monkeypatch.setattr(sys, "argv", ["bge-rerank", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        return Finished(int(stopped.value.code or 0), *capsys.readouterr())

    return run


def shell(line: str, **options: object) -> Finished:
    """A line of bash, in which "$@" is the command."""
    arguments = ["bash", "-o", "pipefail", "-c", line, "bash", *COMMAND]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload]
    return Finished(done.returncode, done.stdout, done.stderr)


RANK = ("rank", "query", "--model", ENCODER)
EVALUATE = ("evaluate", "data.jsonl", "--out", "out", "--config")
LINE = json.dumps({"query": "q", "positives": ["a"], "negatives": ["b"]}) + "\n"
DEEP = "[" * 100_000
# what is in which file, the words of the command, its exit status, and what its one line says
ERRORS: Sequence[tuple[dict[str, str], Sequence[str], int, str]] = [
    ({}, ["nothing"], 2, "No such command 'nothing'"),
    ({}, ["--nothing"], 2, "No such option"),
    ({}, ["rank"], 2, "Missing argument"),
    ({}, ["rank", "q", "--top-n", "x"], 2, "--top-n"),
    ({}, ["rank", "q", "--split", "word"], 2, "--split"),
    ({}, [*RANK, "missing.txt"], 1, "missing.txt does not exist"),
    ({}, [*RANK, "."], 1, ". is a folder: a file is needed"),
    ({"a.txt": "a"}, ["rank", "q", "a.txt", "--model", "./nowhere"], 1, "./nowhere is not a folder"),
    ({"a.txt": "a"}, ["rank", "q", "a.txt", "--model", "~nobody-at-all/x"], 1, "no such user"),
    ({"a.txt": "a"}, ["rank", "q", "a.txt", "--model", "a.txt"], 1, "a.txt is a file"),
    ({"a.txt": "a"}, ["rank", "q", "a.txt", "--model", "[/]\x1b[2J"], 1, r"[/]\x1b[2J is not a folder"),
    ({"a.txt": "a"}, [*RANK, "a.txt", "--scale", "percent"], 1, "'logit' or 'sigmoid'"),
    ({"a.txt": "a"}, [*RANK, "a.txt", "--max-length", "0"], 1, "max_length=0"),
    ({"a.txt": "a"}, [*RANK, "a.txt", "--max-length", "1"], 1, "max_length=1"),
    ({"a.txt": "a"}, [*RANK, "a.txt", "--cutoff-layer", "3"], 1, "not an option of the encoder family"),
    ({"a.txt": "a"}, [*RANK, "a.txt", "--compress-layers", "two"], 1, "--compress-layers two"),
    ({"a.txt": "a"}, [*RANK, "a.txt", "--device", "cuda:99"], 1, "cuda:99"),
    ({"a.txt": "a"}, [*RANK, "a.txt", "--dtype", "int3"], 1, "dtype='int3'"),
    ({"a.txt": "a"}, [*RANK, "a.txt", "--threshold", "nan"], 1, "score_threshold=nan"),
    ({"a.txt": "a"}, [*RANK, "a.txt", "--encoding", "klingon"], 1, "encoding='klingon'"),
    ({"a.json": DEEP}, [*RANK, "a.json"], 1, "a.json"),
    ({"a.jsonl": DEEP}, [*RANK, "a.jsonl"], 1, "a.jsonl, line 1 is not JSON"),
    ({"a.jsonl": "9" * 5000}, [*RANK, "a.jsonl"], 1, "a.jsonl, line 1 is not JSON"),
    ({"a.jsonl": '{"text": 5}'}, [*RANK, "a.jsonl"], 1, "a.jsonl, line 1: text=5: use a string"),
    ({"a\x1b[31m.jsonl": "{"}, [*RANK, "a\x1b[31m.jsonl"], 1, r"a\x1b[31m.jsonl, line 1 is not JSON"),
    ({}, ["models", "--language", "[/]"], 1, "language='[/]'"),
    ({}, ["models", "--priority", "x"], 1, "'x'"),
    ({}, ["demo", "--top-n", "0"], 2, "--top-n"),
    ({}, ["demo", "--model", "./nowhere"], 1, "./nowhere"),
    ({}, ["bench", "--workloads", "strange"], 1, "strange"),
    ({}, ["bench", "--model", "random:strange"], 1, "strange"),
    ({}, ["bench", "--against", "strange"], 1, "strange"),
    ({}, ["bench", "--scale", "0"], 1, "scale=0"),
    ({}, ["bench", "--rounds", "0"], 1, "rounds=0"),
    ({}, ["bench", "--beside", "-1"], 1, "beside=-1"),
    ({}, ["bench", "--beside", "1000"], 1, "beside=1000"),
    ({}, ["bench", "--json", "nowhere/report.json"], 1, "nowhere is not a folder"),
    ({}, ["bench", "--model", "http://127.0.0.1:9"], 1, "say what it speaks"),
    ({}, ["evaluate"], 2, "Missing argument"),
    ({}, [*EVALUATE, "demo"], 1, "data.jsonl does not exist"),
    ({"data.jsonl": DEEP}, [*EVALUATE, "demo"], 1, "data.jsonl, line 1 is not JSON"),
    ({"data.jsonl": LINE}, [*EVALUATE, "demo,strange=1"], 1, "strange"),
    ({"data.jsonl": LINE, "c.json": DEEP}, [*EVALUATE, "c.json"], 1, "c.json"),
    ({"data.jsonl": LINE, "c.toml": "a = [" + DEEP}, [*EVALUATE, "c.toml"], 1, "c.toml"),
    ({"data.jsonl": LINE}, [*EVALUATE, "demo", "--split", "dev"], 1, "--split"),
    ({"data.jsonl": LINE, "out": ""}, [*EVALUATE, "demo"], 1, "out"),
]


@pytest.mark.parametrize(
    ("files", "words", "status", "said"), ERRORS, ids=[printable(" ".join(row[1]))[-60:] for row in ERRORS]
)
def test_an_error_is_one_line_and_its_number(
    files: dict[str, str], words: Sequence[str], status: int, said: str, bge_rerank: Callable[..., Finished]
) -> None:
    for name, content in files.items():
        Path(name).write_text(content)
    finished = bge_rerank(*words)
    assert said in finished.stderr
    assert finished.stderr.startswith("Error: ")
    assert finished.stderr.count("\n") == 1
    assert finished.stderr.isprintable() or printable(finished.stderr) == finished.stderr
    assert (finished.status, finished.stdout) == (status, "")


def test_without_words_the_help_is_shown(bge_rerank: Callable[..., Finished]) -> None:
    finished = bge_rerank()
    assert finished.status == 2
    assert "evaluate" in finished.stdout + finished.stderr
    assert bge_rerank("--help").status == bge_rerank("rank", "--help").status == bge_rerank("--version").status == 0


@pytest.mark.parametrize("query", ["[/]", "[bold", "\\[/]", "a\\", "\x1b]0;owned\x07", "\x9b2J", "[link=file:///]x"])
def test_queries_are_shown_and_not_obeyed(query: str, bge_rerank: Callable[..., Finished]) -> None:
    Path("texts.jsonl").write_text(json.dumps({"text": query, "source": query}))
    for words in (("rank", query, "texts.jsonl", "--model", ENCODER), ("demo", "--query", f"{query} python function")):
        finished = bge_rerank(*words)
        assert finished.status == 0, finished.stderr
        assert printable(finished.stdout) == finished.stdout
        assert printable(query) in finished.stdout
    (row,) = bge_rerank("rank", query, "texts.jsonl", "--model", ENCODER, "--json").stdout.splitlines()
    assert printable(row) == row
    assert json.loads(row)["text"] == query


@POSIX
@pytest.mark.parametrize(
    "words", ["--version", "models", f"rank q --model {ENCODER}", f"rank q --json --model {ENCODER}"]
)
def test_nowhere_to_write(words: str) -> None:
    closed = shell(f'echo a | "$@" {words} >&-')
    assert closed.status == 1
    assert "no standard output" in closed.stderr
    assert closed.stderr.count("\n") == 1
    assert shell(f'echo a | "$@" {words} >&- 2>&-').status == 1
    if Path("/dev/full").exists() and words != "--version":
        full = shell(f'echo a | "$@" {words} > /dev/full')
        assert full.status == 1
        assert "No space left" in full.stderr
        assert full.stderr.count("\n") == 1


@POSIX
def test_nothing_to_read() -> None:
    closed = shell(f'"$@" rank q --model {ENCODER} <&-')
    assert (closed.status, closed.stdout) == (1, "")
    assert closed.stderr == "Error: there is no standard input: name files\n"
    assert shell(f'"$@" rank q --model {ENCODER} < /dev/null').status == 0


@POSIX
def test_whoever_reads_may_go() -> None:
    gone = shell(f'seq 3000 | "$@" rank q --top-n 0 --json --model {ENCODER} | true')
    assert (gone.status, gone.stderr) == (141, "")


@pytest.mark.parametrize("command", ["rank q", "evaluate data.jsonl --config demo --out out"])
def test_ctrl_c_is_130(command: str, tmp_path: Path) -> None:
    code = f"""
import signal, sys
from bge_rerank_integrations import evaluation
from bge_rerank_integrations.cli import main, rank
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
rank.Reader.read = evaluation.read_jsonl = lambda *_, **__: signal.raise_signal(signal.SIGINT)
sys.argv = {["bge-rerank", *command.split()]!r}
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert "Traceback" not in done.stderr


@POSIX
def test_only_regular_files_of_a_checkpoint_are_read(tmp_path: Path, bge_rerank: Callable[..., Finished]) -> None:
    folder = tmp_path / "model"
    shutil.copytree(ENCODER, folder)
    os.mkfifo(folder / "extra.safetensors")
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    (folder / "special_tokens_map.json").symlink_to("/dev/zero")
    Path("data.jsonl").write_text(LINE * 3)
    finished = bge_rerank(*EVALUATE, str(folder))
    assert finished.status == 0, finished.stderr
    (folder / "special_tokens_map.json").unlink()
    with (folder / "special_tokens_map.json").open("wb") as file:
        file.truncate(1 << 40)  # a hole: it takes no room on the disk
    refused = bge_rerank(*EVALUATE, str(folder), "--seed", "1")
    assert refused.status == 1
    assert "1099511627776 bytes" in refused.stderr
