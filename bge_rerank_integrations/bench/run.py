"""The benchmark: load all peers, check that their scores agree, then time them in turn for several rounds."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from bge_rerank_integrations.bench import peers, remote
from bge_rerank_integrations.bench.cost import Peak, needed_flops
from bge_rerank_integrations.bench.shapes import PREFIX, write_random
from bge_rerank_integrations.bench.workloads import WORKLOADS, Source
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.loading import resolve
from bge_rerank_integrations.machine import hardware, versions
from bge_rerank_integrations.model.devices import dtype_name
from bge_rerank_integrations.options import ModelSource, Placement, ScoringOptions
from bge_rerank_integrations.ranking import Pair
from bge_rerank_integrations.scorer import limits

TOLERANCE = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.5}
"""How far a peer's logits may be from ours. If they are farther, its times are not shown."""
CORRELATION = 0.95
"""The least correlation with our logits that "int8" and "bfloat16", which round, must have. Measured for int8: 0.974 to
0.982 with random weights, 0.9995 with the embedded encoder."""


@dataclass
class Timing:
    """The times of one peer for one workload."""

    peer: str
    workload: str
    seconds: list[float] = field(default_factory=list)
    extra_bytes: int | None = None
    """The peak of memory, without what was in use before."""
    difference: float = 0.0
    """The largest difference of a score from ours."""
    problem: str | None = None
    """Why its times are not shown; None: they are."""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass
class Work:
    """One workload."""

    name: str
    pairs: int
    tokens: int
    flops: float
    """Floating-point operations to score it, without padding."""
    peak_flops: float
    """What the machine can do per second: the median of measurements before and after our runs (see `cost.Peak`)."""


@dataclass
class Report:
    """All measurements, and the machine and versions they were made with."""

    model: str
    family: str
    device: str
    dtype: str
    hardware: str
    threads: int
    versions: dict[str, str]
    rounds: int
    work: list[Work]
    timings: list[Timing]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def benchmark(
    model: str,
    against: Sequence[str],
    workloads: Sequence[str],
    *,
    rounds: int = 3,
    scale: float = 1.0,
    device: str | None = None,
    dtype: str = "auto",
    seed: int = 0,
    say: Callable[[str], object] = lambda message: None,
) -> Report:
    """Time this package and its peers.

    Args:
        model: hub id, folder, "demo", or "random:NAME[:FRACTION]" (see `shapes.write_random`).
        against: "NAME[:BATCH][=PYTHON]": names of `peers.PEERS`, with how many pairs go into a batch (without: what
            the peer does by itself), and the interpreter that has it (without: this one).
        workloads: names of `workloads.WORKLOADS`.
        scale: part of each workload to take, up to 1.
        say: called with what is being done.
    """
    for name in workloads:
        if name not in WORKLOADS:
            raise OptionError(f"workload {name!r}: use {', '.join(WORKLOADS)}")
    if rounds < 1 or not 0 < scale <= 1:
        raise OptionError(f"rounds={rounds}, scale={scale}: use at least 1 round, and a scale above 0 and up to 1")
    placement = Placement(device, dtype)
    with ExitStack() as cleanup:
        source = ModelSource(model)
        if model.startswith(PREFIX):
            source = ModelSource(Path(cleanup.enter_context(tempfile.TemporaryDirectory())))
            say(f"writing {model}")
            write_random(model, Path(source.model))
        found = resolve(source, placement)
        family, (chosen,), kind = found.family, found.devices, dtype_name(found.dtype)
        if kind not in TOLERANCE:
            raise OptionError(f"dtype={kind!r}: everything is timed in float32 or half precision; time int8 against it")
        folder = found.checkpoint.folder
        if len(found.checkpoint.folders) > 1:
            folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
            found.checkpoint.copy_to(folder)
        load: dict[str, Any] = {
            "folder": str(folder),
            "family": family.name,
            "device": str(chosen),
            "dtype": kind,
        }
        running: dict[str, Any] = {}
        problems: dict[str, str] = {}
        for entry in dict.fromkeys(["ours", *against]):
            label, _, python = entry.partition("=")
            name, batch = _batch(label)
            say(f"loading {label}")
            if name not in peers.PEERS:
                raise OptionError(f"{name!r} is not a peer: use {', '.join(peers.PEERS)}")
            runs = peers.PEERS[name].families
            if runs is not None and family.name not in runs:
                problems[label] = f"does not run the {family.name} family"
                continue
            its = load | {"batch": batch}
            try:
                running[label] = remote.RemotePeer(name, python, **its) if python else Local(name, its)
                cleanup.callback(running[label].close)
            except OptionError:
                raise
            except (ImportError, RuntimeError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                if name == "ours":
                    raise
                problems[label] = f"{type(error).__name__}: {error}"
        texts = Source(found.checkpoint.tokenizer, seed)
        encoder = family.inputs(ScoringOptions(), limits(family, ScoringOptions()))
        peak = Peak(family.dimensions, chosen, found.dtype)
        work, timings = [], []
        for name in workloads:
            pairs = WORKLOADS[name](texts, scale)
            lengths = [len(sequence.ids) for sequence in encoder.encode(pairs)]
            measured, peak_flops = _time(running, name, pairs, rounds, TOLERANCE[kind], peak, say)
            timings += [*measured, *(Timing(peer, name, problem=problem) for peer, problem in problems.items())]
            flops = needed_flops(family.dimensions, lengths)
            work.append(Work(name, len(pairs), sum(lengths), flops, peak_flops))
        return Report(
            model=model,
            family=family.name,
            device=torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else str(chosen),
            dtype=kind,
            hardware=hardware(),
            threads=torch.get_num_threads(),
            versions=versions(),
            rounds=rounds,
            work=work,
            timings=timings,
        )


def _batch(label: str) -> tuple[str, int | None]:
    """A peer's name, and how many pairs a batch has, if the label says so."""
    name, _, batch = label.partition(":")
    if batch and not (batch.isdecimal() and int(batch)):
        raise OptionError(f"{label!r}: after the colon, give the number of pairs in a batch, such as {name}:4")
    return name, int(batch) if batch else None


class Local:
    """A peer in this process."""

    def __init__(self, name: str, load: dict[str, Any]) -> None:
        self._peer = peers.PEERS[name](**load)

    def timed(self, pairs: list[Pair]) -> dict[str, Any]:
        return peers.timed(self._peer, pairs)

    def weighed(self, pairs: list[Pair]) -> dict[str, Any]:
        return peers.weighed(self._peer, pairs)

    def close(self) -> None:
        self._peer.close()


def _time(
    running: dict[str, Any],
    workload: str,
    pairs: list[Pair],
    rounds: int,
    tolerance: float,
    peak: Peak,
    say: Callable[[str], object],
) -> tuple[list[Timing], float]:
    """Each peer's times, and the machine's peak, measured in turn.

    A first run warms up, checks that the scores agree, and measures memory: for that, the allocator first gives back
    its free memory, which would make a timed run slower.
    """
    timings = {name: Timing(name, workload) for name in running}
    expected: list[float] = []
    for name, peer in running.items():
        say(f"{workload}: warming up {name}")
        timing = timings[name]
        try:
            answer = peer.weighed(pairs)
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            if name == "ours":
                raise
            timing.problem = f"{type(error).__name__}: {error}"
            continue
        timing.extra_bytes = answer["extra_bytes"]
        expected = expected or answer["scores"]
        timing.difference = max(abs(a - b) for a, b in zip(expected, answer["scores"], strict=True))
        timing.problem = _disagreement(timing, expected, answer["scores"], tolerance)
    peaks: list[float] = []
    for turn in range(rounds):
        for name, peer in running.items():
            timing = timings[name]
            if timing.problem:
                continue
            say(f"{workload}: round {turn + 1} of {rounds}, {name}")
            if name == "ours":
                peaks.append(peak.measure())
            try:
                timing.seconds.append(peer.timed(pairs)["seconds"])
            except RuntimeError as error:
                timing.problem = str(error)
            if name == "ours":
                peaks.append(peak.measure())
    return list(timings.values()), statistics.median(peaks)


def _disagreement(timing: Timing, expected: list[float], scores: list[float], tolerance: float) -> str | None:
    """Why a peer's scores are not those of the same model; None if they agree."""
    if getattr(peers.PEERS[_batch(timing.peer)[0]], "rounds", None):
        correlation = statistics.correlation(expected, scores) if len(scores) > 1 else 1.0
        return None if correlation >= CORRELATION else f"the scores correlate by only {correlation:.3f}"
    return None if timing.difference <= tolerance else f"the scores differ by up to {timing.difference:.2g}"
