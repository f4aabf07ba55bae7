"""Each fused operator against torch's own ones, in Triton's interpreter: all families' widths, and odd ones."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor

from bge_rerank_integrations.model.nn.fused import plain

pytestmark = pytest.mark.cuda_trace
INTERPRETED = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="needs TRITON_INTERPRET=1")
HALF = [torch.bfloat16, torch.float16]


def random(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def agree(some: Tensor | None, others: Tensor | None, dtype: torch.dtype) -> bool:
    """Within what a few roundings to the dtype make."""
    if some is None or others is None:
        return some is others
    return torch.allclose(
        some.float(), others.float(), rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps
    )


def check(name: str, dtype: torch.dtype, *given: Any) -> None:
    """The results are the same, and what is changed in place."""
    from bge_rerank_integrations.model.nn.fused import operators

    here, there = ([x.clone() if isinstance(x, Tensor) else x for x in given] for _ in range(2))
    expected = getattr(plain, name)(*here)
    found = getattr(getattr(torch.ops, operators.NAMESPACE), name)(*there)
    assert agree(found, expected, dtype)
    for a, b in zip(there, here, strict=True):
        assert not isinstance(a, Tensor) or agree(a, b, dtype)


@INTERPRETED
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("width", [768, 1024, 2048, 2304, 3584, 48, 77])
def test_norms(width: int, dtype: torch.dtype) -> None:
    x, added, post, weight, bias = (random(5, width, dtype=dtype, seed=i) for i in range(5))
    post, weight, bias = post[0], weight[0], bias[0]
    check("rms_norm", dtype, x, weight, 1.0, 1e-6)
    check("add_rms_norm_", dtype, x, added, post, weight, 1.0, 1.0, 1e-6)
    check("add_rms_norm_", dtype, x, added, None, weight, 0.2, 0.0, 1e-5)
    check("add_norm_", dtype, x, added, post, 1.0, 1.0, 1e-6)
    check("add_layer_norm", dtype, added, x, weight, bias, 1e-5)


@INTERPRETED
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(8, 1, 256), (36, 36, 64), (16, 8, 256), (3, 1, 6)])
def test_rotation(heads: int, kv_heads: int, dim: int, dtype: torch.dtype) -> None:
    angles = torch.rand(5, 1, dim // 2, generator=torch.Generator().manual_seed(1)) * 100
    both = torch.cat((angles, angles), -1)
    cos, sin = both.cos().to(dtype), both.sin().to(dtype)
    query, key_value = random(5, heads, dim, dtype=dtype), random(5, 2 * kv_heads, dim, dtype=dtype, seed=1)
    check("rotate_", dtype, query, key_value[:, :kv_heads], cos, sin)
    check("rotate_", dtype, query, None, cos, sin)
    whole = key_value.clone()
    from bge_rerank_integrations.model.nn.fused import operators

    getattr(torch.ops, operators.NAMESPACE).rotate_(query, whole[:, :kv_heads], cos, sin)
    assert torch.equal(whole[:, kv_heads:], key_value[:, kv_heads:])  # the values, which lie between, are left alone
    assert not torch.equal(whole[:, :kv_heads], key_value[:, :kv_heads])


@INTERPRETED
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish"])
def test_gate(activation: str, dtype: torch.dtype) -> None:
    check("gate_", dtype, random(5, 579, dtype=dtype) * 3, random(5, 579, dtype=dtype, seed=1), activation)
