"""From token ids to packed batches: which sequences go together, and how they lie in one tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from bge_rerank_integrations.nn.layout import Layout, to_device


@dataclass(frozen=True)
class TokenSequence:
    """One query and one passage as the model reads them.

    `passage` is where the passage's tokens start and stop in `ids`; `truncated` says that some text was cut away.
    """

    ids: list[int]
    passage: tuple[int, int]
    truncated: bool = False


@dataclass(frozen=True)
class PackedBatch:
    """Sequences laid end to end. *Shape:* ids (tokens,)"""

    ids: Tensor
    layout: Layout
    passages: tuple[tuple[int, int], ...]

    @property
    def second_text(self) -> Tensor:
        """For each token, 1 if it stands in the passage or behind it, else 0. *Shape:* (tokens,)"""
        starts = torch.tensor([start for start, _ in self.passages], device=self.ids.device)
        lengths = self.layout.cumulative.diff()
        return (self.layout.positions >= torch.repeat_interleave(starts, lengths)).long()


def by_length(sequences: Sequence[TokenSequence]) -> list[int]:
    """Indices, longest first: neighbours of equal length share a kernel call, and memory peaks in the first batch."""
    return sorted(range(len(sequences)), key=lambda i: -len(sequences[i].ids))


def pack(
    sequences: Sequence[TokenSequence], device: torch.device, round_up: Callable[[int], int] | None = None
) -> PackedBatch:
    """Lay sequences end to end in one tensor on the device; no padding.

    Args:
        round_up: the numbers of sequences and of tokens to come to at least, by adding sequences whose scores mean
            nothing behind all others; None: none are added.
    """
    if round_up is not None:
        sequences = [*sequences, *_fill(sequences, round_up)]
    ids = torch.tensor(list(chain.from_iterable(sequence.ids for sequence in sequences)))
    layout = Layout(tuple(len(sequence.ids) for sequence in sequences), device)
    return PackedBatch(to_device(ids, device), layout, tuple(sequence.passage for sequence in sequences))


def _fill(sequences: Sequence[TokenSequence], round_up: Callable[[int], int]) -> list[TokenSequence]:
    """Sequences, none longer than the longest there is, so that both numbers come out round."""
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
    token = sequences[0].ids[:1]
    return [TokenSequence(token * (short + (i < longer)), (0, 0)) for i in range(count)]
