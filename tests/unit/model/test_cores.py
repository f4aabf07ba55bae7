"""How many cores a process may use, whatever sets the limit, and threads that use so many."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.model.cores import usable_cores, use_cores, with_cores
from tests.conftest import CHECKPOINTS


def groups(root: Path, lines: str, **files: str) -> Path:
    """A file system with these lines in /proc/self/cgroup, and these files under /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with 64 cores."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(
    ("lines", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "350000 100000\n"}, 3),
        ("0::/a\n", {"a/cpu.max": "50000 100000\n"}, 1),
        ("0::/docker/1\n", {"cpu.max": "400000 100000\n"}, 4),  # a container sees its own group as the top
        ("0::/\n", {"cpu.max": "max 100000\n"}, 64),
        ("0::/\n", {}, 64),
        ("0::/\n", {"cpu.max": "nonsense"}, 64),
        ("4:cpu,cpuacct:/1\n", {"cpu,cpuacct/cpu.cfs_quota_us": "80\n", "cpu,cpuacct/cpu.cfs_period_us": "10\n"}, 8),
        ("1:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "150000\n", "cpu/a/cpu.cfs_period_us": "50000\n"}, 3),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ("4:cpu,cpuacct:/1\n", {"cpu/cpu.cfs_quota_us": "40\n", "cpu/cpu.cfs_period_us": "10\n"}, 4),  # mounted alone
        ("nonsense\n0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("3:cpuset:/\n9:name=systemd:/\n0::/\n", {}, 64),
    ],
)  # fmt: skip
def test_quotas(lines: str, files: dict[str, str], cores: int, tmp_path: Path) -> None:
    assert usable_cores({}, groups(tmp_path, lines, **files)) == cores


@pytest.mark.usefixtures("many_cores")
@pytest.mark.parametrize(
    ("value", "cores"), [("3", 3), ("4,2", 4), (" 5 ", 5), ("0", 1), ("", 64), ("many", 64), ("100", 64)]
)
def test_omp_num_threads(value: str, cores: int, tmp_path: Path) -> None:
    assert usable_cores({"OMP_NUM_THREADS": value}, tmp_path) == cores


@pytest.mark.usefixtures("many_cores")
def test_what_torch_was_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    assert usable_cores({}, tmp_path) == 6


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux binds processes to cores")
def test_a_process_that_is_bound_to_one_core() -> None:
    code = f"""
import os
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from bge_rerank_integrations import load_scorer
import threading
scorer = load_scorer({str(CHECKPOINTS / "encoder")!r})
scorer.score("q", ["a"] * 50)
print([thread.name for thread in threading.enumerate() if thread.name.startswith("bge-rerank")])
"""
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "['bge-rerank-0']"


def test_a_thread_uses_its_own_number_and_no_other_thread_does() -> None:
    before = torch.get_num_threads()
    seen: dict[str, int] = {}

    def narrow() -> None:
        use_cores(1)
        torch.ones(100, 100) @ torch.ones(100, 100)
        seen["narrow"] = torch.get_num_threads()

    def fresh() -> None:
        seen["fresh"] = torch.get_num_threads()

    for work in (narrow, fresh):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    seen["whole"] = with_cores(before + 1, torch.get_num_threads)
    assert seen == {"narrow": 1, "fresh": before, "whole": before + 1}
    assert torch.get_num_threads() == before


def test_threads_that_set_their_numbers_at_once_leave_the_default_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One begins while another has changed the default and not put it back yet: it must wait, or it puts back that."""
    before, set_number = torch.get_num_threads(), torch.set_num_threads
    second = threading.Thread(target=use_cores, args=(before + 1,))
    has_read, may_set = threading.Event(), threading.Event()

    def watched(number: int) -> None:
        if threading.current_thread() is second:
            has_read.set()
            assert may_set.wait(60)
        set_number(number)
        if second.ident is None:
            second.start()
            has_read.wait(0.1)  # in vain, since it waits for its turn

    monkeypatch.setattr(torch, "set_num_threads", watched)
    first = threading.Thread(target=use_cores, args=(before + 2,))
    first.start()
    first.join()
    may_set.set()
    second.join()
    found: list[int] = []
    fresh = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    set_number(before)  # for the other tests, if this one fails
    assert found == [before]


def test_loading_and_scoring_leave_torchs_number_of_threads_alone() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with load_scorer(CHECKPOINTS / "encoder") as scorer:
            scorer.score("q", ["a", "b", "c"])
            fresh: list[int] = []
            thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
            thread.start()
            thread.join()
            assert (torch.get_num_threads(), fresh) == (3, [3])
    finally:
        torch.set_num_threads(before)


def test_errors_come_back_from_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="7"):
        with_cores(1, lambda: sys.exit(7))

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert with_cores(1, lambda: 5) == 5


@pytest.mark.parametrize("family", ["encoder", "llm", "layerwise", "lightweight"])
def test_scores_do_not_depend_on_the_way(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many batches side by side, or one after the other; a pair with one core, or with all."""
    from bge_rerank_integrations import loading

    pairs = [("what is a panda", " ".join(["bear"] * count)) for count in range(1, 60)]
    scores = []
    for cores in (1, 4):
        monkeypatch.setattr(loading, "usable_cores", lambda cores=cores: cores)
        with load_scorer(CHECKPOINTS / family, token_budget=200) as scorer:
            scores.append(scorer.score_pairs(pairs))
            for _ in range(8):  # in which both ways are tried
                assert scorer.score_pairs(pairs[:1]) == pytest.approx(scores[0][:1], abs=1e-5)
    assert scores[1] == pytest.approx(scores[0], abs=1e-5)
