"""Passages merged on the way: means in float32, whatever the dtype of the states, and the same ones each time."""

from __future__ import annotations

import pytest
import torch

from bge_rerank_integrations.engine.work import TokenSequence
from bge_rerank_integrations.model.families.lightweight import merge_passages
from bge_rerank_integrations.model.nn.decoder import Stream
from bge_rerank_integrations.model.packing import pack

CPU = torch.device("cpu")
BATCH = [
    TokenSequence(tuple(range(9)), (2, 7)),
    TokenSequence(tuple(range(6)), (1, 1)),  # an empty passage
    TokenSequence(tuple(range(20)), (0, 19)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ratio", [2, 4, 8])
def test_a_group_becomes_its_mean(ratio: int, dtype: torch.dtype) -> None:
    batch = pack(BATCH, CPU, ratios=(ratio, ratio))
    hidden = torch.randn(35, 8, generator=torch.Generator().manual_seed(0)).to(dtype) + 100  # bfloat16 sums would show
    stream = Stream(hidden, batch.layout)
    passages = batch.passages
    for merge in batch.merges:
        expected, merged = [], []
        for rows, (start, stop) in zip(stream.hidden.split(stream.layout.lengths), passages, strict=True):
            groups = rows[start:stop].split(ratio) if stop > start else ()
            means = [group.double().mean(0, keepdim=True).to(dtype) for group in groups]
            expected.append(torch.cat([rows[:start], *means, rows[stop:]]))
            merged.append((start, start + len(means)))
        stream, passages = merge_passages(stream, merge), tuple(merged)
        assert stream.layout.lengths == tuple(map(len, expected))
        rounding = torch.finfo(dtype).eps * 64
        assert torch.allclose(stream.hidden, torch.cat(expected), rtol=0, atol=2 * rounding)


def test_positions_count_anew() -> None:
    (merge,) = pack(BATCH[:1], CPU, ratios=(2,)).merges
    assert merge.starts.tolist() == [0, 1, 2, 4, 6, 7, 8]
    assert merge.layout.positions.tolist() == list(range(7))
