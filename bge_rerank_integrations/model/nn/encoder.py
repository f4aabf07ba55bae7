"""The encoder of BERT and XLM-RoBERTa: post-norm layers; every token sees all others."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from bge_rerank_integrations.model.nn.attention import Mask, attend
from bge_rerank_integrations.model.nn.embedding import embedding
from bge_rerank_integrations.model.nn.layout import Layout
from bge_rerank_integrations.model.nn.linear import Linear


@dataclass(frozen=True)
class EncoderShape:
    """The numbers in which encoders differ."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    positions: int
    token_types: int
    norm_eps: float
    activation: str
    pad_token: int | None
    """RoBERTa: positions count from here, and this token does not advance them. None (BERT): positions count from 0."""


class EncoderStack(nn.Module):
    """Embeddings and layers; `read` gives the state of one token of each sequence."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.words = embedding(shape.vocabulary, shape.width)
        self.positions = embedding(shape.positions, shape.width)
        self.types = embedding(shape.token_types, shape.width)
        self.norm = nn.LayerNorm(shape.width, shape.norm_eps)
        self.layers = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.layers))

    def read(self, ids: Tensor, types: Tensor | None, layout: Layout) -> Tensor:
        """The last layer's state of each sequence's first token.

        Args:
            ids: *Shape:* (tokens,)
            types: which of the two texts a token belongs to; None: all to the first. *Shape:* (tokens,)

        Returns:
            *Shape:* (sequences, width)
        """
        x = self._embed(ids, types, layout)
        *inner, last = self.layers
        for layer in inner:
            x = layer(x, layout)
        out: Tensor = last(x, layout, read=layout.first)
        return out

    def _embed(self, ids: Tensor, types: Tensor | None, layout: Layout) -> Tensor:
        kinds = self.types.weight[0] if types is None else self.types(types)
        x = self.words(ids) + kinds + self.positions(self._position_ids(ids, layout))
        embedded: Tensor = self.norm(x)
        return embedded

    def _position_ids(self, ids: Tensor, layout: Layout) -> Tensor:
        pad = self.shape.pad_token
        if pad is None:
            return layout.positions
        counted = ids.ne(pad)
        running = counted.cumsum(0)
        before = (running - counted.long())[layout.starts]
        return (running - before) * counted + pad


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each added to its input, with a norm after it."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.head_dim = shape.width // shape.heads
        self.activation = shape.activation
        self.query = Linear(shape.width, shape.width)
        self.key_value = Linear(shape.width, 2 * shape.width)
        self.out = Linear(shape.width, shape.width)
        self.attention_norm = nn.LayerNorm(shape.width, shape.norm_eps)
        self.up = Linear(shape.width, shape.feed_forward)
        self.down = Linear(shape.feed_forward, shape.width)
        self.output_norm = nn.LayerNorm(shape.width, shape.norm_eps)

    def forward(self, x: Tensor, layout: Layout, read: Tensor | None = None) -> Tensor:
        """One layer. With `read`, the index of one token of each sequence, only these are computed, with all keys.

        Args:
            x: *Shape:* (tokens, width)
            read: *Shape:* (sequences,)

        Returns:
            *Shape:* (tokens, width), or (sequences, width) with `read`
        """
        key, value = self._heads(self.key_value(x))
        queries = layout
        if read is not None:
            x, queries = x[read], layout.single
        (query,) = self._heads(self.query(x))
        attended = attend(query, key, value, queries, layout, Mask(query.shape[-1] ** -0.5))
        x = self.attention_norm(self.out.add(attended.flatten(1), x))
        wide = self.up(x, self.activation)
        out: Tensor = self.output_norm(self.down.add(wide, x))
        return out

    def _heads(self, projected: Tensor) -> tuple[Tensor, ...]:
        """*Shape:* (tokens, n * width) -> n of (tokens, heads, head_dim)"""
        return projected.view(projected.shape[0], -1, self.heads, self.head_dim).unbind(1)
