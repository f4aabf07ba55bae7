"""The ways to compute attention that only GPUs take, against the one that the goldens hold to, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from bge_rerank_integrations.model.nn import attention
from bge_rerank_integrations.model.nn.attention import Mask
from bge_rerank_integrations.model.nn.layout import Layout

CPU = torch.device("cpu")
LENGTHS = (7, 7, 3, 1, 12)
CASES: list[dict[str, Any]] = [
    {},
    {"causal": True},
    {"causal": True, "window": 4},
    {"kv_heads": 2},
    {"kv_heads": 1, "causal": True, "window": 2},
    {"own": (1,) * 5, "causal": True},  # only the last token is read
    {"own": (2, 7, 1, 1, 5), "causal": True, "kv_heads": 2},  # after a prefix
    {"own": (2, 7, 1, 1, 5), "causal": True, "window": 3},
]
ids = [" ".join(f"{name}={value}" for name, value in case.items()) or "all see all" for case in CASES]


def example(
    own: tuple[int, ...] = LENGTHS,
    kv_heads: int = 4,
    causal: bool = False,
    window: int | None = None,
    softcap: float | None = None,
) -> tuple[Any, ...]:
    """The arguments of `_by_runs` and `_varlen`, in their order."""
    generator = torch.Generator().manual_seed(0)

    def heads(tokens: int, count: int) -> Tensor:
        return torch.randn(tokens, count, 8, generator=generator, dtype=torch.float64)

    q, k, v = heads(sum(own), 4), heads(sum(LENGTHS), kv_heads), heads(sum(LENGTHS), kv_heads)
    return q, k, v, Layout(own, CPU), Layout(LENGTHS, CPU), Mask(0.3, causal, window, softcap)


def close(some: Tensor, others: Tensor) -> bool:
    return torch.allclose(some, others, rtol=0, atol=1e-6)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_padded_is_the_same(case: dict[str, Any], softcap: float | None) -> None:
    given = example(**case, softcap=softcap)
    assert close(attention._padded(*given), attention._by_runs(*given))


def test_padded_takes_queries_after_a_prefix() -> None:
    """Their positions count on from the prefix, their places in the padded tensor do not."""
    queries = Layout((2, 7, 1, 5), CPU, prefixes=(3, 1, 3, 3))
    heads = torch.randn(queries.tokens, 4, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    keys = heads[queries.context_index]
    given = heads, keys, keys.flip(2), queries, queries.context, Mask(0.3, causal=True)
    assert close(attention._padded(*given), attention._by_runs(*given))


def documented(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
    num_splits: int | None = None,
) -> Tensor:
    """What torch 2.13 documents `varlen_attn` to compute, for which it has a kernel on GPUs alone."""
    assert query.is_contiguous()
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert (max_q, max_k) == (int(cu_seq_q.diff().max()), int(cu_seq_k.diff().max()))
    assert enable_gqa or query.shape[1] == key.shape[1]
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    pieces = []
    for (q0, q1), (k0, k1) in zip(_bounds(cu_seq_q), _bounds(cu_seq_k), strict=True):
        q, k, v = query[q0:q1].transpose(0, 1), key[k0:k1].transpose(0, 1), value[k0:k1].transpose(0, 1)
        # the last query stands at the last key
        behind = torch.arange(k1 - k0) - torch.arange(k1 - k0 - (q1 - q0), k1 - k0)[:, None]
        seen = torch.ones_like(behind, dtype=torch.bool)
        left, right = window_size
        if left >= 0:
            seen &= behind >= -left
        if right >= 0:
            seen &= behind <= right
        logits = q @ k.transpose(1, 2) * (query.shape[-1] ** -0.5 if scale is None else scale)
        pieces.append((logits.masked_fill(~seen, float("-inf")).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(pieces)


def _bounds(cumulative: Tensor) -> list[tuple[int, int]]:
    return list(pairwise(cumulative.tolist()))


def first_release(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    is_causal: bool = False,
) -> Tensor:
    """As torch 2.10 has it: no scale, no windows, as many heads everywhere."""
    window = (-1, 0) if is_causal else (-1, -1)
    return documented(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, window_size=window)


@pytest.mark.parametrize("kernel", [documented, first_release])
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_the_variable_length_kernel_is_asked_for_the_same(
    case: dict[str, Any], kernel: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    if kernel is documented:  # later releases can write to a tensor that they are given

        def into(out: Tensor, *given: Any, **options: Any) -> None:
            out.copy_(kernel(*given, **options))

        monkeypatch.setattr(varlen, "varlen_attn_out", into, raising=False)
    else:
        monkeypatch.delattr(varlen, "varlen_attn_out", raising=False)
    attention._varlen_parameters.cache_clear()
    try:
        given = example(**case)
        assert close(attention._varlen(*given), attention._by_runs(*given))
    finally:
        attention._varlen_parameters.cache_clear()
