"""The command line as a user types it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from bge_rerank_integrations.cli import main
from tests.conftest import CHECKPOINTS

ENCODER = str(CHECKPOINTS / "encoder")


class Finished(NamedTuple):
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Finished]


@pytest.fixture
def bge_rerank(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process."""

    def run(*words: str, stdin: str = "") -> Finished:
        monkeypatch.setattr(sys, "argv", ["bge-rerank", *words])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as stopped:
            main()
        return Finished(int(stopped.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def rank(bge_rerank: Run) -> Callable[..., list[dict[str, object]]]:
    """The rows that `rank --json` prints."""

    def run(*words: str, stdin: str = "") -> list[dict[str, object]]:
        finished = bge_rerank("rank", "query", "--model", ENCODER, "--json", *words, stdin=stdin)
        assert finished.returncode == 0, finished.stderr
        assert finished.stderr == ""
        return [json.loads(line) for line in finished.stdout.splitlines()]

    return run


Rank = Callable[..., list[dict[str, object]]]


def test_as_a_module() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "bge_rerank_integrations", "rank", "q", "--model", ENCODER, "--json"],
        input="one text", capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert json.loads(finished.stdout)["text"] == "one text"


def test_json_on_a_terminal_that_is_not_utf_8() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "bge_rerank_integrations", "rank", "q", "--model", ENCODER, "--jsonl", "--json"],
        env=os.environ | {"PYTHONIOENCODING": "ascii:strict"},
        input='{"text": "caf\\u00e9 \\ud83d\\ude00"}', capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert json.loads(finished.stdout)["text"] == "café 😀"


def test_lines_of_standard_input(rank: Rank) -> None:
    ranked = rank(stdin="one text\n\nanother text, of several words\n")
    assert sorted(str(row["text"]) for row in ranked) == ["another text, of several words", "one text"]
    scores = [row["relevance_score"] for row in ranked]
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]


def test_json_lines_keep_their_other_keys(tmp_path: Path, rank: Rank) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text('{"body": "one", "id": 7}\n"two"\n{"body": "three", "id": [8]}\n')
    rows = {row["body"]: row for row in rank(str(path), "--field", "body")}
    assert rows["one"]["id"] == 7
    assert rows["three"]["id"] == [8]
    assert set(rows) == {"one", "two", "three"}


def test_files_say_where_a_text_is_from(tmp_path: Path, rank: Rank) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("one\ntwo\n\nthree")
    second.write_text("four")
    assert len(rank(str(first), str(second))) == 4
    assert len(rank(str(first), str(second), "--split", "paragraph")) == 3
    assert [row["source"] for row in rank(str(first), str(second), "--split", "file", "--top-n", "1")] in (
        [str(first)],
        [str(second)],
    )


def test_a_table(bge_rerank: Run) -> None:
    finished = bge_rerank(
        "rank", "[what] is it", "--model", ENCODER, "--scale", "sigmoid", stdin="[bold]a text[/bold]\n"
    )
    assert finished.returncode == 0
    assert "[what] is it" in finished.stdout
    assert "[bold]a text[/bold]" in finished.stdout
    assert "0." in finished.stdout


def test_nothing_to_rank(rank: Rank) -> None:
    assert rank(stdin="") == []


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        (["--model", "./nowhere"], "a", "not a folder"),
        (["--model", ENCODER, "--scale", "percent"], "a", "'logit' or 'sigmoid'"),
        (["--model", ENCODER, "--cutoff-layer", "3"], "a", "not an option of the encoder family"),
        (["--model", ENCODER, "--device", "cuda:99"], "a", "cuda:99"),
        (["--model", ENCODER, "--jsonl"], '{"text": "a"}\n{oops', "line 2 is not JSON"),
        (["--model", ENCODER, "--jsonl"], '{"txt": "a"}', "'text'"),
        (["--model", ENCODER, "/no/such/file"], "", "/no/such/file"),
    ],
)
def test_what_goes_wrong_is_one_line(words: list[str], stdin: str, said: str, bge_rerank: Run) -> None:
    finished = bge_rerank("rank", "query", *words, stdin=stdin)
    assert finished.returncode == 1
    assert said in " ".join(finished.stderr.split())
    assert "Traceback" not in finished.stderr


def test_models(bge_rerank: Run) -> None:
    finished = bge_rerank("models", "--language", "english", "--priority", "performance")
    assert finished.returncode == 0
    assert finished.stdout.count("BAAI/") >= 8
    assert bge_rerank("models", "--language", "klingon").returncode == 1


def test_version(bge_rerank: Run) -> None:
    from bge_rerank_integrations import __version__

    assert bge_rerank("--version").stdout.strip() == __version__
