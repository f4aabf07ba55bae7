"""The layers of `nn.encoder` and `nn.decoder` for GPUs: the same weights, with fused operators between the products.

They change the hidden states in place: a layer's input is no longer there after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from torch import Tensor, nn

from bge_rerank_integrations.model.nn.attention import Mask, attend
from bge_rerank_integrations.model.nn.decoder import DecoderLayer, RMSNorm, Stream
from bge_rerank_integrations.model.nn.encoder import EncoderLayer
from bge_rerank_integrations.model.nn.fused import plain
from bge_rerank_integrations.model.nn.layout import Layout
from bge_rerank_integrations.model.nn.rotary import Rotation


@dataclass(frozen=True)
class Operators:
    """What layers compute between products: each torch's own, as in `plain`, or a fused one with its signature."""

    rms_norm: Callable[..., Tensor] = plain.rms_norm
    add_rms_norm_: Callable[..., Tensor] = plain.add_rms_norm_
    add_norm_: Callable[..., None] = plain.add_norm_
    add_layer_norm: Callable[..., Tensor] = plain.add_layer_norm
    rotate_: Callable[..., None] = plain.rotate_
    gate_: Callable[..., None] = plain.gate_

    @property
    def fused(self) -> tuple[str, ...]:
        """The names of those that are not torch's own."""
        names = (field.name for field in fields(self))
        return tuple(name for name in names if getattr(self, name) is not getattr(plain, name))


def fuse(model: nn.Module, operators: Operators) -> None:
    """Replace each layer of a model, or of its list of layers, by the one of this file, if there is one that fits."""
    for layers in [module for module in model.modules() if isinstance(module, nn.ModuleList)]:
        for index, layer in enumerate(layers):
            if isinstance(layer, DecoderLayer) and fits(layer):
                layers[index] = FusedDecoderLayer(layer, operators)
            elif isinstance(layer, EncoderLayer):
                layers[index] = FusedEncoderLayer(layer, operators)


def fits(layer: DecoderLayer) -> bool:
    """Whether there is a fused layer that computes the same: none has norms of queries and keys, or adds that bias."""
    return not layer.shape.query_key_norms and "down" not in layer.shape.biases


class FusedEncoderLayer(nn.Module):
    """An `EncoderLayer`."""

    def __init__(self, layer: EncoderLayer, operators: Operators) -> None:
        super().__init__()
        self.layer = layer
        self.operators = operators

    def forward(self, x: Tensor, layout: Layout, read: Tensor | None = None) -> Tensor:
        """As `EncoderLayer.forward`."""
        layer = self.layer
        key, value = _heads(layer.key_value(x), layer.head_dim).chunk(2, 1)
        queries = layout
        if read is not None:
            x, queries = x[read], layout.single
        query = _heads(layer.query(x), layer.head_dim)
        attended = attend(query, key, value, queries, layout, Mask(layer.head_dim**-0.5))
        x = self._add(layer.out(attended.flatten(1)), x, layer.attention_norm)
        return self._add(layer.down(layer.up(x, layer.activation)), x, layer.output_norm)

    def _add(self, added: Tensor, residual: Tensor, norm: nn.LayerNorm) -> Tensor:
        return self.operators.add_layer_norm(added, residual, norm.weight, norm.bias, norm.eps)


class FusedDecoderLayer(nn.Module):
    """A `DecoderLayer`."""

    def __init__(self, layer: DecoderLayer, operators: Operators) -> None:
        super().__init__()
        self.layer = layer
        self.operators = operators

    def forward(self, stream: Stream, rotation: Rotation, read: Tensor | None = None) -> Tensor:
        """As `DecoderLayer.forward`, but the result takes the place of `stream.hidden`."""
        layer, operators, shape = self.layer, self.operators, self.layer.shape
        x, layout = stream.hidden, stream.layout
        queries, keys = layout, layout.context
        first, second = layer.attention_norm, layer.feed_forward_norm
        normed = operators.rms_norm(x, first.weight, first.offset, first.eps)
        key_value = _heads(layer.key_value(normed), shape.head_dim)
        key = key_value[:, : shape.kv_heads]
        if read is None:
            query = _heads(layer.query(normed), shape.head_dim)
            operators.rotate_(query, key, rotation.cos, rotation.sin)
        else:
            operators.rotate_(key, None, rotation.cos, rotation.sin)
            x, queries, rotation = x[read], layout.single, rotation.at(read)
            query = _heads(layer.query(normed[read]), shape.head_dim)
            operators.rotate_(query, None, rotation.cos, rotation.sin)
        if keys is not layout:
            key_value = key_value[layout.context_index]
        key, value = key_value.chunk(2, 1)
        mask = Mask(shape.attention_scale, causal=True, window=layer.window, softcap=stream.softcap)
        added = layer.out(attend(query, key, value, queries, keys, mask).flatten(1))
        scale, post = shape.residual_scale, _weight(layer.attention_post_norm)
        normed = operators.add_rms_norm_(x, added, post, second.weight, scale, second.offset, second.eps)
        gated = layer.gate(normed)
        operators.gate_(gated, layer.up(normed), layer.activation)
        if (post := _weight(layer.feed_forward_post_norm)) is None:
            return x.addmm_(gated, layer.down.weight.t(), alpha=scale)  # the sum is made in the product
        operators.add_norm_(x, layer.down(gated), post, scale, second.offset, second.eps)
        return x


def _heads(projected: Tensor, head_dim: int) -> Tensor:
    return projected.view(projected.shape[0], -1, head_dim)


def _weight(norm: nn.Module) -> Tensor | None:
    return norm.weight if isinstance(norm, RMSNorm) else None
