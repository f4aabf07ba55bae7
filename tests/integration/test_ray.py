"""Blocks scored by Ray actors: some are killed, and so is the process that gives them work."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import CheckpointError, OptionError, WorkerError
from bge_rerank_integrations.ray import score
from bge_rerank_integrations.ray.pool import Placing
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
)

DRIVER = """
import sys
from bge_rerank_integrations.ray import score
def tell(what, done, total):
    print(what, done, flush=True)
score(*sys.argv[1:3], model=sys.argv[3], block_rows=int(sys.argv[4]), actors=1, watch=tell)
"""


@pytest.fixture(scope="module")
def expected() -> dict[int, float]:
    with load_scorer(ENCODER) as scorer:
        found = scorer.score_pairs([(row["query"], row["passage"]) for row in rows()])
    return {number: value for number, value in enumerate(found) if number not in BROKEN}


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "rows.jsonl")


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A Ray that is there already, on two CPUs."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def check(folder: Path, expected: dict[int, float]) -> None:
    found = scores(folder)
    assert [number for number, _ in found] == list(expected)
    assert dict(found) == pytest.approx(expected, abs=1e-5)
    assert [row["row"] for row in set_aside(folder)] == [number + 1 for number in BROKEN]


def actor_processes() -> list[int]:
    """The scoring actors that descend from this process."""
    parents, named = {}, []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if b"ray::ScoringActor" in (path / "cmdline").read_bytes():
                named.append(int(path.name))
        except OSError:  # it ended
            continue

    def descends(process: int) -> bool:
        return process == os.getpid() or (process in parents and descends(parents[process]))

    return [process for process in named if descends(process)]


def test_a_killed_driver(lines: Path, tmp_path: Path, expected: dict[int, float]) -> None:
    """With a Ray of its own; this process then does the rest without Ray."""
    out = tmp_path / "out"
    words = [sys.executable, "-c", DRIVER, str(lines), str(out), ENCODER, str(BLOCK_ROWS)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as driver:
        assert driver.stdout is not None
        said = iter(driver.stdout.readline, "")
        while next(said) not in (f"scoring rows {done}\n" for done in range(BLOCK_ROWS, ROWS)):
            pass
        driver.kill()
        driver.wait()
        os.killpg(driver.pid, signal.SIGKILL)  # Ray's agents survive the driver
    assert 0 < len(scores(out)) < len(expected)
    score_and_report(lines, out, lambda told: None)
    check(out, expected)


def test_a_cluster_that_is_not_there(lines: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(WorkerError, match=f"no Ray answers at '{address}', or it wants another token"):
        score(lines, tmp_path / "out", model=ENCODER, actors=1, address=address)


def test_placing() -> None:
    assert Placing().device_of_each() == [None]
    assert Placing(actors=3).device_of_each() == [None] * 3
    assert Placing("cpu", actors=2).device_of_each() == ["cpu", "cpu"]
    assert Placing(["cuda:0", "cuda:1"]).device_of_each() == ["cuda:0", "cuda:1"]
    assert Placing(["cuda:0", "cuda:1"], 3).device_of_each() == ["cuda:0", "cuda:1", "cuda:0"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"actors": 0}, "actors=0: use a whole number of 1 or more"),
        ({"gpus_per_actor": -1}, "gpus_per_actor=-1: use 0 or more"),
        ({"devices": "cuda:0", "gpus_per_actor": 1}, "contradict each other"),
        ({"address": "auto"}, "say how many actors"),
    ],
)
def test_placings_that_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        Placing(**arguments)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_actor_is_replaced(lines: Path, tmp_path: Path, expected: dict[int, float], ray: Any) -> None:
    killed: list[int] = []

    def kill(what: str, done: int, total: int) -> None:
        if what == "scoring rows" and done and not killed:  # further blocks are under way
            killed.extend(actor_processes())
            os.kill(killed[0], signal.SIGKILL)

    summary = score(lines, tmp_path / "out", model=ENCODER, block_rows=BLOCK_ROWS, actors=2, watch=kill)
    assert len(killed) == 2
    assert summary.rows_now == ROWS
    check(tmp_path / "out", expected)
    assert ray.is_initialized()  # it was not ours to stop


def test_an_actor_that_cannot_load_says_why(lines: Path, tmp_path: Path, ray: Any) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError) as here:
        load_scorer(tmp_path / "empty")
    with pytest.raises(CheckpointError) as there:
        score(lines, tmp_path / "out", model=str(tmp_path / "empty"))
    assert str(there.value) == str(here.value)
