"""Which fused operators a device can use: those that build there, and agree with torch's own."""

from __future__ import annotations

from subprocess import CalledProcessError
from typing import Any

import torch
from torch import Tensor, nn

from bge_rerank_integrations.model.nn.decoder import DecoderLayer
from bge_rerank_integrations.model.nn.encoder import EncoderLayer
from bge_rerank_integrations.model.nn.fused import plain
from bge_rerank_integrations.model.nn.fused.layers import Operators, fits, fuse

_TOLERANCE = 4
"""Roundings to the dtype by which two results may differ."""
_TOKENS = 67


def fuse_for(model: nn.Module, device: torch.device, dtype: torch.dtype) -> tuple[str, ...]:
    """Replace the layers of a model on a GPU by those with fused operators; returns the names of these operators.

    In float32 layers stay as they are: that is for exact scores.
    """
    if dtype not in (torch.float16, torch.bfloat16):
        return ()
    used: set[str] = set()
    for layers in [module for module in model.modules() if isinstance(module, nn.ModuleList)]:
        first = layers[0]
        if isinstance(first, DecoderLayer) and fits(first):
            shape = first.shape
            operators = probe(device, dtype, shape.width, shape.head_dim, shape.activation)
        elif isinstance(first, EncoderLayer):
            operators = probe(device, dtype, first.out.out_features, first.head_dim, first.activation)
        else:
            continue
        fuse(layers, operators)
        used.update(operators.fused)
    return tuple(sorted(used))


def probe(device: torch.device, dtype: torch.dtype, width: int, head_dim: int, activation: str) -> Operators:
    """The operators to use: a fused one is run once in the model's width; where that fails, torch's own is."""
    try:
        found = load()
    except (ImportError, OSError, RuntimeError, AttributeError):  # no Triton for this system, or another one
        return Operators()
    given = _examples(device, dtype, width, head_dim, activation)
    chosen = {name: fused for name, fused in found.items() if _agrees(name, fused, given[name], dtype)}
    return Operators(**chosen)


def load() -> dict[str, Any]:
    """All fused operators by their names. Imports Triton."""
    from bge_rerank_integrations.model.nn.fused import operators

    return {name: getattr(getattr(torch.ops, operators.NAMESPACE), name) for name in operators.SCHEMAS}


def _agrees(name: str, fused: Any, given: tuple[Any, ...], dtype: torch.dtype) -> bool:
    from triton.errors import TritonError

    here, there = ([x.clone() if isinstance(x, Tensor) else x for x in given] for _ in range(2))
    expected = getattr(plain, name)(*here)
    try:
        result = fused(*there)
        pairs = [(result, expected), *zip(there, here, strict=True)]
        allowed = _TOLERANCE * torch.finfo(dtype).eps
        return all(
            torch.allclose(some.float(), others.float(), rtol=allowed, atol=allowed)
            for some, others in pairs
            if isinstance(some, Tensor)
        )
    except (TritonError, CalledProcessError, OSError, RuntimeError, TypeError, ValueError, AttributeError):
        return False


def _examples(
    device: torch.device, dtype: torch.dtype, width: int, head_dim: int, activation: str
) -> dict[str, tuple[Any, ...]]:
    """Arguments for each operator, of random numbers."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype).to(device)

    x, added, weight, bias = random(_TOKENS, width), random(_TOKENS, width), random(width), random(width)
    angles = torch.rand(_TOKENS, 1, head_dim // 2, generator=generator) * 100
    both = torch.cat((angles, angles), -1)
    cos, sin = (turned.to(dtype).to(device) for turned in (both.cos(), both.sin()))
    key = random(_TOKENS, 4, head_dim)[:, :2]  # with the values beside it, as layers have it
    return {
        "rms_norm": (x, weight, 1.0, 1e-6),
        "add_rms_norm_": (x, added, bias, weight, 0.5, 1.0, 1e-6),
        "add_norm_": (x, added, weight, 0.5, 1.0, 1e-6),
        "add_layer_norm": (added, x, weight, bias, 1e-5),
        "rotate_": (random(_TOKENS, 3, head_dim), key, cos, sin),
        "gate_": (random(_TOKENS, width), random(_TOKENS, width), activation),
    }
