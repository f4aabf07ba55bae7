"""The benchmark, on the smallest workloads."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from bge_rerank_integrations.bench.cost import needed_flops
from bge_rerank_integrations.bench.run import benchmark
from bge_rerank_integrations.cli import main
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.model.families.base import Dimensions
from tests.conftest import CHECKPOINTS


def test_peers_agree_and_everything_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "report.json"
    against = "transformers,transformers:4"
    words = ["bench", "--model", "demo", "--against", against, "--workloads", "mixed,single", "--scale", "0.03"]
    monkeypatch.setattr(sys, "argv", ["bge-rerank", *words, "--rounds", "2", "--json", str(written)])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert "transformers" in capsys.readouterr().out
    report = json.loads(written.read_text())
    assert [(t["peer"], t["workload"]) for t in report["timings"]] == [
        (peer, workload) for workload in ("mixed", "single") for peer in ("ours", "transformers", "transformers:4")
    ]
    for timing in report["timings"]:
        assert timing["problem"] is None
        assert len(timing["seconds"]) == 2
        assert timing["difference"] < 1e-3


def test_another_interpreter_can_run_a_peer() -> None:
    report = benchmark("demo", [f"transformers={sys.executable}"], ["single"], rounds=1, device="cpu")
    (_, remote) = report.timings
    assert (remote.peer, remote.problem) == ("transformers", None)


def test_times_of_other_scores_are_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    from bge_rerank_integrations.bench import peers

    score = peers.Padded.score
    monkeypatch.setattr(peers.Padded, "score", lambda self, pairs: [s + 1 for s in score(self, pairs)])
    (_, other) = benchmark("demo", ["transformers"], ["single"], rounds=1, device="cpu").timings
    assert other.seconds == []
    assert "differ by up to 1" in str(other.problem)


def test_our_own_rounded_scores_need_only_correlate() -> None:
    report = benchmark("demo", ["int8", "bfloat16"], ["mixed"], rounds=1, scale=0.1, device="cpu")
    for timing in report.timings[1:]:
        assert timing.problem is None
        assert timing.difference > 1e-3


def test_both_ways_of_little_work_are_timed() -> None:
    report = benchmark("demo", ["side-by-side", "all-cores"], ["single"], rounds=1, device="cpu")
    assert [(timing.problem, len(timing.seconds)) for timing in report.timings] == [(None, 1)] * 3


def test_a_model_whose_tokenizer_is_elsewhere() -> None:
    """Peers are given one folder, and look for everything there."""
    (ours,) = benchmark("demo-layerwise", [], ["single"], rounds=1, device="cpu").timings
    assert (ours.problem, len(ours.seconds)) == (None, 1)


def test_peers_that_cannot_say_why() -> None:
    report = benchmark(str(CHECKPOINTS / "llm"), ["transformers"], ["single"], rounds=1, device="cpu")
    assert report.timings[1].problem == "does not run the llm family"


@pytest.mark.parametrize(
    "against",
    [
        "vllm",
        "none,transformers",
        "transformers=/no/such/python",
        "transformers=/",
        "transformers:many",
        "transformers:0",
    ],
)
def test_peers_that_do_not_exist_are_refused(against: str) -> None:
    with pytest.raises(OptionError, match=against.split("=")[0].split(",")[0]):
        benchmark("demo", against.split(","), ["single"], device="cpu")


@pytest.mark.parametrize(
    "model", ["random:bge-reranker-tiny", "random:bge-reranker-base:2", "random:bge-reranker-base:x"]
)
def test_shapes_that_do_not_exist_are_refused(model: str) -> None:
    with pytest.raises(OptionError, match="random:"):
        benchmark(model, [], ["single"], device="cpu")


def test_needed_arithmetic() -> None:
    """One layer: keys and values of every token, and all else of the token that is read."""
    encoder = Dimensions(
        layers=1, width=4, query_width=4, key_value_width=4, feed_forward=8, feed_forward_products=2, causal=False
    )
    keys_values, query_and_out, feed_forward, attention = 3 * 2 * 16, 2 * 16, 2 * 32, 2 * 4 * 3
    assert needed_flops(encoder, [3]) == 2 * (keys_values + query_and_out + feed_forward + attention)
