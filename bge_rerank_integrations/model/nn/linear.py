"""Matrix products with a weight: torch's own. After loading, a faster one with the same methods may replace it.

`nn.onednn` multiplies in float32 with oneDNN, `nn.int8` in eight-bit integers.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from bge_rerank_integrations.model.nn.activations import ACTIVATIONS


class Linear(nn.Linear):
    """x @ weight.T + bias, and what layers do with it next: faster ones do that in the same pass."""

    def forward(self, x: Tensor, activation: str | None = None) -> Tensor:
        """activation(x @ weight.T + bias).

        Args:
            x: *Shape:* (tokens, width)
            activation: a name in `ACTIVATIONS`, or None.

        Returns:
            *Shape:* (tokens, outputs)
        """
        product = F.linear(x, self.weight, self.bias)
        return product if activation is None else ACTIVATIONS[activation](product)

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """residual + x @ weight.T + bias. *Shape:* as `forward`; residual (tokens, outputs)"""
        return residual + F.linear(x, self.weight, self.bias)

    def mul(self, x: Tensor, factor: Tensor) -> Tensor:
        """factor * (x @ weight.T + bias), element by element. *Shape:* as `forward`; factor (tokens, outputs)"""
        return factor * F.linear(x, self.weight, self.bias)


def replace_linears(model: nn.Module, make: Callable[[Linear], nn.Module]) -> None:
    """Replace each `Linear` by `make(linear)`, one after the other: memory never holds two copies of all weights."""
    for module in [module for module in model.modules() if not isinstance(module, Linear)]:
        for name, child in module.named_children():
            if isinstance(child, Linear):
                setattr(module, name, make(child))
