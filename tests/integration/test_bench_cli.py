"""`bge-rerank bench`, as a reader sees it: tables, remarks and the file of everything measured."""

from __future__ import annotations

import json
import multiprocessing
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bge_rerank_integrations import Scorer
from bge_rerank_integrations.bench import peers
from bge_rerank_integrations.bench.run import benchmark
from bge_rerank_integrations.cli import main
from bge_rerank_integrations.serve import create_app
from tests.conftest import CHECKPOINTS
from tests.server import serving

ENCODER = str(CHECKPOINTS / "encoder")


class Finished(NamedTuple):
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Run the command in this process, on a terminal that is wide enough not to fold lines."""
    monkeypatch.setenv("COLUMNS", "2000")

    def run(*words: str) -> Finished:
        monkeypatch.setattr(sys, "argv", ["bge-rerank", "bench", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        return Finished(int(stopped.value.code or 0), *capsys.readouterr())

    return run


def row(output: str, name: str) -> list[str]:
    return next(line.split() for line in output.splitlines() if line.split()[:1] == [name])


def test_beside_busy_processes_there_are_columns_and_figures(bench: Callable[..., Finished], tmp_path: Path) -> None:
    written = tmp_path / "report.json"
    words = ["--model", ENCODER, "--device", "cpu", "--workloads", "mixed,single", "--scale", "0.03", "--rounds", "4"]
    done = bench(*words, "--beside", "1", "--against", "transformers", "--json", str(written))
    assert done.status == 0, done.stderr
    assert multiprocessing.active_children() == []
    heading = next(line for line in done.stdout.splitlines() if "quartiles" in line)
    assert [heading.count(word) for word in ("seconds", "quartiles", "ratio", "beside 1", "to quiet")] == [
        1,
        2,
        2,
        1,
        1,
    ]
    assert done.stdout.count("ratio: a row's median time divided by that of ours") == 1
    report = json.loads(written.read_text())
    assert (report["beside"], report["rounds"]) == (1, 4)
    for timing in report["timings"]:
        assert timing["problem"] is None
        assert (len(timing["seconds"]), len(timing["beside"])) == (4, 4)
        for spread, seconds in (("quiet", timing["seconds"]), ("busy", timing["beside"])):
            low, high = timing["spread"][spread]["quartiles"]
            assert min(seconds) <= low <= timing["spread"][spread]["median"] <= high <= max(seconds)
        compared = {"slowdown"} if timing["peer"] == "ours" else {"quiet", "busy", "slowdown"}
        assert timing["comparisons"].keys() == compared
    for work in report["work"]:
        assert (len(work["quiet"]), len(work["busy"])) == (4, 4)


@pytest.mark.skipif(sys.platform != "linux", reason="others' use is known on Linux")
def test_the_load_is_told(bench: Callable[..., Finished]) -> None:
    done = bench("--model", ENCODER, "--device", "cpu", "--workloads", "single", "--rounds", "1", "--against", "none")
    assert "load average (1, 5, 15 minutes)" in done.stdout
    assert "cores while everything was loaded" in done.stdout
    assert "in the worst round" in done.stdout


def test_alone(bench: Callable[..., Finished]) -> None:
    done = bench("--model", ENCODER, "--device", "cpu", "--workloads", "single", "--rounds", "2", "--against", "none")
    assert done.status == 0, done.stderr
    assert row(done.stdout, "ours")
    assert "ratio" not in done.stdout
    assert "transformers\n" not in done.stdout


def test_what_is_not_installed_is_one_line_with_the_command(
    bench: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in ("onnx", "onnxruntime", "FlagEmbedding"):
        monkeypatch.setitem(sys.modules, module, None)  # what Python itself sets for one that cannot be imported
    venv.create(tmp_path / "bare", symlinks=True)
    python = next((tmp_path / "bare").glob("[bS]*/python*"))  # bin, or Scripts
    against = f"onnxruntime:4,flagembedding,sentence-transformers={python}"
    words = ["--model", ENCODER, "--device", "cpu", "--workloads", "mixed,single", "--scale", "0.02", "--rounds", "1"]
    done = bench(*words, "--against", against)
    assert done.status == 0, done.stderr
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    pip = "-m pip install"
    assert f"onnxruntime:4: not installed. Run: {sys.executable} {pip} onnx onnxruntime" in lines
    assert (
        "flagembedding: not installed, and it needs an environment of its own. "
        f"Run: {sys.executable} -m venv flagembedding && flagembedding/bin/python {pip} FlagEmbedding "
        "transformers==4.46.0; then use --against flagembedding=flagembedding/bin/python"
    ) in lines
    assert f"sentence-transformers: not installed. Run: {python} {pip} sentence-transformers" in lines
    assert row(done.stdout, "ours")


class Work:
    """A clock that goes on by a second for each pair that is scored: what is timed does not depend on the machine."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def peer(self, label: str, times: float, late: float = 0.0) -> type[peers.Ours]:
        """Scores as ours does, in so many times the time; every second call is late."""
        work = self

        class Counted(peers.Ours):
            calls = 0

            def score(self, pairs: list[tuple[str, str]]) -> list[float]:
                scores = super().score(pairs)
                type(self).calls += 1
                work.order.append(label)
                work.now += len(scores) * times + late * (self.calls % 2)
                return scores

        return Counted


@pytest.fixture
def work() -> Work:
    return Work()


def timed(work: Work, monkeypatch: pytest.MonkeyPatch, rounds: int = 4, beside: int = 0, **kinds: Any) -> Any:
    for label, kind in kinds.items():
        monkeypatch.setitem(peers.PEERS, label, kind)
    others = [label for label in kinds if label != "ours"]
    return benchmark(ENCODER, others, ["single"], rounds=rounds, beside=beside, device="cpu", clock=work)


def test_ratio_and_verdict(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    report = timed(work, monkeypatch, ours=work.peer("ours", 1), thrice=work.peer("thrice", 3))
    ours, thrice = report.timings
    assert (ours.seconds, thrice.seconds) == ([1.0] * 4, [3.0] * 4)
    verdict = report.comparisons(thrice)["quiet"]
    assert (verdict.ratio, verdict.doubt) == (3.0, None)


def test_no_verdict_where_a_peer_differs_from_itself(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    report = timed(work, monkeypatch, ours=work.peer("ours", 1), odd=work.peer("odd", 1.2, late=1.0))
    verdict = report.comparisons(report.timings[1])["quiet"]
    assert "the odd and the even rounds of odd differ" in str(verdict.doubt)


def test_its_own_quiet_time_is_compared_too(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second call of this one, the one beside the busy process, takes twice as long."""
    late = work.peer("ours", 1, late=1.0)
    late.calls = 0
    report = timed(work, monkeypatch, beside=1, ours=late)
    (ours,) = report.timings
    assert (ours.seconds, ours.beside) == ([1.0] * 4, [2.0] * 4)  # the first call warms up
    assert report.comparisons(ours)["slowdown"].ratio == 2.0


def test_one_of_each_in_turn_and_each_begins_in_turn(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {label: work.peer(label, 1) for label in ("ours", "a", "b")}
    timed(work, monkeypatch, rounds=3, **kinds)
    assert "".join(label[0] for label in work.order) == "oab" + "oab" + "abo" + "boa"  # the first three warm up


@pytest.fixture
def address(encoder: Scorer) -> Any:
    with serving(create_app({"encoder": encoder})) as url:
        yield url


def test_a_server(bench: Callable[..., Finished], address: str, encoder: Scorer, tmp_path: Path) -> None:
    written, before = tmp_path / "report.json", encoder.stats().pairs
    words = ["--dialect", "tei", "--workloads", "mixed,single", "--scale", "0.05", "--rounds", "4", "--beside", "1"]
    done = bench("--model", address, *words, "--json", str(written), "--plot", str(tmp_path / "figure.png"))
    assert done.status == 0, done.stderr
    assert done.stdout.count("A server is timed alone") == 1
    assert row(done.stdout, "server")
    headings = [line.split() for line in done.stdout.splitlines() if "quartiles" in line]
    assert headings == [["seconds", "quartiles", "beside", "1", "quartiles", "to", "quiet", "pairs/s"]] * 2
    report = json.loads(written.read_text())
    assert [(t["peer"], t["workload"], len(t["seconds"])) for t in report["timings"]] == [
        ("server", "mixed", 4),
        ("server", "single", 4),
    ]
    assert [(work["pairs"], work["tokens"], work["peak_flops"]) for work in report["work"]] == [
        (5, None, None),
        (1, None, None),
    ]
    assert encoder.stats().pairs - before == (5 + 1) * (1 + 4 + 4)
    assert (tmp_path / "figure.png").stat().st_size


def test_the_key_is_sent_and_shown_nowhere(
    bench: Callable[..., Finished], encoder: Scorer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from bge_rerank_integrations.serve import ServerSettings

    key, written = "a key of some length", tmp_path / "report.json"
    words = ["--dialect", "bge-rerank", "--workloads", "single", "--rounds", "1", "--json", str(written)]
    with serving(create_app({"encoder": encoder}, ServerSettings(api_key=key))) as url:
        refused = bench("--model", url, *words)
        monkeypatch.setenv("BGE_RERANK_API_KEY", key)
        done = bench("--model", url, *words)
    assert (refused.status, refused.stderr.count("\n")) == (1, 1)
    assert "key" in refused.stderr
    assert done.status == 0, done.stderr
    assert key not in done.stdout + done.stderr + written.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--against", "transformers", "--dialect", "tei"], "a server is timed alone"),
        (["--device", "cpu", "--dialect", "tei"], "devices cannot be chosen"),
        ([], "say what it speaks"),
        (["--dialect", "strange"], "strange"),
        (["--dialect", "cohere"], "served_model"),
        (["--beside", "-1", "--dialect", "tei"], "beside=-1"),
        (["--json", "nowhere/report.json", "--dialect", "tei"], "nowhere is not a folder"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_for_a_server(bench: Callable[..., Finished], words: list[str], said: str) -> None:
    done = bench("--model", "http://127.0.0.1:9", *words)
    assert (done.status, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_model_is_no_server(bench: Callable[..., Finished]) -> None:
    done = bench("--model", "demo", "--dialect", "tei", "--workloads", "single")
    assert (done.status, done.stderr.count("\n")) == (1, 1)
    assert "'demo' is not the address of a server" in done.stderr
