"""How much arithmetic a workload is, and how much the machine can do."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bge_rerank_integrations.model.families.base import Dimensions
from bge_rerank_integrations.model.nn.linear import Linear
from bge_rerank_integrations.model.nn.onednn import OneDnnLinear, can_use_onednn


def needed_flops(dimensions: Dimensions, lengths: Sequence[int]) -> float:
    """Multiplications and additions that scoring sequences of these lengths takes, without padding.

    Counted are the matrix products of every layer and attention; of the last layer only keys and values of all tokens
    and the rest of the one token that is read.
    """
    width, full_layers = dimensions.width, dimensions.layers - 1
    feed_forward = dimensions.feed_forward_products * width * dimensions.feed_forward
    keys_values = 2 * width * dimensions.key_value_width
    others = 2 * width * dimensions.query_width + feed_forward
    tokens, sequences = sum(lengths), len(lengths)
    seen = sum(length * ((length + 1) / 2 if dimensions.causal else length) for length in lengths)
    linear = full_layers * tokens * (keys_values + others) + tokens * keys_values + sequences * others
    attention = 2 * dimensions.query_width * (full_layers * seen + tokens)
    return float(2 * (linear + attention))


class Peak:
    """The best matrix product of a model's shapes that torch has on a machine; measured around each of our runs.

    Tried are torch's own linear layer and, on the CPU in float32, oneDNN's packed one. A machine that others share is
    not equally fast all the time: what was reached is divided by what could be reached in the same minutes.
    """

    def __init__(self, dimensions: Dimensions, device: torch.device, dtype: torch.dtype, tokens: int = 4096) -> None:
        width, wide = dimensions.width, dimensions.feed_forward
        self._device = device
        self._products: list[tuple[float, nn.Module, Tensor]] = []
        for inner, outer in ((width, width), (width, wide), (wide, width)):
            x = torch.randn(tokens, inner, device=device).to(dtype)
            linear = Linear(inner, outer, bias=False, device=device, dtype=dtype).requires_grad_(False)
            self._products.append((2.0 * tokens * inner * outer, linear, x))
            if device.type == "cpu" and dtype is torch.float32 and can_use_onednn():
                self._products.append((2.0 * tokens * inner * outer, OneDnnLinear(linear), x))

    @torch.inference_mode()
    def measure(self, seconds: float = 0.3) -> float:
        """FLOP a second, kept up for some seconds."""
        return max(flops / self._time(linear, x, seconds) for flops, linear, x in self._products)

    def _time(self, linear: nn.Module, x: Tensor, seconds: float) -> float:
        linear(x)
        _wait(self._device)
        started, runs = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            for _ in range(3):
                linear(x)
            _wait(self._device)
            runs += 3
        return (time.perf_counter() - started) / runs


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
