"""What to expect of a workload on a card: the prices of its batches, added up."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from bge_rerank_integrations.bench.roofline.cards import Card
from bge_rerank_integrations.bench.roofline.price import Price, price
from bge_rerank_integrations.bench.roofline.trace import Trace, check_build, fake_gpu, to_fake_gpu, trace
from bge_rerank_integrations.bench.shapes import PREFIX, write_shape
from bge_rerank_integrations.bench.workloads import WORKLOADS, Plan, Source
from bge_rerank_integrations.engine.work import TokenSequence, in_order
from bge_rerank_integrations.loading import resolve
from bge_rerank_integrations.model.devices import dtype_name
from bge_rerank_integrations.model.families.base import Family, RerankModel
from bge_rerank_integrations.model.memory import CUDA_TOKEN_BUDGET, weight_bytes
from bge_rerank_integrations.model.nn.fused.layers import Operators, fuse
from bge_rerank_integrations.model.nn.fused.probe import load
from bge_rerank_integrations.options import ModelSource, Placement, ScoringOptions
from bge_rerank_integrations.scorer import limits


@dataclass(frozen=True)
class Estimate:
    """One workload on one card, estimated; nothing of it was measured."""

    workload: str
    pairs: int
    tokens: int
    batches: int
    kernels: int
    launches: int
    seconds: float
    """Of all batches, one after the other."""
    by_kind: dict[str, float]
    """Seconds on the device."""
    host: float
    """Seconds of the host to launch all kernels."""
    of_peak: float
    """Which part of the card's FLOP per second the matrix products and attention reach."""
    weights: int
    """Bytes."""
    activations: int
    """Bytes at most."""

    @property
    def pairs_per_second(self) -> float:
        return self.pairs / self.seconds


def estimate(
    model: str,
    card: Card,
    workloads: Sequence[str],
    *,
    dtype: str = "bfloat16",
    scale: float = 1.0,
    seed: int = 0,
    say: Callable[[str], None] = lambda message: None,
) -> list[Estimate]:
    """Estimate what a card needs for each workload, without one.

    Args:
        model: as `run.benchmark` takes it; no weights are read or written.
        workloads: names of `workloads.WORKLOADS`.
        dtype: "bfloat16" or "float16".
        scale: part of each workload to take, up to 1.

    Raises:
        OptionError: this torch is not built for CUDA, or a value is impossible.
    """
    check_build()
    plan = Plan(tuple(workloads), scale=scale)
    with ExitStack() as cleanup:
        source = ModelSource(model)
        if model.startswith(PREFIX):
            source = ModelSource(Path(cleanup.enter_context(tempfile.TemporaryDirectory())))
            write_shape(model, Path(source.model))
        found = resolve(source, Placement("cpu", dtype))
        family, texts = found.family, Source(found.checkpoint.tokenizer, seed)
        encoder = family.inputs(ScoringOptions(), limits(family, ScoringOptions()))
        with torch.device("meta"):
            built = family.build(family.dimensions.layers)
        estimates = []
        with fake_gpu():
            to_fake_gpu(built, found.dtype)
            if found.dtype.itemsize == 2:
                fuse(built, Operators(**load()))
            for name in plan.workloads:
                say(f"tracing {name} in {dtype_name(found.dtype)}")
                sequences = encoder.encode(WORKLOADS[name](texts, plan.scale))
                estimates.append(estimate_sequences(name, family, built, sequences, card))
        return estimates


def estimate_sequences(
    name: str, family: Family, model: RerankModel, sequences: Sequence[TokenSequence], card: Card
) -> Estimate:
    """Estimate sequences, in batches as the engine makes them of one caller's. The call must be within `fake_gpu`."""
    batches = _batches(sequences)
    recipe = family.recipe(ScoringOptions())
    traces: list[Trace] = [trace(model, batch, recipe) for batch in batches]
    prices: list[Price] = [price(traced, card) for traced in traces]
    by_kind: dict[str, float] = defaultdict(float)
    for one in prices:
        for kind, seconds in one.by_kind.items():
            by_kind[kind] += seconds
    seconds = sum(one.seconds for one in prices)
    return Estimate(
        workload=name,
        pairs=len(sequences),
        tokens=sum(len(sequence.ids) for sequence in sequences),
        batches=len(batches),
        kernels=sum(len(traced.kernels) for traced in traces),
        launches=sum(one.launches for one in prices),
        seconds=seconds,
        by_kind=dict(by_kind),
        host=sum(one.host for one in prices),
        of_peak=sum(one.flops for one in prices) / seconds / (card.tflops * 1e12),
        weights=weight_bytes(model),
        activations=max(traced.activations for traced in traces),
    )


def _batches(sequences: Sequence[TokenSequence]) -> list[list[TokenSequence]]:
    batches: list[list[TokenSequence]] = [[]]
    tokens = 0
    for index in in_order(sequences):
        sequence = sequences[index]
        if batches[-1] and tokens + len(sequence.ids) > CUDA_TOKEN_BUDGET:
            batches.append([])
            tokens = 0
        batches[-1].append(sequence)
        tokens += len(sequence.ids)
    return batches
