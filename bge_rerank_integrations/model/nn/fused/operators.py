"""The kernels as operators of torch, with the signatures of `plain`: a trace sees each as one.

Only GPUs import this file.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from bge_rerank_integrations.model.nn.fused import kernels

NAMESPACE = "bge_rerank"
_ELEMENTS = 1024
"""Of `gate_kernel`, for each of its programs."""
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_LIBRARY = torch.library.Library(NAMESPACE, "DEF")
SCHEMAS = {
    "rms_norm": "(Tensor x, Tensor weight, float offset, float eps) -> Tensor",
    "add_rms_norm_": "(Tensor(a!) hidden, Tensor added, Tensor? post, Tensor weight, float scale, float offset, "
    "float eps) -> Tensor",
    "add_norm_": "(Tensor(a!) hidden, Tensor added, Tensor post, float scale, float offset, float eps) -> ()",
    "add_layer_norm": "(Tensor added, Tensor residual, Tensor weight, Tensor bias, float eps) -> Tensor",
    "rotate_": "(Tensor(a!) some, Tensor(b!)? others, Tensor cos, Tensor sin) -> ()",
    "gate_": "(Tensor(a!) gate, Tensor up, str activation) -> ()",
}


def _rms_norm(x: Tensor, weight: Tensor, offset: float, eps: float) -> Tensor:
    x = x.contiguous()
    out = torch.empty_like(x)
    _run_rms_norm(x, None, None, weight, out, 1.0, offset, eps)
    return out


def _add_rms_norm_(
    hidden: Tensor, added: Tensor, post: Tensor | None, weight: Tensor, scale: float, offset: float, eps: float
) -> Tensor:
    out = torch.empty_like(hidden)
    _run_rms_norm(hidden, added, post, weight, out, scale, offset, eps)
    return out


def _add_norm_(hidden: Tensor, added: Tensor, post: Tensor, scale: float, offset: float, eps: float) -> None:
    _run_rms_norm(hidden, added, post, None, None, scale, offset, eps)


def _run_rms_norm(
    hidden: Tensor,
    added: Tensor | None,
    post: Tensor | None,
    weight: Tensor | None,
    out: Tensor | None,
    scale: float,
    offset: float,
    eps: float,
) -> None:
    width = hidden.shape[-1]
    block = triton.next_power_of_2(width)
    given = [hidden if tensor is None else tensor for tensor in (added, post, weight, out)]  # those are not read
    kernels.rms_norm_kernel[(hidden.numel() // width,)](
        hidden, *given, width, scale, offset, eps,
        ADD=added is not None, POST=post is not None, NORM=out is not None, BLOCK=block, num_warps=_warps(block),
    )  # fmt: skip


def _add_layer_norm(added: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    out, width = torch.empty_like(added), added.shape[-1]
    block = triton.next_power_of_2(width)
    kernels.layer_norm_kernel[(added.numel() // width,)](
        added, residual, weight, bias, out, width, eps, BLOCK=block, num_warps=_warps(block)
    )
    return out


def _rotate_(some: Tensor, others: Tensor | None, cos: Tensor, sin: Tensor) -> None:
    half, second = some.shape[-1] // 2, some if others is None else others
    kernels.rotate_kernel[(some.shape[0],)](
        some, second, cos, sin, some.stride(0), second.stride(0),
        some.shape[1], 0 if others is None else second.shape[1],
        HALF=half, BLOCK_HEADS=8, BLOCK_HALF=triton.next_power_of_2(half),
    )  # fmt: skip


def _gate_(gate: Tensor, up: Tensor, activation: str) -> None:
    grid = (triton.cdiv(gate.numel(), _ELEMENTS),)
    kernels.gate_kernel[grid](gate, up, gate.numel(), ACTIVATION=_ACTIVATIONS[activation], BLOCK=_ELEMENTS)


def _warps(block: int) -> int:
    """Threads by the width of a row: 16 numbers each, or so."""
    return min(16, max(1, block // 512))


def _like(first: Tensor, *_: object) -> Tensor:
    return torch.empty_like(first)


def _nothing(*_: object) -> None:
    return None


def _define() -> None:
    functions = (_rms_norm, _add_rms_norm_, _add_norm_, _add_layer_norm, _rotate_, _gate_)
    for (name, schema), function in zip(SCHEMAS.items(), functions, strict=True):
        _LIBRARY.define(name + schema)
        _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
        fake = _nothing if schema.endswith("-> ()") else _like
        torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_LIBRARY)


_define()
