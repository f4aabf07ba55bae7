"""What only a GPU can show. `python -m pytest -m gpu` needs torch, transformers, pytest and this package, and a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.model.nn.fused import probe
from tests.conftest import CHECKPOINTS, FAMILIES, golden, pairs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
DEVICE = "cuda:0"


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """float32 without TF32, which rounds to ten bits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_agrees_with_the_cpu(family: str) -> None:
    with (
        load_scorer(CHECKPOINTS / family, devices=DEVICE, dtype="float32") as gpu,
        load_scorer(CHECKPOINTS / family, devices="cpu") as cpu,
    ):
        for name in golden()["pairs"]:
            assert gpu.score_pairs(pairs(name)) == pytest.approx(cpu.score_pairs(pairs(name)), abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_keeps_the_order_and_repeats_exactly(family: str) -> None:
    options: dict[str, Any] = {"compress_ratio": 2, "compress_layers": (1,)} if family == "lightweight" else {}
    with (
        load_scorer(CHECKPOINTS / family, devices=DEVICE, dtype="bfloat16", **options) as gpu,
        load_scorer(CHECKPOINTS / family, devices="cpu", **options) as cpu,
    ):
        some, others = gpu.score_pairs(pairs("mixed")), cpu.score_pairs(pairs("mixed"))
        assert gpu.score_pairs(pairs("mixed")) == some
        assert gpu.stats().fused
    ranks = [torch.tensor(scores).argsort().argsort().float() for scores in (some, others)]
    assert torch.corrcoef(torch.stack(ranks))[0, 1] > 0.9


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("width", "head_dim"), [(768, 64), (1024, 64), (2048, 256), (2304, 64), (3584, 256)])
def test_every_fused_operator_builds_and_agrees(width: int, head_dim: int, dtype: torch.dtype) -> None:
    for activation in ("gelu", "gelu_pytorch_tanh", "silu"):
        assert len(probe.probe(torch.device(DEVICE), dtype, width, head_dim, activation).fused) == 6


def test_two_replicas_on_one_device_agree_with_one() -> None:
    folder = CHECKPOINTS / "encoder"
    with load_scorer(folder, devices=[DEVICE, DEVICE]) as two, load_scorer(folder, devices=DEVICE) as one:
        assert two.score_pairs(pairs("mixed")) == one.score_pairs(pairs("mixed"))
