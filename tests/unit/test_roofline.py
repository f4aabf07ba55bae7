"""Cards, and the refusal of a torch that cannot trace; the rest needs such a torch (see tests/cuda_trace)."""

from __future__ import annotations

import pytest
import torch

from bge_rerank_integrations.bench.roofline.cards import CARDS, card, card_of
from bge_rerank_integrations.bench.roofline.price import price, seconds
from bge_rerank_integrations.bench.roofline.trace import Kernel, Trace, check_build
from bge_rerank_integrations.errors import OptionError


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_found_by_its_name(name: str) -> None:
    assert card(name.upper()) is CARDS[name]


def test_a_card_of_ones_own() -> None:
    own = card("tflops=100,tb_s=0.5")
    assert (own.tflops, own.tb_s, own.memory_gb) == (100, 0.5, None)


@pytest.mark.parametrize("named", ["h1000", "tflops=1", "tflops=1,tb_s=x", "tflops=0,tb_s=1", "tflops=1,tb_s=1,a=2"])
def test_what_is_no_card_is_refused_with_those_that_are(named: str) -> None:
    with pytest.raises(OptionError, match=r"use h100, h200, a100, l4, 4090, or figures of your own"):
        card(named)


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA GeForce RTX 4090", "4090"),
    ],
)
def test_a_card_is_found_by_what_its_driver_calls_it(device: str, name: str) -> None:
    assert card_of(device) is CARDS[name]


@pytest.mark.parametrize("device", ["NVIDIA L40S", "Tesla T4", "cpu"])
def test_a_card_that_is_not_in_the_table_has_no_estimate(device: str) -> None:
    assert card_of(device) is None


def test_the_slowest_of_arithmetic_memory_and_launching_counts() -> None:
    own = card("tflops=100,tb_s=1")
    assert seconds(Kernel("mm", "products", 85e12, 8), own) == pytest.approx(1)
    assert seconds(Kernel("mul", "element-wise", 0, 10**12), own) == pytest.approx(1)
    assert seconds(Kernel("mul", "element-wise", 0, 8), own) == pytest.approx(2e-6)
    many = price(Trace((Kernel("mul", "element-wise", 0, 8),) * 100, 0, ()), own)
    assert many.seconds == many.host == pytest.approx(900e-6)


@pytest.mark.skipif(torch.version.cuda is not None, reason="needs a torch that is not built for CUDA")
def test_a_torch_for_the_cpu_is_told_what_is_needed() -> None:
    with pytest.raises(OptionError, match="torch must be built for CUDA"):
        check_build()
