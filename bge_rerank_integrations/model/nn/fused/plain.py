"""What the fused operators compute, in torch's own: what they are compared with, and what takes their place."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bge_rerank_integrations.model.nn.activations import ACTIVATIONS


def rms_norm(x: Tensor, weight: Tensor, offset: float, eps: float) -> Tensor:
    """x over its root mean square, times weight + offset, in float32. *Shape:* x (tokens, width), weight (width,)"""
    wide = x.float()
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (normed * (weight.float() + offset)).to(x.dtype)


def add_rms_norm_(
    hidden: Tensor, added: Tensor, post: Tensor | None, weight: Tensor, scale: float, offset: float, eps: float
) -> Tensor:
    """Add to hidden as `add_norm_` does, or without `post` just `added * scale`; returns `rms_norm` of the sum."""
    hidden.add_(added if post is None else rms_norm(added, post, offset, eps), alpha=scale)
    return rms_norm(hidden, weight, offset, eps)


def add_norm_(hidden: Tensor, added: Tensor, post: Tensor, scale: float, offset: float, eps: float) -> None:
    """hidden += rms_norm(added, post) * scale. *Shape:* hidden, added (tokens, width), post (width,)"""
    hidden.add_(rms_norm(added, post, offset, eps), alpha=scale)


def add_layer_norm(added: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm of the sum. *Shape:* added, residual (tokens, width); weight, bias (width,)"""
    return F.layer_norm(residual + added, weight.shape, weight, bias, eps)


def rotate_(some: Tensor, others: Tensor | None, cos: Tensor, sin: Tensor) -> None:
    """Turn heads by their tokens' positions. *Shape:* heads (tokens, any, head_dim); cos, sin (tokens, 1, head_dim)"""
    for heads in (some,) if others is None else (some, others):
        left, right = heads.chunk(2, -1)
        heads.copy_(heads * cos + torch.cat((-right, left), -1) * sin)


def gate_(gate: Tensor, up: Tensor, activation: str) -> None:
    """gate = activation(gate) * up. *Shape:* (tokens, feed_forward) for both"""
    gate.copy_(ACTIVATIONS[activation](gate) * up)
