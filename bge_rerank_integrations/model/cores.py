"""How many cores this process may use, and threads that use so many of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import torch

ROOT = Path("/")
Result = TypeVar("Result")
_TURNS: dict[int, threading.Lock] = {}
"""One lock for each process, since a fork may find its parent's held. The number that threads start with is the whole
process's: two that change it at once would put back what the other has set."""


def usable_cores(environment: Mapping[str, str] = os.environ, root: Path = ROOT) -> int:
    """How many cores to compute with: at least one, and no more than any limit that is set for this process.

    The limits are torch's own number of threads (the number of physical cores, or what `torch.set_num_threads` has
    set), the cores that the process is bound to, the quota of its containers, and `OMP_NUM_THREADS`.

    Args:
        root: where `proc` and `sys` are.
    """
    limits = [torch.get_num_threads(), _bound_to(), *_quotas(root)]
    wanted = environment.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # for nested threads there may be several
    if wanted.isdecimal():
        limits.append(int(wanted))
    return max(1, int(min(limits)))


def use_cores(cores: int) -> None:
    """Let torch use so many cores for what this thread computes, and leave its setting for all others as it was."""
    with _TURNS.setdefault(os.getpid(), threading.Lock()):
        before = torch.get_num_threads()
        if before == cores:
            return
        torch.set_num_threads(cores)  # of this thread, and the default of threads that have not computed yet
        back = threading.Thread(target=torch.set_num_threads, args=(before,))
        back.start()
        back.join()


def with_cores(cores: int, work: Callable[[], Result]) -> Result:
    """What `work` returns, computed by a thread of its own with so many cores.

    OpenMP's helpers end with that thread. If they stayed, and there were more of them in this process than cores, all
    would sleep between operations: one pair then took 13% longer, whoever computed it.
    """
    done: Future[Result] = Future()

    def compute() -> None:
        try:
            use_cores(cores)
            result = work()
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            done.set_exception(error)
        else:
            done.set_result(result)

    try:
        threading.Thread(target=compute, name="bge-rerank-all-cores", daemon=True).start()
    except RuntimeError:  # none can be started, for example while Python ends
        return work()
    return done.result()


def _bound_to() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """What the control groups of this process allow it, each in cores; of both versions, and of their parents too."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not on Linux
        return
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        read = _version_1 if controllers else _version_2
        mounted = root / "sys/fs/cgroup"
        for top in {mounted / controllers, mounted / "cpu"} if controllers else {mounted}:
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                if not folder.is_relative_to(top):
                    break
                quota, period = read(folder)
                if quota > 0 and period > 0:
                    yield quota / period


def _version_1(folder: Path) -> tuple[int, int]:
    """The microseconds of computing in each period of so many microseconds; zero where there is no limit."""
    try:
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota), int(period)
    except (OSError, ValueError):
        return 0, 0


def _version_2(folder: Path) -> tuple[int, int]:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return int(quota), int(period)
    except (OSError, ValueError):  # "max" is no limit
        return 0, 0
