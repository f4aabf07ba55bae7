"""Where each sequence is in a packed tensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Sequences end to end along the first axis of a tensor, without padding."""

    lengths: tuple[int, ...]
    device: torch.device
    prefixes: tuple[int, ...] | None = None
    """For each sequence, the index of its prefix, or its own index if it has none. A prefix of several sequences is
    stored once, as a sequence of its own. None: no sequence has a prefix."""

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
        """For each token, its position in its sequence, prefix included, from 0. *Shape:* (tokens,)"""
        positions = torch.arange(self.tokens, device=self.device) - self.starts
        if self.prefixes is None:
            return positions
        before = [whole - own for whole, own in zip(self.context.lengths, self.lengths, strict=True)]
        lengths, shifts = (to_device(torch.tensor(counts), self.device) for counts in (self.lengths, before))
        return positions + torch.repeat_interleave(shifts, lengths, output_size=self.tokens)

    @property
    def first(self) -> Tensor:
        """The index of each sequence's first token. *Shape:* (sequences,)"""
        return self.cumulative[:-1].long()

    @property
    def last(self) -> Tensor:
        """The index of each sequence's last token. *Shape:* (sequences,)"""
        return self.cumulative[1:].long() - 1

    @cached_property
    def context(self) -> Layout:
        """The sequences with their prefixes, as attention reads them; this layout if there are none."""
        if self.prefixes is None:
            return self
        whole = (
            length + (self.lengths[prefix] if prefix != index else 0)
            for index, (length, prefix) in enumerate(zip(self.lengths, self.prefixes, strict=True))
        )
        return Layout(tuple(whole), self.device)

    @cached_property
    def context_index(self) -> Tensor:
        """For each token of `context`, its index here. *Shape:* (context.tokens,)"""
        assert self.prefixes is not None
        parts = []
        for index, prefix in enumerate(self.prefixes):
            for sequence in dict.fromkeys((prefix, index)):
                parts.append(torch.arange(self.offsets[sequence], self.offsets[sequence + 1]))
        return to_device(torch.cat(parts), self.device)

    @cached_property
    def single(self) -> Layout:
        """The same number of sequences, of one token each: the layout when only the token that is read is left."""
        return Layout((1,) * len(self.lengths), self.device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a small tensor from the CPU to the device; to a GPU from pinned memory, without waiting."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
