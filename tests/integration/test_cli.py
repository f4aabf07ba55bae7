"""The command line as a user types it."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.catalog import MODELS, advice
from bge_rerank_integrations.cli import main
from bge_rerank_integrations.cli.rank import rank as rank_command
from bge_rerank_integrations.options import ScoringOptions, names
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

    def run(*words: str, stdin: str | io.BytesIO = "") -> Finished:
        monkeypatch.setattr(sys, "argv", ["bge-rerank", *words])
        given = stdin if isinstance(stdin, io.BytesIO) else io.BytesIO(stdin.encode())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(given, encoding="cp1252"))
        with pytest.raises(SystemExit) as stopped:
            main()
        return Finished(int(stopped.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def rank(bge_rerank: Run) -> Callable[..., list[dict[str, object]]]:
    """The rows that `rank --json` prints."""

    def run(*words: str, stdin: str | io.BytesIO = "") -> list[dict[str, object]]:
        finished = bge_rerank("rank", "query", "--model", ENCODER, "--json", *words, stdin=stdin)
        assert finished.returncode == 0, finished.stderr
        assert finished.stderr == ""
        return [json.loads(line) for line in finished.stdout.split("\n") if line]

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


def test_nothing_to_rank_is_said(tmp_path: Path, bge_rerank: Run) -> None:
    blank = tmp_path / "[blank].txt"
    blank.write_text("\n  \n")
    for words, said in (
        ((), "Notextinstandardinput:nothingtorank."),
        ((str(blank),), "[blank].txt:nothingtorank."),
    ):
        finished = bge_rerank("rank", "query", *words, "--model", ENCODER, "--json")
        assert (finished.returncode, finished.stdout) == (0, "")
        assert said in "".join(finished.stderr.split())  # lines are folded, also within a long path


def test_nothing_above_the_threshold_is_said(bge_rerank: Run) -> None:
    finished = bge_rerank("rank", "query", "--model", ENCODER, "--threshold", "99", stdin="a\nb\n")
    assert (finished.returncode, finished.stdout) == (0, "")
    assert re.search(r"No text scores 99\.0 or more: the best has -?\d\.\d{3}\.", " ".join(finished.stderr.split()))


def test_a_terminal_is_told_what_it_waits_for(bge_rerank: Run) -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    finished = bge_rerank("rank", "query", "--model", ENCODER, "--json", stdin=Terminal(b"a\n"))
    assert "Texts, one a line" in finished.stderr
    assert json.loads(finished.stdout)["text"] == "a"


SEPARATORS = "one\u2028two\x0bthree\x85four\x1cfive"


def test_only_newlines_end_lines(tmp_path: Path, rank: Rank) -> None:
    assert [row["text"] for row in rank(stdin=f"{SEPARATORS}\r\n")] == [SEPARATORS]
    assert [row["text"] for row in rank("--jsonl", stdin=json.dumps(SEPARATORS, ensure_ascii=False))] == [SEPARATORS]
    path = tmp_path / "texts.csv"
    path.write_text(f'id,text\n1,"{SEPARATORS}\nand six"\n', encoding="utf-8")
    assert [row["text"] for row in rank(str(path))] == [f"{SEPARATORS}\nand six"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize(("suffix", "content"), [(".txt", "问题"), (".jsonl", '"问题"'), (".json", '["问题"]')])
def test_utf_8_with_or_without_its_mark(encoding: str, suffix: str, content: str, tmp_path: Path, rank: Rank) -> None:
    path = tmp_path / f"texts{suffix}"
    path.write_text(content, encoding=encoding)
    assert [row["text"] for row in rank(str(path))] == ["问题"]
    if suffix != ".json":
        words = ["--jsonl"] if suffix == ".jsonl" else []
        assert [row["text"] for row in rank(*words, stdin=io.BytesIO(content.encode(encoding)))] == ["问题"]


CHINESE = "北京是中国的首都，人口超过两千万。\n巴黎是法国的首都。\n"


@pytest.mark.parametrize(
    ("encoding", "text", "guess"),
    [
        ("gb18030", CHINESE, "gb18030"),
        ("utf-16", CHINESE, "utf-16"),
        ("utf-32", CHINESE, "utf-32"),
        ("utf-16-le", "plain words\nof two lines\n", "utf-16-le"),
        ("utf-16-be", "plain words\nof two lines\n", "utf-16-be"),
        ("cp1252", "Grüße aus Köln\nà bientôt, dit-elle\n", "cp1252"),
        ("latin-1", "première école\nmañana\n", "cp1252"),
        ("utf-16-le", "Москва\nстолица России\n", "utf-16-le"),  # its first line is UTF-8, too
        ("shift_jis", "東京は日本の首都です。\nこれはテストです。\n", "shift_jis"),
        ("cp1251", "Москва столица России\nкошка спит\n", "cp1251"),
    ],
)
def test_other_encodings_are_named_and_read(
    encoding: str, text: str, guess: str, tmp_path: Path, bge_rerank: Run, rank: Rank
) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes(text.encode(encoding))
    for name, words, stdin in (("texts.txt", [str(path)], b""), ("standard input", [], path.read_bytes())):
        finished = bge_rerank("rank", "query", "--model", ENCODER, *words, stdin=io.BytesIO(stdin))
        said = "".join(finished.stderr.split())
        assert finished.returncode == 1
        assert re.search(f"{name},line[12]isnotUTF-8".replace(" ", ""), said)
        assert f"(--encoding{guess})" in said
        ranked = rank(*words, "--encoding", guess, stdin=io.BytesIO(stdin))
        assert {str(row["text"]) for row in ranked} == set(text.splitlines())


def test_json_and_tables(tmp_path: Path, rank: Rank) -> None:
    array, table, tabs, semicolons = (tmp_path / name for name in ("a.json", "b.CSV", "c.tsv", "d.csv"))
    array.write_text('["one",\n {"text": "two", "id": 2}]')
    table.write_text('id,text\n7,"one, and\nmore"\n8,two\n\n9,\n')
    tabs.write_text("body\tid\none, two\t1\n")
    semicolons.write_text("id;text\n1;one, two\n")
    assert {(row["text"], row.get("id")) for row in rank(str(array))} == {("one", None), ("two", 2)}
    assert {(row["text"], row["id"]) for row in rank(str(table))} == {("one, and\nmore", "7"), ("two", "8")}
    assert [row["body"] for row in rank(str(tabs), "--field", "body")] == ["one, two"]
    assert [row["text"] for row in rank(str(semicolons))] == ["one, two"]
    both = rank(str(array), str(table))
    assert {row["source"] for row in both} == {str(array), str(table)}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", '{"text": "a"}', "an array of strings or objects is needed"),
        ("a.json", '{"text": "a"}\n{"text": "b"}', "add --jsonl"),
        ("a.json", '["a", 5]', "a.json, entry 1 is 5: give a string, or an object with a text under 'text'"),
        ("a.json", '[["a", "b"]]', 'a.json, entry 0 is ["a", "b"]: give a string'),
        (
            "a.jsonl",
            '{"text": "a"}\n{"body": "b", "id": 2}',
            "a.jsonl, line 2 has no 'text': --field takes one of body, id",
        ),
        ("a.jsonl", '{"text": 5}', "a.jsonl, line 1: text=5: use a string"),
        ("a.csv", "id,body\n1,a\n", "no column 'text': --field takes one of id, body"),
        ("a.csv", "id,text\n1,a, b\n", "line 2 has 3 cells under 2 heads"),
        ("a.csv", 'id,text\n1,"a" b\n', "line 2 is not CSV"),
        (
            "a.csv",
            'id,text\n1,a\n2,"b\n3,c\n',
            "line 3 is not CSV (unexpected end of data): a text with a quotation mark",
        ),
        ("a.csv", "text,text\na,b\n", "has 2 columns 'text': rename all but one"),
        ("a.txt", "plain\0text\n", "line 1 is not UTF-8 (a zero at byte 5): give a text file, without zeros"),
        ("a.bin", "\x7fELF\x02\0\0\udcff\0", "give a text file"),
        ("a.docx", "PK\x03\x04\0\0", "the file is an Office file or a zip archive"),
        ("a.pdf", "%PDF-1.7\n\udcff", "the file is a PDF. Give a text file"),
        ("a.jsonl", '"\\ud800"', "half a surrogate pair"),
    ],
)
def test_files_that_cannot_be_read(name: str, content: str, said: str, tmp_path: Path, bge_rerank: Run) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    finished = bge_rerank("rank", "query", str(path), "--model", ENCODER)
    assert finished.returncode == 1
    assert "".join(said.split()) in "".join(finished.stderr.split())


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("id;text;a,b\n1;one, two;3\n", [("one, two", "1")]),
        ("id\ttext\n1\tone, two\n", [("one, two", "1")]),
        ('id, text\n1, "one, two"\n', [("one, two", "1")]),
        ('\n\nid,text\n1,"one\n\ntwo"\n', [("one\n\ntwo", "1")]),
        (f"id,text\n1,{'word ' * 40_000}\n", [("word " * 40_000, "1")]),
        ("id,text\n1,\n2\n3,one\n", [("one", "3")]),
    ],
)
def test_tables_as_people_write_them(content: str, rows: list[tuple[str, str]], tmp_path: Path, rank: Rank) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content, encoding="utf-8")
    assert [(row["text"], row["id"]) for row in rank(str(path), "--long", "windows")] == rows
    assert csv.field_size_limit() == 131072


def test_standard_input_has_a_name_beside_files(tmp_path: Path, rank: Rank) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\n")
    assert [row["text"] for row in rank("-", stdin="two\n")] == ["two"]
    rows = {row["text"]: row["source"] for row in rank(str(path), "-", stdin="two\n")}
    assert rows == {"one": str(path), "two": "standard input"}


@pytest.mark.parametrize("encoding", ["UTF8", "utf_8_sig", "U8"])
def test_utf_8_under_its_other_names(encoding: str, tmp_path: Path, rank: Rank, bge_rerank: Run) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "问题"}\n{"text": "\ufeff"}\n', encoding="utf-8-sig")
    assert {row["text"] for row in rank(str(path), "--encoding", encoding)} == {"问题", "\ufeff"}
    path.write_text("北京是中国的首都。\n", encoding="gb18030")
    finished = bge_rerank("rank", "query", str(path), "--model", ENCODER, "--encoding", encoding)
    assert "line 1 is not UTF-8" in " ".join(finished.stderr.split())


def test_a_wrong_encoding_is_told_from_utf_8(tmp_path: Path, bge_rerank: Run) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Grüße\n", encoding="utf-8")
    finished = bge_rerank("rank", "query", str(path), "--model", ENCODER, "--encoding", "ascii")
    assert "is not ASCII (ordinal not in range(128) at byte 2): it looks like UTF-8" in " ".join(
        finished.stderr.split()
    )


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that opens and cannot be read")
def test_what_fails_while_it_is_read_names_the_file(bge_rerank: Run) -> None:
    finished = bge_rerank("rank", "query", "/proc/self/mem", "--model", ENCODER)
    assert "/proc/self/mem cannot be read: Input/output error" in " ".join(finished.stderr.split())


def test_a_second_run_replaces_the_scores_of_the_first(tmp_path: Path, bge_rerank: Run, rank: Rank) -> None:
    given = [{"text": text, "index": 50, "relevance_score": 99.0, "source": "mine"} for text in ("one", "two words")]
    again = rank("--jsonl", stdin="\n".join(map(json.dumps, given)))
    fresh = rank(stdin="one\ntwo words")
    assert [(row["index"], row["relevance_score"], row["text"]) for row in again] == [
        (row["index"], row["relevance_score"], row["text"]) for row in fresh
    ]
    assert all(row["source"] == "mine" for row in again)
    path = tmp_path / "scored.csv"
    path.write_text("source,index\nfrom a column,5\n")
    assert rank(str(path), "--field", "source")[0]["source"] == "from a column"
    refused = bge_rerank("rank", "query", str(path), "--model", ENCODER, "--json", "--field", "index")
    assert "writes its own 'index'" in " ".join(refused.stderr.split())


def test_an_empty_column_is_not_shown(tmp_path: Path, bge_rerank: Run) -> None:
    assert "from" not in bge_rerank("rank", "query", "--model", ENCODER, stdin="a\n").stdout
    for name in "ab":
        (tmp_path / name).write_text("x")
    assert "from" in bge_rerank("rank", "query", "--model", ENCODER, *map(str, tmp_path.iterdir())).stdout


def test_every_scoring_option_is_an_option_of_rank(bge_rerank: Run, rank: Rank) -> None:
    parameters = inspect.signature(rank_command).parameters
    assert {name for name in names(ScoringOptions) if name not in parameters} == set()
    model = str(CHECKPOINTS / "lightweight")
    words = ["--cutoff-layer", "8", "--compress-ratio", "2", "--prompt", "Is it?", "--query-max-length", "16"]
    words += [
        "--head-index",
        "layer",
        "--attention-softcap",
        "--query-instruction",
        "Q ",
        "--passage-instruction",
        "P ",
    ]
    text = "several words that can be put together"
    (row,) = rank("--model", model, *words, "--compress-layers", "2,4", stdin=text)
    with load_scorer(
        model,
        cutoff_layer=8,
        compress_ratio=2,
        compress_layers=(2, 4),
        prompt="Is it?",
        query_max_length=16,
        head_index="layer",
        attention_softcap=True,
        query_instruction="Q ",
        passage_instruction="P ",
    ) as scorer:
        assert row["relevance_score"] == pytest.approx(scorer.score("query", [text])[0], abs=1e-5)
    refused = bge_rerank("rank", "query", "--model", model, "--compress-layers", "two", stdin=text)
    assert "use layer numbers with commas" in " ".join(refused.stderr.split())


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


def test_all_models(bge_rerank: Run) -> None:
    finished = bge_rerank("models", "--all")
    assert finished.returncode == 0
    for part in ("Qwen 3", "gemma3_text", "ModernBERT", "classifier", "LogitScore", "LoRA adapter"):
        assert part in finished.stdout


def test_models_in_chinese(bge_rerank: Run) -> None:
    finished = bge_rerank("models", "--lang", "zh", "--language", "chinese")
    cells = re.sub(r"[\s│]", "", finished.stdout)
    assert finished.returncode == 0
    assert all(model.name in cells for model in MODELS)
    assert advice("chinese", "balanced", "zh").replace(" ", "") in cells
    assert "…" not in cells  # nothing is cut off
    assert bge_rerank("models", "--lang", "de").returncode == 1


def test_version(bge_rerank: Run) -> None:
    from bge_rerank_integrations import __version__

    assert bge_rerank("--version").stdout.strip() == __version__


def test_rank_chooses_the_text_keeps_blanks_last_and_leaves_out_copies(rank: Rank) -> None:
    rows = [
        {"text": "", "title": "t"},
        {"text": "..."},
        {"text": "same"},
        {"text": "SAME "},
        {"text": "same", "title": "t"},
    ]
    lines = "\n".join(map(json.dumps, rows))
    found = rank("--jsonl", stdin=lines)
    assert {row["index"] for row in found[-2:]} == {0, 1}
    assert [row["relevance_score"] for row in found[-2:]] == [-1000.0, -1000.0]
    assert {row["index"] for row in rank("--jsonl", "--blank", "drop", stdin=lines)} == {2, 3, 4}
    assert len(rank("--jsonl", "--deduplicate", stdin=lines)) == 3
    titled = rank("--jsonl", "--deduplicate", "--metadata-field", "title", stdin=lines)
    assert sorted(str(row["index"]) for row in titled)[-1] == "4"
    assert len(titled) == 4
    assert titled[-1]["index"] == 1


def test_rank_says_when_no_text_has_a_word(bge_rerank: Run) -> None:
    finished = bge_rerank("rank", "query", "--model", ENCODER, "--blank", "drop", stdin="...\n---\n")
    assert (finished.returncode, finished.stdout) == (0, "")
    assert "No text has a word" in finished.stderr
    finished = bge_rerank("rank", "query", "--model", ENCODER, "--blank", "never", stdin="a")
    assert "blank='never': use 'last', 'drop' or 'score'" in finished.stderr


def test_rank_says_how_many_texts_were_cut_and_reads_them_in_windows(bge_rerank: Run, rank: Rank) -> None:
    text = "A croissant is made of dough. " * 30
    words = ["rank", "query", "--model", ENCODER, "--max-length", "64"]
    assert "1 of 2 texts were longer than --max-length" in bge_rerank(*words, stdin=f"short\n{text}\n").stderr
    found = {row["index"]: row["best_window"] for row in rank("--long", "windows", stdin=f"short\n{text}\n")}
    assert found[0] == [0, 5]
