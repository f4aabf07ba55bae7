"""The decoder of Llama and what came after it: pre-norm layers, a token sees itself and those before it.

Gemma, MiniCPM, Mistral and Qwen differ from it in the numbers of a `DecoderShape`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from bge_rerank_integrations.model.nn.attention import Mask, attend
from bge_rerank_integrations.model.nn.embedding import embedding
from bge_rerank_integrations.model.nn.layout import Layout
from bge_rerank_integrations.model.nn.linear import Linear
from bge_rerank_integrations.model.nn.rotary import Rope, Rotation


@dataclass(frozen=True)
class DecoderShape:
    """The numbers in which decoders differ."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    norm_eps: float
    activation: str
    ropes: Sequence[Rope]
    """The rotary positions of each layer."""
    attention_scale: float
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    """Factor on what a layer adds to the hidden states (MiniCPM)."""
    norm_offset: float = 0.0
    """Added to the weight of every norm (Gemma: 1, because its weights start at 0)."""
    post_norms: bool = False
    """Whether the outputs of attention and feed-forward are normalised before they are added (Gemma 2)."""
    query_key_norms: bool = False
    """Whether each head's query and key are normalised before they are rotated (Qwen 3, Gemma 3)."""
    biases: frozenset[str] = frozenset()
    """Which matrix products add a bias, by their names in `DecoderLayer`."""
    windows: Sequence[int | None] | None = None
    """For each layer, how many tokens a token sees at most; None: all."""


@dataclass(frozen=True)
class Stream:
    """What each layer takes and gives. *Shape:* hidden (tokens, width)"""

    hidden: Tensor
    layout: Layout
    softcap: float | None = None
    """Limit of attention's scaled dot products (Gemma 2)."""


class DecoderStack(nn.Module):
    """Embeddings, layers, final norm. It runs in parts: `embed`, any number of `run`s, `finish`."""

    def __init__(self, shape: DecoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.words = embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(DecoderLayer(shape, i) for i in range(shape.layers))
        self.norm = RMSNorm(shape, shape.width)

    def embed(self, ids: Tensor, layout: Layout, softcap: float | None = None) -> Stream:
        """*Shape:* ids (tokens,)"""
        hidden = self.words(ids)
        # in half precision the reference rounds the scale to that precision first
        return Stream(hidden * torch.tensor(self.shape.embedding_scale, dtype=hidden.dtype), layout, softcap)

    def run(self, stream: Stream, start: int, stop: int) -> Stream:
        """Layers `start` up to, not including, `stop`, for all tokens."""
        return self._run(stream, self._rotations(stream), start, stop)

    def run_to_last(self, stream: Stream, start: int, stop: int) -> Tensor:
        """As `run`, but returns the state of each sequence's last token only. The last layer computes no other.

        Returns:
            *Shape:* (sequences, width)
        """
        if start == stop:
            return stream.hidden[stream.layout.last]
        rotations = self._rotations(stream)
        stream = self._run(stream, rotations, start, stop - 1)
        last: Tensor = self.layers[stop - 1](stream, rotations[self.shape.ropes[stop - 1]], read=stream.layout.last)
        return last

    def finish(self, hidden: Tensor) -> Tensor:
        """The final norm. *Shape:* as given"""
        out: Tensor = self.norm(hidden)
        return out

    def _run(self, stream: Stream, rotations: Mapping[Rope, Rotation], start: int, stop: int) -> Stream:
        for layer, rope in zip(self.layers[start:stop], self.shape.ropes[start:stop], strict=False):
            stream = replace(stream, hidden=layer(stream, rotations[rope]))
        return stream

    def _rotations(self, stream: Stream) -> dict[Rope, Rotation]:
        shape = self.shape
        return {
            rope: rope.rotation(stream.layout, shape.head_dim, stream.hidden.dtype)
            for rope in dict.fromkeys(shape.ropes)
        }


class DecoderLayer(nn.Module):
    """Attention and gated feed-forward, each with a norm before it (Gemma 2, 3: also after it) and a residual."""

    def __init__(self, shape: DecoderShape, index: int) -> None:
        super().__init__()
        self.shape = shape
        self.window = shape.windows[index] if shape.windows else None
        self.activation = shape.activation
        query_width = shape.heads * shape.head_dim
        kv_width = shape.kv_heads * shape.head_dim
        self.query = Linear(shape.width, query_width, bias="query" in shape.biases)
        self.key_value = Linear(shape.width, 2 * kv_width, bias="key_value" in shape.biases)
        self.out = Linear(query_width, shape.width, bias="out" in shape.biases)
        self.gate = Linear(shape.width, shape.feed_forward, bias="gate" in shape.biases)
        self.up = Linear(shape.width, shape.feed_forward, bias="up" in shape.biases)
        self.down = Linear(shape.feed_forward, shape.width, bias="down" in shape.biases)
        self.query_norm = RMSNorm(shape, shape.head_dim) if shape.query_key_norms else nn.Identity()
        self.key_norm = RMSNorm(shape, shape.head_dim) if shape.query_key_norms else nn.Identity()
        self.attention_norm = RMSNorm(shape, shape.width)
        self.feed_forward_norm = RMSNorm(shape, shape.width)
        self.attention_post_norm = RMSNorm(shape, shape.width) if shape.post_norms else nn.Identity()
        self.feed_forward_post_norm = RMSNorm(shape, shape.width) if shape.post_norms else nn.Identity()

    def forward(self, stream: Stream, rotation: Rotation, read: Tensor | None = None) -> Tensor:
        """One layer. With `read`, the index of one token of each sequence, only these are computed, with all keys.

        Args:
            read: *Shape:* (sequences,)

        Returns:
            *Shape:* (tokens, width), or (sequences, width) with `read`
        """
        shape, x, layout = self.shape, stream.hidden, stream.layout
        normed = self.attention_norm(x)
        key, value = self._heads(self.key_value(normed)).split(shape.kv_heads, 1)
        key = rotation.turn(self.key_norm(key))
        queries, keys = layout, layout.context
        if keys is not layout:
            key, value = key[layout.context_index], value[layout.context_index]
        if read is not None:
            x, normed, rotation, queries = x[read], normed[read], rotation.at(read), layout.single
        query = rotation.turn(self.query_norm(self._heads(self.query(normed))))
        mask = Mask(shape.attention_scale, causal=True, window=self.window, softcap=stream.softcap)
        attended = attend(query, key, value, queries, keys, mask)
        x = x + self.attention_post_norm(self.out(attended.flatten(1))) * shape.residual_scale
        normed = self.feed_forward_norm(x)
        gated = self.up.mul(normed, self.gate(normed, self.activation))
        added = self.feed_forward_post_norm(self.down(gated))
        out: Tensor = x + added * shape.residual_scale
        return out

    def _heads(self, projected: Tensor) -> Tensor:
        return projected.view(projected.shape[0], -1, self.shape.head_dim)


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32 for any dtype."""

    def __init__(self, shape: DecoderShape, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = shape.norm_eps
        self.offset = shape.norm_offset

    def forward(self, x: Tensor) -> Tensor:
        """*Shape:* (..., width), unchanged"""
        wide = x.float()
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (normed * (self.weight.float() + self.offset)).to(x.dtype)
