"""How much arithmetic a workload needs, and how much the machine can do."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bge_rerank_integrations.model.families.base import Dimensions
from bge_rerank_integrations.model.nn.linear import Linear
from bge_rerank_integrations.model.nn.onednn import OneDnnLinear, can_use_onednn


def needed_flops(dimensions: Dimensions, lengths: Sequence[int]) -> float:
    """Multiplications and additions to score sequences of these lengths, without padding.

    They are those of attention and of the matrix products of every layer. In the last layer, only keys and values are
    counted for all tokens, and the rest for the one token that is read.
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
    """The fastest matrix product in a model's shapes that torch has on this machine, measured around each of our runs.

    It tries torch's own linear layer and, on the CPU in float32, oneDNN's. The speed of a shared machine changes with
    time: therefore a run is compared with the peak of the same minutes.
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
        """FLOP per second.

        Args:
            seconds: how long to measure each product.
        """
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
