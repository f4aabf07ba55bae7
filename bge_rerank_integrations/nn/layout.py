"""Where each sequence lies in a packed tensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from typing import NamedTuple

import torch
from torch import Tensor


class Run(NamedTuple):
    """Neighbouring sequences of one length: `repeats` of them from token `start` on."""

    start: int
    repeats: int
    length: int


@dataclass(frozen=True)
class Layout:
    """Sequences laid end to end along the first axis of a tensor, without padding."""

    lengths: tuple[int, ...]
    device: torch.device

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each sequence starts, and the total at the end: one more than there are sequences."""
        return tuple(accumulate(self.lengths, initial=0))

    @property
    def tokens(self) -> int:
        return self.offsets[-1]

    @cached_property
    def longest(self) -> int:
        return max(self.lengths)

    @cached_property
    def cumulative(self) -> Tensor:
        """`offsets` on the device. *Shape:* (sequences + 1,), int32."""
        return to_device(torch.tensor(self.offsets, dtype=torch.int32), self.device)

    @cached_property
    def starts(self) -> Tensor:
        """For each token, where its sequence starts. *Shape:* (tokens,)"""
        lengths = to_device(torch.tensor(self.lengths), self.device)
        return torch.repeat_interleave(self.cumulative[:-1].long(), lengths, output_size=self.tokens)

    @cached_property
    def positions(self) -> Tensor:
        """For each token, its place in its sequence, from 0. *Shape:* (tokens,)"""
        return torch.arange(self.tokens, device=self.device) - self.starts

    @property
    def first(self) -> Tensor:
        """The index of each sequence's first token. *Shape:* (sequences,)"""
        return self.cumulative[:-1].long()

    @property
    def last(self) -> Tensor:
        """The index of each sequence's last token. *Shape:* (sequences,)"""
        return self.cumulative[1:].long() - 1

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Neighbours of equal length, which a dense kernel can take in one call."""
        runs, start = [], 0
        for length, group in groupby(self.lengths):
            run = Run(start, len(list(group)), length)
            runs.append(run)
            start += run.repeats * length
        return tuple(runs)

    @cached_property
    def single(self) -> Layout:
        """As many sequences of one token each: the layout once only the token that is read is left."""
        return Layout((1,) * len(self.lengths), self.device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a small host tensor over; from pinned memory and without waiting where that is possible."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
