"""Attention over packed sequences: one entry point, three ways to compute it.

The way was chosen by measurements, and is not an option. On the CPU, one SDPA call for each run of equal lengths is
fastest (a block mask over the whole batch takes 8 times as long, jagged nested tensors 30 times). On CUDA in half
precision, the variable-length flash kernel takes the packed tensors as they are. What it cannot do uses a padded SDPA
call.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bge_rerank_integrations.model.nn.layout import Layout


@dataclass(frozen=True)
class Mask:
    """How a query weights its keys, and which of them it sees."""

    scale: float
    """Factor on the dot products."""
    causal: bool = False
    """Whether a token sees only itself and those before it."""
    window: int | None = None
    """If causal: how many tokens a token sees at most, itself included. None: all."""
    softcap: float | None = None
    """Bound the scaled dot products by `softcap * tanh(x / softcap)` (Gemma 2)."""


def attend(query: Tensor, key: Tensor, value: Tensor, queries: Layout, keys: Layout, mask: Mask) -> Tensor:
    """Attention of each sequence's queries to the keys of the same sequence.

    If a sequence has fewer queries than keys and the mask is causal, the queries are those of its last tokens.

    Args:
        query: *Shape:* (query tokens, heads, head_dim)
        key, value: *Shape:* (key tokens, kv_heads, head_dim); `heads` is a multiple of `kv_heads`.
        queries, keys: the layouts of both, with the same number of sequences.

    Returns:
        *Shape:* (query tokens, heads, head_dim)
    """
    if mask.window is not None and mask.window >= keys.longest:
        mask = replace(mask, window=None)
    if query.device.type != "cuda":
        return _by_runs(query, key, value, queries, keys, mask)
    if mask.softcap is None and query.dtype in (torch.float16, torch.bfloat16) and _varlen_parameters():
        return _varlen(query, key, value, queries, keys, mask)
    return _padded(query, key, value, queries, keys, mask)


def _by_runs(query: Tensor, key: Tensor, value: Tensor, queries: Layout, keys: Layout, mask: Mask) -> Tensor:
    pieces = []
    q_start = k_start = 0
    for (q_length, length), run in groupby(zip(queries.lengths, keys.lengths, strict=True)):
        count = len(list(run))
        q_stop, k_stop = q_start + count * q_length, k_start + count * length
        q, k, v = (
            x.unflatten(0, (count, -1)).transpose(1, 2)
            for x in (query[q_start:q_stop], key[k_start:k_stop], value[k_start:k_stop])
        )
        seen = _causally_seen(q_length, length, mask.window, query.device) if mask.causal else None
        attended = _dense(q, k, v, seen, mask, mask.causal and q_length == length and mask.window is None)
        pieces.append(attended.transpose(1, 2).flatten(0, 1))
        q_start, k_start = q_stop, k_stop
    return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


def _padded(query: Tensor, key: Tensor, value: Tensor, queries: Layout, keys: Layout, mask: Mask) -> Tensor:
    q, k, v = _pad(query, queries), _pad(key, keys), _pad(value, keys)
    lengths = keys.cumulative.diff()[:, None, None, None]
    positions = torch.arange(keys.longest, device=query.device)
    seen = positions < lengths  # (sequences, 1, 1, longest)
    if mask.causal:
        shift = lengths - queries.cumulative.diff()[:, None, None, None]
        distance = shift + torch.arange(queries.longest, device=query.device)[:, None] - positions
        seen = seen & (distance >= 0)
        if mask.window is not None:
            seen = seen & (distance < mask.window)
        seen = seen | ~seen.any(-1, keepdim=True)  # a padding query must see a key, otherwise it gives NaN
    attended = _dense(q, k, v, seen, mask, False).transpose(1, 2)
    return attended[queries.sequence, queries.own_positions]


def _pad(packed: Tensor, layout: Layout) -> Tensor:
    """*Shape:* (tokens, heads, dim) -> (sequences, heads, longest, dim), zeros after each sequence."""
    padded = packed.new_zeros(len(layout.lengths), layout.longest, *packed.shape[1:])
    padded[layout.sequence, layout.own_positions] = packed
    return padded.transpose(1, 2)


def _causally_seen(queries: int, keys: int, window: int | None, device: torch.device) -> Tensor | None:
    """Which keys each query sees; None if SDPA needs no mask. *Shape:* (queries, keys)"""
    if window is None and queries in (1, keys):
        return None
    distance = torch.arange(keys - queries, keys, device=device)[:, None] - torch.arange(keys, device=device)
    seen = distance >= 0
    return seen if window is None else seen & (distance < window)


def _dense(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, mask: Mask, is_causal: bool) -> Tensor:
    """Attention with the scale and soft cap of `mask` to the keys that are `seen`; None: to all, or to the causal ones.

    *Shape:* (sequences, heads, length, dim) for all three, and for the result.
    """
    if mask.softcap is None:
        grouped = query.shape[1] != key.shape[1]
        return F.scaled_dot_product_attention(
            query, key, value, seen, is_causal=is_causal, scale=mask.scale, enable_gqa=grouped
        )
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    logits = mask.softcap * torch.tanh(query @ key.transpose(-1, -2) * (mask.scale / mask.softcap))
    if is_causal:
        seen = logits.new_ones(logits.shape[-2:], dtype=torch.bool).tril()
    if seen is not None:
        logits = logits.masked_fill(~seen, float("-inf"))
    return logits.softmax(-1, dtype=torch.float32).to(value.dtype) @ value


def _varlen(query: Tensor, key: Tensor, value: Tensor, queries: Layout, keys: Layout, mask: Mask) -> Tensor:
    """torch's variable-length flash attention. Later releases have more arguments."""
    from torch.nn.attention import varlen

    known = _varlen_parameters()
    options: dict[str, Any] = {}
    if "window_size" in known:
        options["window_size"] = (-1 if mask.window is None else mask.window - 1, 0) if mask.causal else (-1, -1)
    elif mask.window is None:
        options["is_causal"] = mask.causal
    else:
        return _padded(query, key, value, queries, keys, mask)
    if "scale" in known:
        options["scale"] = mask.scale
    else:  # the kernel divides by the root of head_dim
        query = query * (mask.scale * query.shape[-1] ** 0.5)
    if query.shape[1] != key.shape[1]:
        if "enable_gqa" in known:
            options["enable_gqa"] = True
        else:
            groups = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if "num_splits" in known:  # otherwise a score depends on the longest sequence of its batch
        options["num_splits"] = 1
    query = query.contiguous()
    if "num_splits" not in known:  # later ones take keys and values as they lie in a product
        key, value = key.contiguous(), value.contiguous()
    lengths = queries.cumulative, keys.cumulative, queries.longest, keys.longest
    if hasattr(varlen, "varlen_attn_out"):  # which does not fill a state of random numbers besides
        out = torch.empty_like(query)
        varlen.varlen_attn_out(out, query, key, value, *lengths, **options)
        return out
    attended = varlen.varlen_attn(query, key, value, *lengths, **options)
    assert isinstance(attended, Tensor)
    return attended


@cache
def _varlen_parameters() -> frozenset[str]:
    """The parameters of `varlen_attn` in this torch; empty before 2.10, which does not have it."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return frozenset()
    return frozenset(inspect.signature(varlen_attn).parameters)
