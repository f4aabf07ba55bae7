"""dtype="int8": close to float32, the same whatever shares the batch, right on processors without VNNI."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

import pytest
import torch

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.demo.evaluation_set import load_evaluation_set
from bge_rerank_integrations.demo.show import QUESTIONS
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.model.devices import choose_dtype
from bge_rerank_integrations.retrieval import BM25Index
from tests.conftest import CHECKPOINTS, FAMILIES, pairs


def ranks(scores: list[float]) -> list[float]:
    return torch.tensor(scores).argsort().argsort().tolist()  # type: ignore[no-any-return]


def rank_correlation(some: list[float], others: list[float]) -> float:
    return statistics.correlation(ranks(some), ranks(others))


def test_the_order_is_that_of_float32() -> None:
    texts, _ = load_evaluation_set()
    index = BM25Index(texts)
    asked = [(query, texts[place]) for query in QUESTIONS for place, _ in index.search(query, 50)]
    with load_scorer("demo", devices="cpu") as exact, load_scorer("demo", devices="cpu", dtype="int8") as rounded:
        expected, scores = exact.score_pairs(asked), rounded.score_pairs(asked)
    assert scores != expected
    assert rank_correlation(expected, scores) >= 0.99


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family: str) -> None:
    asked = pairs("mixed")
    with load_scorer(CHECKPOINTS / family, devices="cpu") as exact:
        expected = exact.score_pairs(asked)
    with load_scorer(CHECKPOINTS / family, devices="cpu", dtype="int8") as rounded:
        together = rounded.score_pairs(asked)
        alone = [rounded.score(query, [text])[0] for query, text in asked[:6]]
    assert rank_correlation(expected, together) >= 0.97  # random weights: scores lie close together
    # attention in float32 may add up in another order, and move a value across a rounding step
    spread = statistics.stdev(together)
    assert together[:6] == pytest.approx(alone, abs=0.05 * spread)


def test_processors_without_vnni_do_not_overflow() -> None:
    """oneDNN is told to do without; products of full eight-bit activations would then be cut off silently."""
    program = (
        "import torch; from bge_rerank_integrations.model.nn.int8 import Int8Linear;"
        "from bge_rerank_integrations.model.nn.linear import Linear;"
        "linear = Linear(64, 8).requires_grad_(False); linear.weight.fill_(1.0); linear.bias.fill_(0.0);"
        "print(Int8Linear(linear)(torch.ones(1, 64))[0, 0].item())"
    )
    limited = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    run = subprocess.run([sys.executable, "-c", program], env=limited, capture_output=True, text=True, check=True)
    assert float(run.stdout) == pytest.approx(64, rel=1e-4)


def test_not_on_a_gpu() -> None:
    with pytest.raises(OptionError, match="runs on the CPU, not on cuda:0"):
        choose_dtype("int8", [torch.device("cuda:0")])
