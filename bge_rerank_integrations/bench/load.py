"""What other processes used of the machine while something was timed. Linux tells; other systems do not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Load:
    """A span of time."""

    seconds: float
    """How long it was."""
    others: float | None
    """CPU seconds, in this time, that were used on the cores that this process may use, without what this process and
    those that it started used. What a host gave to other virtual machines is among them. None: the system does not
    tell."""


def average(loads: list[Load]) -> float | None:
    """How many cores others used; None: the system does not tell."""
    used = [load.others for load in loads if load.others is not None]
    if len(used) < len(loads) or not loads:
        return None
    return sum(used) / sum(load.seconds for load in loads)


def busiest(loads: list[Load]) -> float:
    """How many cores others used in the worst of these spans, of which the system told."""
    return max((load.others or 0.0) / load.seconds for load in loads)


def averages() -> tuple[float, ...] | None:
    """The system's load averages over 1, 5 and 15 minutes; None: it has none."""
    return os.getloadavg() if hasattr(os, "getloadavg") else None


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


@contextmanager
def observed(loads: list[Load], proc: Path = PROC, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
    """Add the load of the `with` block to a list."""
    started, before = clock(), others_seconds(proc)
    yield
    seconds, after = clock() - started, others_seconds(proc)
    others = None if before is None or after is None else max(0.0, after - before)  # ticks are rounded
    loads.append(Load(seconds, others))


def others_seconds(proc: Path = PROC) -> float | None:
    """CPU seconds since the machine started that others used on our cores. Only differences of it mean something.

    Args:
        proc: where the system tells about processes, as `man 5 proc` describes.
    """
    try:
        ticks = os.sysconf("SC_CLK_TCK")
        lines = [line.split() for line in (proc / "stat").read_text().splitlines()]
        allowed = {f"cpu{core}" for core in cores()}
        used = sum(_used(line) for line in lines if line[0] in allowed)
        return (used - _ours(proc)) / ticks
    except (OSError, ValueError, AttributeError, IndexError):
        return None


def _used(line: list[str]) -> int:
    """Of a core: all but the time that it was idle or waited for a disk. Guests are part of user and nice."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line[1:9])
    return user + nice + system + irq + softirq + steal


def _ours(proc: Path) -> int:
    """What this process has used, and those that it started, theirs, and so on.

    What a process used moves to its parent when it ends, so the sum goes on.
    """
    parents, used = {}, {}
    for path in proc.glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has ended, or is nobody's business
        fields = text.rpartition(")")[2].split()  # a process's name may have spaces and brackets
        pid = int(path.parent.name)
        parents[pid], used[pid] = int(fields[1]), sum(map(int, fields[11:15]))
    family, found = {os.getpid()}, 0
    while len(family) > found:
        found = len(family)
        family |= {pid for pid, parent in parents.items() if parent in family}
    return sum(used.get(pid, 0) for pid in family)
