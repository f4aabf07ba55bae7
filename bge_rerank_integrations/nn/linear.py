"""Matrix products with a weight: one entry point, the fastest of what the installed torch has for the device.

On the CPU in float32 torch multiplies with MKL, which leaves the AVX-512 units of AMD processors idle; oneDNN, which
comes with every torch for x86, uses them (measured on a Zen 5: 220 against 100 GFLOP/s a core) and adds bias,
activation and residual in the same pass. Which of the two is faster here is measured once, in a few milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bge_rerank_integrations.nn.activations import ACTIVATIONS

_ONEDNN_NAMES = {
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "silu": ("swish", ""),
    "swish": ("swish", ""),
}


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str | None = None) -> Tensor:
    """activation(x @ weight.T + bias).

    Args:
        x: *Shape:* (tokens, width)
        weight: *Shape:* (outputs, width), as it is or packed by `pack_weights`; bias: *Shape:* (outputs,)
        activation: a name of `ACTIVATIONS`; None: none.

    Returns:
        *Shape:* (tokens, outputs)
    """
    if weight.is_mkldnn:
        name, algorithm = ("none", "") if activation is None else _ONEDNN_NAMES[activation]
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)
        return out
    product = F.linear(x, weight, bias)
    return product if activation is None else ACTIVATIONS[activation](product)


def linear_add(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor) -> Tensor:
    """residual + x @ weight.T + bias. *Shape:* as `linear`; residual (tokens, outputs)"""
    if weight.is_mkldnn:
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, weight, bias, "add")
        return out
    return residual + F.linear(x, weight, bias)


def linear_mul(x: Tensor, weight: Tensor, factor: Tensor) -> Tensor:
    """factor * (x @ weight.T), element by element. *Shape:* as `linear`; factor (tokens, outputs)"""
    if weight.is_mkldnn:
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, factor, weight, None, "mul")
        return out
    return factor * F.linear(x, weight)


def pack_weights(layers: nn.Module) -> bool:
    """Lay the weights of all linear layers out as oneDNN wants them, in place of the plain ones, if that pays here.

    Returns whether it did; then `round_up` says which numbers of rows to multiply.
    """
    weights = [module for module in layers.modules() if isinstance(module, nn.Linear)]
    if any(w.weight.device.type != "cpu" or w.weight.dtype is not torch.float32 for w in weights):
        return False
    if not _onednn_is_faster():
        return False
    for module in weights:
        packed = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), None)
        del module.weight
        module.weight = packed
    return True


def round_up(rows: int) -> int:
    """The next of few numbers of rows.

    oneDNN compiles a kernel for each number of rows and keeps up to 1024 of them: without rounding, a service that sees
    batches of every size grew by 600 MB.
    """
    step = 16 if rows <= 256 else 64 if rows <= 4096 else 512
    return -(-rows // step) * step


@cache
def _onednn_is_faster() -> bool:
    """Whether oneDNN's product beats F.linear's clearly on this machine; False where this torch does not have it."""
    x, weight, bias = torch.randn(256, 768), torch.randn(768, 768), torch.randn(768)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        seconds = [
            _best(lambda: linear(x, packed, bias)),
            _best(lambda: F.linear(x, weight, bias)),
        ]
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return seconds[0] < 0.9 * seconds[1]


def _best(product: Callable[[], Tensor]) -> float:
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
