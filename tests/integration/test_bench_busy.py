"""The processes that the benchmark starts to be beside: they compute, and they always end."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from bge_rerank_integrations.bench import peers
from bge_rerank_integrations.bench.busy import BusyProcesses
from bge_rerank_integrations.cli import main
from bge_rerank_integrations.errors import OptionError
from tests.conftest import CHECKPOINTS

WORDS = ["bench", "--model", str(CHECKPOINTS / "encoder"), "--device", "cpu", "--workloads", "single", "--beside", "2"]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_they_compute_only_when_told() -> None:
    busy = BusyProcesses(2)
    pids = busy.pids
    try:
        assert len(busy) == len(set(pids)) == 2
        assert all(map(alive, pids))
        while busy.seconds == 0.0:  # until the system has given them a turn
            with busy.computing():
                sum(range(100_000))
    finally:
        busy.close()
    assert not any(map(alive, pids))
    busy.close()


def test_one_that_has_ended_is_an_error() -> None:
    busy = BusyProcesses(1)
    try:
        busy._processes[0].terminate()
        busy._processes[0].join()
        with pytest.raises(ChildProcessError, match="a busy process has ended"), busy.computing():
            pass
    finally:
        busy.close()


@pytest.mark.parametrize("count", [-1, 257])
def test_impossible_numbers(count: int) -> None:
    with pytest.raises(OptionError, match=f"beside={count}"):
        BusyProcesses(count)


def failing(error: BaseException, seen: list[int]) -> type[peers.Ours]:
    """A peer that scores like ours, and fails in a round."""

    class Failing(peers.Ours):
        calls = 0

        def score(self, pairs: list[tuple[str, str]]) -> list[float]:
            type(self).calls += 1
            seen[:] = [child.pid or 0 for child in multiprocessing.active_children()]
            if self.calls == 4:
                raise error
            return super().score(pairs)

    return Failing


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (MemoryError("full"), 1), (OSError("gone"), 1)], ids=repr
)
def test_they_end_on_errors_and_ctrl_c(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []
    monkeypatch.setitem(peers.PEERS, "failing", failing(error, seen))
    monkeypatch.setattr(sys, "argv", ["bge-rerank", *WORDS, "--against", "failing"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == status
    assert len(seen) == 2
    assert not any(map(alive, seen))
    assert multiprocessing.active_children() == []


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_they_end_when_the_benchmark_is_killed(end: str) -> None:
    """They have its standard output: it would not end before they do."""
    code = f"""
import os, signal
from bge_rerank_integrations.bench.busy import BusyProcesses
if __name__ == "__main__":
    busy = BusyProcesses(2)
    with busy.computing():
        print(*busy.pids, flush=True)
        {end}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    pids = list(map(int, done.stdout.split()))
    assert len(pids) == 2
    assert done.returncode < 0
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_at_a_terminal_reaches_them_too() -> None:
    """A terminal interrupts the whole group: they leave it to the benchmark, without a word."""
    code = """
import os, signal
from bge_rerank_integrations.bench.busy import BusyProcesses
if __name__ == "__main__":
    busy = BusyProcesses(2)
    try:
        with busy.computing():
            os.killpg(0, signal.SIGINT)
            signal.pause()
    except KeyboardInterrupt:
        busy.close()
        print("closed", len(busy))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, start_new_session=True
    )
    assert (done.stdout, done.stderr, done.returncode) == ("closed 0\n", "", 0)


def test_what_is_timed_beside_them_is_timed_while_they_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computing and timing take turns, and all stops in between."""
    from bge_rerank_integrations.bench import busy as module
    from bge_rerank_integrations.bench.run import benchmark

    happened: list[str] = []
    tell: Callable[[BusyProcesses, bool], float] = module.BusyProcesses._tell

    def told(self: BusyProcesses, wanted: bool) -> float:
        happened.append("begin" if wanted else "end")
        return tell(self, wanted)

    class Watched(peers.Ours):
        def score(self, pairs: list[tuple[str, str]]) -> list[float]:
            happened.append("score")
            return super().score(pairs)

    monkeypatch.setattr(module.BusyProcesses, "_tell", told)
    monkeypatch.setitem(peers.PEERS, "ours", Watched)
    report = benchmark(str(CHECKPOINTS / "encoder"), [], ["single"], rounds=2, beside=1, device="cpu")
    assert happened == ["score", *(["score", "begin", "score", "end"] * 2)]
    (ours,) = report.timings
    assert (len(ours.seconds), len(ours.beside)) == (2, 2)
    assert len(report.work[0].quiet) == len(report.work[0].busy) == 2
