"""What was measured."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from bge_rerank_integrations.bench.load import Load, averages, cores
from bge_rerank_integrations.bench.verdict import Comparison, compare, quartiles
from bge_rerank_integrations.bench.workloads import Plan
from bge_rerank_integrations.machine import hardware, versions


@dataclass
class Timing:
    """The times of one peer for one workload."""

    peer: str
    workload: str
    seconds: list[float] = field(default_factory=list)
    """One a round."""
    beside: list[float] = field(default_factory=list)
    """The same beside the busy processes; empty: there were none."""
    extra_bytes: int | None = None
    """The peak of memory, without what was in use before; None: it is not told."""
    difference: float = 0.0
    """The largest difference of a score from those of the first peer."""
    problem: str | None = None
    """Why its times are not shown; None: they are."""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass
class Work:
    """One workload, and what the machine did while it was timed."""

    name: str
    pairs: int
    tokens: int | None = None
    """None: only the server knows."""
    flops: float | None = None
    """Floating-point operations to score it, without padding; None: only the server knows."""
    peak_flops: float | None = None
    """What the machine can do per second: the median of a measurement in each round (see `cost.Peak`)."""
    quiet: list[Load] = field(default_factory=list)
    """The load by others, round by round, without busy processes."""
    busy: list[Load] = field(default_factory=list)
    """The same beside the busy processes, without theirs."""
    busy_seconds: float = 0.0
    """CPU seconds that the busy processes used in these rounds."""


@dataclass
class Report:
    """All measurements, and the machine and versions they were made with."""

    model: str
    family: str | None
    """None: only the server knows; so of `dtype`."""
    device: str
    dtype: str | None
    hardware: str
    threads: int
    cores: int
    """That this process may use."""
    versions: dict[str, str]
    rounds: int
    beside: int
    """How many busy processes there were."""
    load_average: tuple[float, ...] | None
    """Of the system, over 1, 5 and 15 minutes, before the start and (`load_average_after`) at the end."""
    load_average_after: tuple[float, ...] | None
    loading: Load
    """What others used before anything was timed: while everything was loaded."""
    work: list[Work]
    timings: list[Timing]

    @classmethod
    def made_here(
        cls,
        plan: Plan,
        loading: Load,
        load_average: tuple[float, ...] | None,
        *,
        model: str,
        family: str | None,
        device: str,
        dtype: str | None,
        work: list[Work],
        timings: list[Timing],
    ) -> Report:
        """A report of what was just timed, with this machine, its versions and its load now."""
        return cls(
            model=model,
            family=family,
            device=device,
            dtype=dtype,
            hardware=hardware(),
            threads=torch.get_num_threads(),
            cores=len(cores()),
            versions=versions(),
            rounds=plan.rounds,
            beside=plan.beside,
            load_average=load_average,
            load_average_after=averages(),
            loading=loading,
            work=work,
            timings=timings,
        )

    def timings_of(self, workload: str) -> list[Timing]:
        """The timings of a workload. The first is what the others are compared with."""
        return [timing for timing in self.timings if timing.workload == workload]

    def comparisons(self, timing: Timing) -> dict[str, Comparison]:
        """A timing compared with others, as far as there are times.

        "quiet" and "busy" compare it with the first of its workload, without and beside the busy processes; "slowdown"
        compares its times beside them with its own quiet ones.
        """
        first = self.timings_of(timing.workload)[0]
        names = first.peer, timing.peer
        found = {}
        if timing is not first and timing.seconds and first.seconds:
            found["quiet"] = compare(first.seconds, timing.seconds, names)
        if timing is not first and timing.beside and first.beside:
            found["busy"] = compare(first.beside, timing.beside, names)
        if timing.seconds and timing.beside:
            names = timing.peer, f"{timing.peer} beside {self.beside}"
            found["slowdown"] = compare(timing.seconds, timing.beside, names)
        return found

    def to_json(self) -> str:
        """Everything, with medians, quartiles and comparisons."""
        timings = [asdict(timing) | self._figures(timing) for timing in self.timings]
        return json.dumps(asdict(self) | {"timings": timings}, indent=1)

    def _figures(self, timing: Timing) -> dict[str, Any]:
        spread = {
            name: {"median": statistics.median(seconds), "quartiles": quartiles(seconds)}
            for name, seconds in (("quiet", timing.seconds), ("busy", timing.beside))
            if seconds
        }
        return {
            "spread": spread,
            "comparisons": {name: asdict(comparison) for name, comparison in self.comparisons(timing).items()},
        }
