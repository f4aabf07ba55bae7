"""The sequences of a batch in one tensor: end to end, without padding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from bge_rerank_integrations.engine.work import TokenSequence
from bge_rerank_integrations.model.nn.layout import Layout, copy_at_once


@dataclass(frozen=True)
class Merge:
    """What a batch becomes when its passages' states are averaged in groups."""

    starts: Tensor
    """Where each group starts; a token that stays as it is is a group by itself. *Shape:* (groups,)"""
    layout: Layout
    """Of the groups, which are the tokens from then on."""


@dataclass(frozen=True)
class PackedBatch:
    """Sequences laid end to end. *Shape:* ids (tokens,)"""

    ids: Tensor
    layout: Layout
    passages: tuple[tuple[int, int], ...]
    second_text: Tensor
    """For each token, 1 if it is in the passage or after it, otherwise 0. *Shape:* (tokens,)"""
    merges: tuple[Merge, ...] = ()
    """Those that a forward pass makes, in this order."""

    def to(self, device: torch.device) -> PackedBatch:
        """The batch on a device; to a GPU, everything is copied at once, and nothing waits for it."""
        if device == self.ids.device:
            return self
        parts = [self.ids, self.second_text, *self.layout.tensors()]
        for merge in self.merges:
            parts += [merge.starts, *merge.layout.tensors()]
        there = iter(copy_at_once(parts, device))
        return PackedBatch(
            ids=next(there),
            second_text=next(there),
            layout=self.layout.placed(device, there),
            passages=self.passages,
            merges=tuple(Merge(next(there), merge.layout.placed(device, there)) for merge in self.merges),
        )


def pack(
    sequences: Sequence[TokenSequence],
    device: torch.device,
    round_up: Callable[[int], int] | None = None,
    ratios: Sequence[int] = (),
) -> PackedBatch:
    """Put sequences end to end in one tensor on the device, without padding. A shared prefix is stored once.

    The sequences come first, in the order given, then the prefixes.

    Args:
        round_up: gives the next allowed number of sequences, or of tokens. Both are reached by sequences that are added
            after all others, and whose scores mean nothing. None: none are added.
        ratios: for each merge of the passages, how many tokens become one.
    """
    sequences, prefixes = _share(sequences)
    if round_up is not None:
        sequences = [*sequences, *_fill(sequences, round_up)]
    if prefixes is not None:
        prefixes.extend(range(len(prefixes), len(sequences)))
    ids = torch.tensor(list(chain.from_iterable(sequence.ids for sequence in sequences)))
    lengths = tuple(len(sequence.ids) for sequence in sequences)
    layout = Layout(lengths, torch.device("cpu"), None if prefixes is None else tuple(prefixes))
    passages = tuple(sequence.passage for sequence in sequences)
    second = layout.positions >= torch.tensor([start for start, _ in passages])[layout.sequence]
    merges = _merges(layout, passages, ratios)
    return PackedBatch(ids, layout, passages, second.long(), merges).to(device)


def _merges(layout: Layout, passages: Sequence[tuple[int, int]], ratios: Sequence[int]) -> tuple[Merge, ...]:
    """Each passage's tokens in groups of a ratio; the last group has what is left. Then the same with the groups.

    Query, separator and prompt stay as they are, and positions count anew from 0, because they follow from the layout.
    """
    merges = []
    for ratio in ratios:
        starts: list[int] = []
        lengths, merged = [], []
        for offset, length, (start, stop) in zip(layout.offsets, layout.lengths, passages, strict=False):
            before = len(starts)
            starts += chain(
                range(offset, offset + start),
                range(offset + start, offset + stop, ratio),
                range(offset + stop, offset + length),
            )
            lengths.append(len(starts) - before)
            merged.append((start, start - (start - stop) // ratio))
        layout, passages = Layout(tuple(lengths), layout.device, layout.prefixes), merged
        merges.append(Merge(torch.tensor(starts), layout))
    return tuple(merges)


def _share(sequences: Sequence[TokenSequence]) -> tuple[list[TokenSequence], list[int] | None]:
    """The sequences without the prefixes that several share, then those prefixes; and `Layout.prefixes`."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, sequence in enumerate(sequences):
        if 0 < sequence.prefix < len(sequence.ids):
            groups[tuple(sequence.ids[: sequence.prefix])].append(index)
    split, prefixes = list(sequences), list(range(len(sequences)))
    for prefix, indices in groups.items():
        if len(indices) == 1:
            continue
        for index in indices:
            whole = sequences[index]
            start, stop = whole.passage
            split[index] = TokenSequence(whole.ids[len(prefix) :], (start - len(prefix), stop - len(prefix)))
            prefixes[index] = len(split)
        split.append(TokenSequence(prefix, (0, 0)))
        prefixes.append(len(prefixes))
    return split, prefixes if len(split) > len(sequences) else None


def _fill(sequences: Sequence[TokenSequence], round_up: Callable[[int], int]) -> list[TokenSequence]:
    """Sequences to add to reach both numbers; none is longer than the longest of the batch."""
    lengths = [len(sequence.ids) for sequence in sequences]
    tokens, longest = sum(lengths), max(lengths)
    count = round_up(len(sequences)) - len(sequences)
    missing = round_up(tokens + count) - tokens
    while missing > count * longest:
        count = round_up(len(sequences) + count + 1) - len(sequences)
        missing = round_up(tokens + count) - tokens
    if not count:
        return []
    short, longer = divmod(missing, count)
    token = sequences[0].ids[0]
    return [TokenSequence((token,) * (short + (i < longer)), (0, 0)) for i in range(count)]
