"""The forward passes of the published shapes on a GPU, traced without one, and priced."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bge_rerank_integrations.bench.roofline.cards import card
from bge_rerank_integrations.bench.roofline.price import price
from bge_rerank_integrations.bench.roofline.trace import Trace, fake_gpu, to_fake_gpu, trace
from bge_rerank_integrations.bench.shapes import write_shape
from bge_rerank_integrations.engine.work import TokenSequence
from bge_rerank_integrations.model.checkpoint import Checkpoint
from bge_rerank_integrations.model.families import family_class
from bge_rerank_integrations.model.families.base import Family
from bge_rerank_integrations.model.nn.fused.layers import Operators, fuse
from bge_rerank_integrations.model.nn.fused.probe import load
from bge_rerank_integrations.options import ScoringOptions

pytestmark = pytest.mark.cuda_trace
SEQUENCES = [TokenSequence(tuple(range(3, 135)), (20, 100))] * 128
M3, GEMMA = "bge-reranker-v2-m3", "bge-reranker-v2-gemma"
MINICPM, GEMMA2 = "bge-reranker-v2-minicpm-layerwise", "bge-reranker-v2.5-gemma2-lightweight"


def family(name: str, folder: Path) -> Family:
    return family_class(write_shape(f"random:{name}", folder))(Checkpoint(folder))


def traced(
    of: Family, dtype: torch.dtype = torch.bfloat16, options: ScoringOptions | None = None, *, layers: str = "fused"
) -> Trace:
    with torch.device("meta"):
        model = of.build(of.dimensions.layers)
    with fake_gpu():
        to_fake_gpu(model, dtype)
        if layers == "fused":
            fuse(model, Operators(**load()))
        return trace(model, SEQUENCES, of.recipe(options or ScoringOptions()))


@pytest.mark.parametrize(
    ("name", "plain", "fused", "a_layer"),
    [(M3, 58, 63, 9), (GEMMA, 58, 73, 11), (MINICPM, 48, 71, 11), (GEMMA2, 55, 76, 12)],
)
def test_share_of_peak_and_kernels_a_layer(name: str, plain: int, fused: int, a_layer: int, tmp_path: Path) -> None:
    of = family(name, tmp_path)
    assert share(traced(of, layers="plain")) >= plain
    found = traced(of)
    assert share(found) >= fused
    beside = 40  # embedding, angles, the final norm, the head; one more a layer would be seen
    assert len(found.kernels) <= a_layer * of.dimensions.layers + beside


def share(found: Trace) -> float:
    """Per cent of an H100's peak."""
    priced = price(found, card("h100"))
    return 100 * priced.flops / priced.seconds / 790e12


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("name", [M3, GEMMA, MINICPM, GEMMA2])
def test_nothing_waits_for_the_device(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    found = traced(family(name, tmp_path), dtype)
    assert found.kernels
    assert found.waits == ()


def test_compression_waits_for_nothing_either_and_saves_arithmetic(tmp_path: Path) -> None:
    of = family(GEMMA2, tmp_path)
    merged = traced(of, options=ScoringOptions(compress_ratio=4, compress_layers=(8, 24)))
    assert merged.waits == ()
    assert sum(kernel.flops for kernel in merged.kernels) < 0.7 * sum(kernel.flops for kernel in traced(of).kernels)


def test_activations_are_counted_without_the_weights(tmp_path: Path) -> None:
    found = traced(family(M3, tmp_path))
    hidden = 128 * 132 * 1024 * 2
    assert 4 * hidden < found.activations < 20 * hidden
