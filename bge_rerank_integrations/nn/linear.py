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
from torch import Tensor
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
        weight: *Shape:* (outputs, width); bias: *Shape:* (outputs,)
        activation: a name of `ACTIVATIONS`; None: none.

    Returns:
        *Shape:* (tokens, outputs)
    """
    if _by_onednn(x):
        name, algorithm = ("none", "") if activation is None else _ONEDNN_NAMES[activation]
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, name, [], algorithm)
        return out
    product = F.linear(x, weight, bias)
    return product if activation is None else ACTIVATIONS[activation](product)


def linear_add(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor) -> Tensor:
    """residual + x @ weight.T + bias. *Shape:* as `linear`; residual (tokens, outputs)"""
    return _with(x, weight, bias, residual, "add", torch.add)


def linear_mul(x: Tensor, weight: Tensor, factor: Tensor) -> Tensor:
    """factor * (x @ weight.T), element by element. *Shape:* as `linear`; factor (tokens, outputs)"""
    return _with(x, weight, None, factor, "mul", torch.mul)


def _with(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    other: Tensor,
    name: str,
    operation: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    if _by_onednn(x):
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, weight, bias, name)
        return out
    return operation(other, F.linear(x, weight, bias))


def spare_rows(rows: int, device: torch.device, dtype: torch.dtype) -> int:
    """How many rows to add to a batch before it is multiplied, so that few different numbers of rows ever occur.

    oneDNN compiles a kernel for each number of rows and keeps up to 1024 of them: without this a service that sees
    batches of every size grew by 600 MB. 0 where another library multiplies.
    """
    if device.type != "cpu" or dtype is not torch.float32 or not _onednn_is_faster():
        return 0
    return -rows % (16 if rows <= 256 else 64 if rows <= 4096 else 512)


def _by_onednn(x: Tensor) -> bool:
    if x.device.type != "cpu" or x.dtype is not torch.float32 or not _onednn_is_faster():
        return False
    return spare_rows(x.shape[0], x.device, x.dtype) == 0  # the few rows that are read at the end come in any number


@cache
def _onednn_is_faster() -> bool:
    """Whether oneDNN's product beats F.linear's clearly on this machine; False where this torch does not have it."""
    x, weight, bias = torch.randn(256, 768), torch.randn(768, 768), torch.randn(768)
    try:
        seconds = [
            _best(lambda: torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")),
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
