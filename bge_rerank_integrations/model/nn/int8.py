"""Matrix products in eight-bit integers on the CPU: weights are rounded once, activations for each token.

Each row of a weight has a scale, and each token has one, because a score must not depend on the other sequences in the
batch. The product is oneDNN's, which Inductor also uses for quantised models. Processors without VNNI add pairs of
products in 16 bits, which eight-bit activations can overflow: there, activations are rounded to seven bits.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from bge_rerank_integrations.errors import DeviceError
from bge_rerank_integrations.model.nn.activations import ACTIVATIONS
from bge_rerank_integrations.model.nn.linear import Linear

_FLOOR = 1e-20
"""The smallest scale, for rows of zeros."""


class Int8Linear(nn.Module):
    """A `Linear` with its weight in eight bits. 127 is the largest value of each row."""

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.scales = (weight.abs().amax(1) / 127).clamp_(min=_FLOOR)
        self.weight = _prepack((weight / self.scales[:, None]).round_().to(torch.int8))
        self.zeros = torch.zeros(len(self.scales), dtype=torch.int64)
        self.bias = linear.bias
        self.largest = _largest()

    def forward(self, x: Tensor, activation: str | None = None) -> Tensor:
        """As `Linear.forward`, except for rounding."""
        scales = torch.maximum(x.amax(1), -x.amin(1))[:, None].clamp_(min=_FLOOR).div_(self.largest)
        rounded = (x / scales).round_().to(torch.int8).view(torch.uint8)
        shift = self.largest + 1
        out = _multiply(rounded.add_(shift), shift, self.weight, self.scales, self.zeros)
        out = out.mul_(scales) if self.bias is None else torch.addcmul(self.bias, out, scales, out=out)
        return out if activation is None else ACTIVATIONS[activation](out)

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """As `Linear.add`."""
        return self.forward(x).add_(residual)

    def mul(self, x: Tensor, factor: Tensor) -> Tensor:
        """As `Linear.mul`."""
        return self.forward(x).mul_(factor)


def check_int8() -> None:
    """Raise `DeviceError` if torch on this machine has no such product."""
    try:
        _largest()
    except (AttributeError, NotImplementedError, RuntimeError) as error:
        raise DeviceError(
            f"dtype='int8' needs torch for x86 processors, with oneDNN; this torch is not ({error}): use 'float32'"
        ) from error


@cache
@torch.inference_mode()
def _largest() -> int:
    """The number for the largest activation of a row: 127, or 63 if a product of larger numbers overflows."""
    weight = torch.full((16, 64), 127, dtype=torch.int8)
    activations = torch.full((1, 64), 255, dtype=torch.uint8)
    product = _multiply(activations, 0, _prepack(weight), torch.ones(16), torch.zeros(16, dtype=torch.int64))
    return 127 if bool((product == 64 * 127 * 255).all()) else 63


def _prepack(weight: Tensor) -> Tensor:
    packed: Tensor = torch.ops.onednn.qlinear_prepack(weight, None)
    return packed


def _multiply(x: Tensor, shift: int, weight: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    """(x - shift) @ weight.T * scales in float32.

    Args:
        x: unsigned. *Shape:* (tokens, width)
        weight: made by `_prepack`. *Shape:* (outputs, width)
        scales: float32; zeros: int64. *Shape:* (outputs,)
    """
    out: Tensor = torch.ops.onednn.qlinear_pointwise(
        x, 1.0, shift, weight, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return out
