"""The benchmark: load everything, check that the scores agree, then time in turn over several rounds."""

from __future__ import annotations

import json
import platform
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from bge_rerank_integrations.bench import peers, remote
from bge_rerank_integrations.bench.cost import needed_flops, peak_flops
from bge_rerank_integrations.bench.shapes import PREFIX, write_random
from bge_rerank_integrations.bench.workloads import WORKLOADS, Source
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.families import find_family
from bge_rerank_integrations.inputs import Limits, Pair
from bge_rerank_integrations.loading import choose_devices, choose_dtype, find_checkpoint
from bge_rerank_integrations.options import ScoringOptions

TOLERANCE = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.5}
"""How far a peer's logits may be from ours before its times are not believed."""


@dataclass
class Timing:
    """What one peer took for one workload."""

    peer: str
    workload: str
    seconds: list[float] = field(default_factory=list)
    extra_bytes: list[int] = field(default_factory=list)
    difference: float = 0.0
    """The largest distance of a score from ours."""
    problem: str | None = None
    """Why there are no times to believe."""

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


@dataclass
class Report:
    """Everything that was measured, and on what."""

    model: str
    family: str
    device: str
    dtype: str
    hardware: str
    threads: int
    versions: dict[str, str]
    peak_flops: float
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
        against: names of `peers.PEERS`, each alone for one that is installed here, or as "NAME=PYTHON" for one that the
            interpreter at that path has.
        workloads: names of `workloads.WORKLOADS`.
        scale: part of each workload to take, up to 1.
        say: called with what is being done.
    """
    for name in workloads:
        if name not in WORKLOADS:
            raise OptionError(f"workload {name!r}: use {', '.join(WORKLOADS)}")
    if rounds < 1 or not 0 < scale <= 1:
        raise OptionError(f"rounds={rounds}, scale={scale}: use at least 1 round, and a scale above 0 and up to 1")
    (chosen,) = choose_devices(device)
    kind = str(choose_dtype(dtype, [chosen])).removeprefix("torch.")
    with ExitStack() as cleanup:
        if model.startswith(PREFIX):
            folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
            say(f"writing {model}")
            write_random(model, folder)
        else:
            folder = find_checkpoint(model).folder
        checkpoint = find_checkpoint(folder)
        found = find_family(checkpoint)(checkpoint)
        load = {"folder": str(folder), "family": found.name, "device": str(chosen), "dtype": kind}
        running: dict[str, Any] = {}
        problems: dict[str, str] = {}
        for entry in dict.fromkeys(["ours", *against]):
            name, _, python = entry.partition("=")
            say(f"loading {name}")
            if name not in peers.PEERS:
                raise OptionError(f"{name!r} is no peer: use {', '.join(peers.PEERS)}")
            if found.name not in peers.PEERS[name].families:
                problems[name] = f"does not run the {found.name} family"
                continue
            try:
                running[name] = remote.RemotePeer(name, python, **load) if python else Local(name, load)
                cleanup.callback(running[name].close)
            except OptionError:
                raise
            except (ImportError, RuntimeError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                if name == "ours":
                    raise
                problems[name] = f"{type(error).__name__}: {error}"
        source = Source(checkpoint.tokenizer, seed)
        encoder = found.inputs(ScoringOptions(), Limits(384, 512))
        work, timings = [], []
        for name in workloads:
            pairs = WORKLOADS[name](source, scale)
            lengths = [len(sequence.ids) for sequence in encoder.encode(pairs)]
            work.append(Work(name, len(pairs), sum(lengths), needed_flops(checkpoint.config, lengths)))
            timings += _time(running, problems, name, pairs, rounds, TOLERANCE[kind], say)
        return Report(
            model=model,
            family=found.name,
            device=torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else str(chosen),
            dtype=kind,
            hardware=hardware(),
            threads=torch.get_num_threads(),
            versions=versions(),
            peak_flops=peak_flops(checkpoint.config, chosen, getattr(torch, kind)),
            rounds=rounds,
            work=work,
            timings=timings,
        )


class Local:
    """A peer in this process."""

    def __init__(self, name: str, load: dict[str, str]) -> None:
        self._peer = peers.PEERS[name](**load)

    def timed(self, pairs: list[Pair]) -> dict[str, Any]:
        return peers.timed(self._peer, pairs)

    def close(self) -> None:
        self._peer.close()


def _time(
    running: dict[str, Any],
    problems: dict[str, str],
    workload: str,
    pairs: list[Pair],
    rounds: int,
    tolerance: float,
    say: Callable[[str], object],
) -> list[Timing]:
    timings = {name: Timing(name, workload) for name in running}
    for name, peer in running.items():
        say(f"{workload}: warming up {name}")
        try:
            peer.timed(pairs[:8])
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            if name == "ours":
                raise
            timings[name].problem = f"{type(error).__name__}: {error}"
    expected: list[float] = []
    for turn in range(rounds):
        for name, peer in running.items():
            timing = timings[name]
            if timing.problem:
                continue
            say(f"{workload}: round {turn + 1} of {rounds}, {name}")
            try:
                answer = peer.timed(pairs)
            except RuntimeError as error:
                timing.problem = str(error)
                continue
            expected = expected or answer["scores"]
            timing.difference = max(abs(a - b) for a, b in zip(expected, answer["scores"], strict=True))
            if timing.difference > tolerance:
                timing.problem = f"scores differ by {timing.difference:.2g}"
                continue
            timing.seconds.append(answer["seconds"])
            if answer["extra_bytes"] is not None:
                timing.extra_bytes.append(answer["extra_bytes"])
    return [*timings.values(), *(Timing(name, workload, problem=problem) for name, problem in problems.items())]


def hardware() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of whatever is installed here and was perhaps measured."""
    found = {"python": platform.python_version()}
    for name in ("torch", "transformers", "sentence-transformers", "onnxruntime", "openvino", "FlagEmbedding"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
