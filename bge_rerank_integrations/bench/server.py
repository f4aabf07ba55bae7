"""The benchmark of a server: the same pairs, sent to an address."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from bge_rerank_integrations.bench import load, peers
from bge_rerank_integrations.bench.busy import BusyProcesses
from bge_rerank_integrations.bench.results import Report, Work
from bge_rerank_integrations.bench.rounds import Clock, Say, measure
from bge_rerank_integrations.bench.workloads import WORKLOADS, Plan, Source
from bge_rerank_integrations.loading import load_scorer, resolve
from bge_rerank_integrations.options import ModelSource, Placement, Scale
from bge_rerank_integrations.protocol import ScorerProtocol
from bge_rerank_integrations.ranking import Pair
from bge_rerank_integrations.remote.dialects import DIALECTS

LABEL = "server"
TOKENIZER = "demo"
"""Texts are cut to their lengths in the tokens of this model: those of the server's model are not known here."""


class Server:
    """A server, as a peer."""

    def __init__(self, scorer: ScorerProtocol, clock: Clock) -> None:
        self.score = scorer.score_pairs
        self.close = scorer.close
        self._clock = clock

    def timed(self, pairs: list[Pair]) -> dict[str, Any]:
        """As `peers.timed`."""
        return peers.timed(self, pairs, self._clock)

    def weighed(self, pairs: list[Pair]) -> dict[str, Any]:
        """As `peers.weighed`, but its memory is on its own machine."""
        return {"scores": self.score(pairs), "extra_bytes": None}


def benchmark_server(
    address: str,
    workloads: Sequence[str],
    *,
    dialect: str | None,
    served_model: str | None = None,
    api_key: str | None = None,
    rounds: int = 8,
    scale: float = 1.0,
    beside: int = 0,
    device: str | None = None,
    dtype: str = "auto",
    seed: int = 0,
    say: Say = lambda message: None,
    clock: Clock = time.perf_counter,
) -> Report:
    """Time a server. It has no peers here, and neither its memory nor the peak of its machine is known.

    Args:
        address, dialect, served_model, api_key, device, dtype: as in `load_scorer`, which refuses the last two.

    The others are those of `run.benchmark`. The busy processes run on this machine: they tell something if the server
    does, too.

    Raises:
        RemoteError: the server did not deliver; says what to do.
        OptionError: an option is unknown, or impossible with this dialect.
        ChildProcessError: a busy process has ended.
    """
    plan = Plan(tuple(workloads), rounds, scale, beside)
    averages = load.averages()
    with ExitStack() as cleanup:
        loading: list[load.Load] = []
        with load.observed(loading):
            scorer = load_scorer(
                address,
                dialect=dialect,
                served_model=served_model,
                api_key=api_key,
                scale=_scale(dialect),
                devices=device,
                dtype=dtype,
            )
            server = Server(scorer, clock)
            cleanup.callback(server.close)
            texts = Source(resolve(ModelSource(TOKENIZER), Placement("cpu")).checkpoint.tokenizer, seed)
            busy = BusyProcesses(plan.beside)
            cleanup.callback(busy.close)
        work, timings = [], []
        for name in plan.workloads:
            pairs = WORKLOADS[name](texts, plan.scale)
            work.append(Work(name, len(pairs)))
            timings += measure(
                {LABEL: server},
                pairs,
                work[-1],
                rounds=plan.rounds,
                busy=busy,
                peak=None,
                problem=lambda name, expected, scores: None,
                say=say,
            )
        return Report.made_here(
            plan,
            loading[0],
            averages,
            model=address,  # which has no secrets: load_scorer refuses those
            family=None,
            device=f"server, dialect {dialect}",
            dtype=None,
            work=work,
            timings=timings,
        )


def _scale(dialect: str | None) -> Scale:
    """One that the dialect has: which, makes no difference to times."""
    known = DIALECTS.get(dialect or "")
    return known.scales[0] if known else "logit"
