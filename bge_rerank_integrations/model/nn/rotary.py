"""Rotary positions: plain ones, and three ways to stretch them to texts longer than the model was first trained on.

The numbers are those of `transformers.modeling_rope_utils`, where the papers behind each way are named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bge_rerank_integrations.model.nn.layout import Layout


class Scaling(Protocol):
    """How frequencies are changed."""

    @property
    def amplitude(self) -> float:
        """Factor on cosines and sines."""

    def stretch(self, frequencies: Tensor, theta: float) -> Tensor:
        """*Shape:* (head_dim / 2,), unchanged"""


@dataclass(frozen=True)
class Linear:
    """All positions divided by a factor."""

    factor: float

    @property
    def amplitude(self) -> float:
        return 1.0

    def stretch(self, frequencies: Tensor, theta: float) -> Tensor:
        return frequencies / self.factor


@dataclass(frozen=True)
class Llama3:
    """Low frequencies divided by a factor, high ones kept, and those between in between."""

    factor: float
    low: float
    high: float
    positions: float
    """How many the model was first trained on."""

    @property
    def amplitude(self) -> float:
        return 1.0

    def stretch(self, frequencies: Tensor, theta: float) -> Tensor:
        turns = self.positions * frequencies / (2 * math.pi)
        kept = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return (1 - kept) * frequencies / self.factor + kept * frequencies


@dataclass(frozen=True)
class Yarn:
    """As `Llama3`, with borders between dimensions instead of frequencies, and larger cosines and sines."""

    factor: float
    positions: float
    """How many the model was first trained on."""
    fast: float
    slow: float
    amplitude: float
    whole: bool
    """Whether the borders are rounded to whole dimensions."""

    def stretch(self, frequencies: Tensor, theta: float) -> Tensor:
        count = len(frequencies)
        first, last = (self._dimension(turns, 2 * count, theta) for turns in (self.fast, self.slow))
        if self.whole:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, 2 * count - 1)
        places = torch.arange(count, dtype=torch.float32, device=frequencies.device)
        divided = ((places - first) / (last - first or 0.001)).clamp(0, 1)
        return frequencies / self.factor * divided + frequencies * (1 - divided)

    def _dimension(self, turns: float, width: int, theta: float) -> float:
        return width * math.log(self.positions / (turns * 2 * math.pi)) / (2 * math.log(theta))


@dataclass(frozen=True)
class Rope:
    """The rotary positions of a layer."""

    theta: float
    scaling: Scaling | None = None

    def rotation(self, layout: Layout, head_dim: int, dtype: torch.dtype) -> Rotation:
        """Cosines and sines for each token."""
        exponents = torch.arange(0, head_dim, 2, device=layout.device, dtype=torch.float32) / head_dim
        frequencies = 1.0 / self.theta**exponents
        if self.scaling is not None:
            frequencies = self.scaling.stretch(frequencies, self.theta)
        angles = layout.positions[:, None].float() * frequencies
        both = torch.cat((angles, angles), -1)[:, None]
        cos, sin = both.cos(), both.sin()
        if self.scaling is not None and self.scaling.amplitude != 1:
            cos, sin = cos * self.scaling.amplitude, sin * self.scaling.amplitude
        return Rotation(cos.to(dtype), sin.to(dtype))


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines for each token. *Shape:* (tokens, 1, head_dim) each"""

    cos: Tensor
    sin: Tensor

    def at(self, index: Tensor) -> Rotation:
        return Rotation(self.cos[index], self.sin[index])

    def turn(self, heads: Tensor) -> Tensor:
        """*Shape:* (tokens, heads, head_dim), unchanged"""
        left, right = heads.chunk(2, -1)
        return heads * self.cos + torch.cat((-right, left), -1) * self.sin
