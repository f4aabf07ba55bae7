"""Matrix products of oneDNN in float32, with bias, activation and residual in the same pass.

On the CPU in float32 torch multiplies with MKL, which oneDNN, in every torch for x86, outdoes: by 10 to 20% on an AMD
Zen 4, and by more than twice on a Zen 5, whose wide AVX-512 units MKL leaves idle. Which of the two is faster here is
measured once, in a few milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bge_rerank_integrations.nn.linear import Linear

_NAMES = {
    None: ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_new": ("gelu", "tanh"),
    "gelu_pytorch_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
    "silu": ("swish", ""),
    "swish": ("swish", ""),
}


class PackedLinear(nn.Module):
    """A `Linear` with its weight laid out as oneDNN wants it."""

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self.bias = linear.bias

    def forward(self, x: Tensor, activation: str | None = None) -> Tensor:
        """As `Linear.forward`."""
        name, algorithm = _NAMES[activation]
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, name, [], algorithm)
        return out

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """As `Linear.add`."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.weight, self.bias, "add")
        return out

    def mul(self, x: Tensor, factor: Tensor) -> Tensor:
        """As `Linear.mul`."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, factor, self.weight, self.bias, "mul")
        return out


def round_up(rows: int) -> int:
    """The next of few numbers of rows.

    oneDNN compiles a kernel for each number of rows and keeps up to 1024 of them: without rounding, a service that sees
    batches of every size grew by 600 MB.
    """
    step = 1 if rows <= 16 else 8 if rows <= 256 else 64 if rows <= 4096 else 512
    return -(-rows // step) * step


@cache
def packing_pays() -> bool:
    """Whether oneDNN's product clearly beats F.linear's on this machine; False where this torch does not have it."""
    x, linear = torch.randn(256, 768), Linear(768, 768)
    try:
        packed = PackedLinear(linear)
        seconds = [_best(lambda: packed(x)), _best(lambda: F.linear(x, linear.weight, linear.bias))]
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return seconds[0] < 0.95 * seconds[1]


@torch.inference_mode()
def _best(product: Callable[[], Tensor]) -> float:
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
