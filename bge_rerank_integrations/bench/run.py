"""The benchmark: load this package and its peers, check that their scores agree, and time them in turn."""

from __future__ import annotations

import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from bge_rerank_integrations.bench import load, peers, remote
from bge_rerank_integrations.bench.busy import BusyProcesses
from bge_rerank_integrations.bench.cost import Peak, needed_flops
from bge_rerank_integrations.bench.results import Report, Timing, Work
from bge_rerank_integrations.bench.rounds import Clock, Local, Problem, Say, Timed, measure
from bge_rerank_integrations.bench.shapes import PREFIX, write_random
from bge_rerank_integrations.bench.workloads import WORKLOADS, Plan, Source
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.loading import Resolved, resolve
from bge_rerank_integrations.model.devices import dtype_name
from bge_rerank_integrations.options import ModelSource, Placement, ScoringOptions
from bge_rerank_integrations.scorer import limits

TOLERANCE = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.5}
"""How far a peer's logits may be from ours. If they are farther, its times are not shown."""
CORRELATION = 0.95
"""The least correlation with our logits that "int8" and "bfloat16", which round, must have. Measured for int8: 0.974 to
0.982 with random weights, 0.9995 with the embedded encoder."""
BROKEN = (ImportError, RuntimeError, OSError, ValueError, TypeError, KeyError, AttributeError)
"""What a peer may raise that cannot be loaded."""


def benchmark(
    model: str,
    against: Sequence[str],
    workloads: Sequence[str],
    *,
    rounds: int = 8,
    scale: float = 1.0,
    beside: int = 0,
    device: str | None = None,
    dtype: str = "auto",
    seed: int = 0,
    say: Say = lambda message: None,
    clock: Clock = time.perf_counter,
) -> Report:
    """Time this package and its peers.

    Args:
        model: hub id, folder, "demo", or "random:NAME[:FRACTION]" (see `shapes.write_random`).
        against: "NAME[:BATCH][=PYTHON]": names of `peers.PEERS`, with how many pairs go into a batch (without: what
            the peer does by itself), and the interpreter that has it (without: this one). Empty: this package alone.
        workloads: names of `workloads.WORKLOADS`.
        rounds: in each, everything is timed once, and once more beside the busy processes.
        scale: part of each workload to take, up to 1.
        beside: busy processes to start.
        say: called with what is being done.
        clock: what times are taken from, for peers in this process.

    Raises:
        OptionError: an option or a peer is unknown, or a value is impossible.
        ChildProcessError: a busy process has ended.
    """
    plan = Plan(tuple(workloads), rounds, scale, beside)
    averages = load.averages()
    with ExitStack() as cleanup:
        loading: list[load.Load] = []
        with load.observed(loading):
            found = _find(model, Placement(device, dtype), cleanup, say)
            running, problems = _load(found, against, cleanup, say, clock)
            busy = BusyProcesses(plan.beside)
            cleanup.callback(busy.close)
        family, (chosen,), kind = found.family, found.devices, dtype_name(found.dtype)
        texts = Source(found.checkpoint.tokenizer, seed)
        encoder = family.inputs(ScoringOptions(), limits(family, ScoringOptions()))
        peak = Peak(family.dimensions, chosen, found.dtype)
        work, timings = [], []
        for name in plan.workloads:
            pairs = WORKLOADS[name](texts, plan.scale)
            lengths = [len(sequence.ids) for sequence in encoder.encode(pairs)]
            work.append(Work(name, len(pairs), sum(lengths), needed_flops(family.dimensions, lengths)))
            timings += measure(
                running,
                pairs,
                work[-1],
                rounds=plan.rounds,
                busy=busy,
                peak=peak.measure,
                problem=_disagreement(TOLERANCE[kind]),
                say=say,
            )
            timings += [Timing(peer, name, problem=problem) for peer, problem in problems.items()]
        return Report.made_here(
            plan,
            loading[0],
            averages,
            model=model,
            family=family.name,
            device=torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else str(chosen),
            dtype=kind,
            work=work,
            timings=timings,
        )


def _find(model: str, placement: Placement, cleanup: ExitStack, say: Say) -> Resolved:
    """The model; one of random weights is written to a folder that the cleanup removes."""
    source = ModelSource(model)
    if model.startswith(PREFIX):
        source = ModelSource(Path(cleanup.enter_context(tempfile.TemporaryDirectory())))
        say(f"writing {model}")
        write_random(model, Path(source.model))
    found = resolve(source, placement)
    if (kind := dtype_name(found.dtype)) not in TOLERANCE:
        raise OptionError(f"dtype={kind!r}: everything is timed in float32 or half precision; time int8 against it")
    return found


def _load(
    found: Resolved, against: Sequence[str], cleanup: ExitStack, say: Say, clock: Clock
) -> tuple[dict[str, Timed], dict[str, str]]:
    """Ours and the peers by their labels, and why some cannot run."""
    folder = found.checkpoint.folder
    if len(found.checkpoint.folders) > 1:  # peers are given one folder, and look for everything there
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        found.checkpoint.copy_to(folder)
    options = {
        "folder": str(folder),
        "family": found.family.name,
        "device": str(found.devices[0]),
        "dtype": dtype_name(found.dtype),
    }
    running: dict[str, Timed] = {}
    problems: dict[str, str] = {}
    for entry in dict.fromkeys(["ours", *against]):
        label, _, python = entry.partition("=")
        name, batch = _batch(label)
        say(f"loading {label}")
        if name not in peers.PEERS:
            raise OptionError(f"{name!r} is not a peer: use {', '.join(peers.PEERS)}, or none alone")
        runs = peers.PEERS[name].families
        if runs is not None and found.family.name not in runs:
            problems[label] = f"does not run the {found.family.name} family"
            continue
        try:
            peer = _start(name, python, options | {"batch": batch}, clock)
        except OptionError:
            raise
        except remote.NotInstalled as error:
            problems[label] = str(error)
        except BROKEN as error:
            if name == "ours":
                raise
            problems[label] = f"{type(error).__name__}: {error}"
        else:
            cleanup.callback(peer.close)
            running[label] = peer
    return running, problems


def _start(name: str, python: str, options: dict[str, Any], clock: Clock) -> Local | remote.RemotePeer:
    if python:
        return remote.RemotePeer(name, python, **options)
    if missing := peers.missing(name):
        raise remote.NotInstalled(_advice(name, missing))
    return Local(peers.PEERS[name](**options), clock)


def _advice(name: str, missing: list[str]) -> str:
    """How to get a peer's packages: beside this package, or where they want other versions, apart from it."""
    if not peers.PEERS[name].apart:
        return f"not installed. Run: {shlex.join([sys.executable, '-m', 'pip', 'install', *missing])}"
    apart = shlex.join([f"{name}/bin/python", "-m", "pip", "install", *missing])
    return (
        "not installed, and it needs an environment of its own. "
        f"Run: {shlex.quote(sys.executable)} -m venv {name} && {apart}; then use --against {name}={name}/bin/python"
    )


def _batch(label: str) -> tuple[str, int | None]:
    """A peer's name, and how many pairs a batch has, if the label says so."""
    name, _, batch = label.partition(":")
    if batch and not (batch.isdecimal() and int(batch)):
        raise OptionError(f"{label!r}: after the colon, give the number of pairs in a batch, such as {name}:4")
    return name, int(batch) if batch else None


def _disagreement(tolerance: float) -> Problem:
    """Says why a peer's scores are not those of the same model."""

    def problem(label: str, expected: list[float], scores: list[float]) -> str | None:
        if peers.PEERS[_batch(label)[0]].rounds:
            correlation = statistics.correlation(expected, scores) if len(scores) > 1 else 1.0
            return None if correlation >= CORRELATION else f"the scores correlate by only {correlation:.3f}"
        difference = max(abs(a - b) for a, b in zip(expected, scores, strict=True))
        return None if difference <= tolerance else f"the scores differ by up to {difference:.2g}"

    return problem
