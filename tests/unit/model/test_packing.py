"""Sequences in one tensor: every one can be read back, shared prefixes lie there once, fill comes after all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bge_rerank_integrations.engine.work import TokenSequence
from bge_rerank_integrations.model.nn.onednn import round_up as onednn_round_up
from bge_rerank_integrations.model.packing import PackedBatch, pack

CPU = torch.device("cpu")
PREFIXES = ([], [1, 2], [1, 2, 3], [7])


@st.composite
def sequences(draw: st.DrawFn) -> TokenSequence:
    """A prefix out of a few, then a passage and an end."""
    prefix = draw(st.sampled_from(PREFIXES))
    passage, end = draw(st.lists(st.integers(10, 99), max_size=9)), draw(st.lists(st.integers(3, 9), min_size=1))
    ids = [*prefix, *passage, *end]
    return TokenSequence(ids, (len(prefix), len(prefix) + len(passage)), prefix=len(prefix))


BATCHES = st.lists(sequences(), min_size=1, max_size=12)


def eights(count: int) -> int:
    return -(-count // 8) * 8


def read_back(batch: PackedBatch) -> list[list[int]]:
    """Every sequence of a batch as attention reads it, with its prefix."""
    layout = batch.layout
    ids = batch.ids if layout.prefixes is None else batch.ids[layout.context_index]
    return [ids[start:stop].tolist() for start, stop in pairwise(layout.context.offsets)]


@pytest.mark.parametrize("round_up", [None, eights, onednn_round_up])
@given(batch=BATCHES)
def test_every_sequence_can_be_read_back(round_up: Callable[[int], int] | None, batch: list[TokenSequence]) -> None:
    packed = pack(batch, CPU, round_up)
    assert read_back(packed)[: len(batch)] == [sequence.ids for sequence in batch]
    assert len(packed.ids) == packed.layout.tokens == sum(packed.layout.lengths)
    assert len(packed.passages) == len(packed.layout.lengths)


@given(batch=BATCHES)
def test_passages_are_where_they_were(batch: list[TokenSequence]) -> None:
    packed = pack(batch, CPU)
    ids = packed.ids.tolist()
    for sequence, offset, (start, stop) in zip(batch, packed.layout.offsets, packed.passages, strict=False):
        assert ids[offset + start : offset + stop] == sequence.ids[slice(*sequence.passage)]


@given(batch=BATCHES)
def test_tokens_count_from_the_start_of_the_whole_sequence(batch: list[TokenSequence]) -> None:
    positions = pack(batch, CPU).layout.positions.tolist()
    offset = 0
    prefixes = Counter(tuple(sequence.ids[: sequence.prefix]) for sequence in batch)
    for sequence in batch:
        prefix = sequence.ids[: sequence.prefix]
        first = len(prefix) if prefix and prefixes[tuple(prefix)] > 1 else 0
        own = len(sequence.ids) - first
        assert positions[offset : offset + own] == list(range(first, len(sequence.ids)))
        offset += own


@given(batch=BATCHES)
def test_what_several_begin_with_lies_there_once(batch: list[TokenSequence]) -> None:
    counts = Counter(tuple(sequence.ids[: sequence.prefix]) for sequence in batch if sequence.prefix)
    shared = {prefix: count for prefix, count in counts.items() if count > 1}
    layout = pack(batch, CPU).layout
    assert len(layout.lengths) == len(batch) + len(shared)
    saved = sum((count - 1) * len(prefix) for prefix, count in shared.items())
    assert layout.tokens == sum(len(sequence.ids) for sequence in batch) - saved
    assert (layout.prefixes is None) == (not shared)
    assert list(layout.lengths[len(batch) :]) == [len(prefix) for prefix in shared]


def test_a_sequence_that_is_nothing_but_its_prefix_shares_nothing() -> None:
    whole = TokenSequence([1, 2], (2, 2), prefix=2)
    assert pack([whole, whole], CPU).layout.prefixes is None


@given(batch=BATCHES)
def test_fill_comes_after_all_others_and_rounds_both_numbers(batch: list[TokenSequence]) -> None:
    bare, filled = pack(batch, CPU), pack(batch, CPU, eights)
    count, tokens = len(bare.layout.lengths), bare.layout.tokens
    assert filled.layout.lengths[:count] == bare.layout.lengths
    assert filled.ids[:tokens].tolist() == bare.ids.tolist()
    assert len(filled.layout.lengths) % 8 == 0
    assert filled.layout.tokens % 8 == 0
    assert all(0 < length <= bare.layout.longest for length in filled.layout.lengths[count:])
    if filled.layout.prefixes is not None:
        assert filled.layout.prefixes[count:] == tuple(range(count, len(filled.layout.lengths)))


def test_round_numbers_are_left_alone() -> None:
    batch = [TokenSequence([5] * 4, (1, 3)) for _ in range(8)]
    assert pack(batch, CPU, eights).layout.lengths == (4,) * 8


def test_the_second_text_is_the_passage_and_what_follows() -> None:
    batch = pack([TokenSequence([1, 2, 3, 4], (2, 3)), TokenSequence([1, 2], (1, 2))], CPU)
    assert batch.second_text.tolist() == [0, 0, 1, 1, 0, 1]
