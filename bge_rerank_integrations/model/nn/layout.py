"""Where each sequence is in a packed tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from bge_rerank_integrations.once import once

_ALIGNMENT = 16
"""Bytes: what every tensor in a joint transfer starts at a multiple of."""


@dataclass(frozen=True)
class Layout:
    """Sequences end to end along the first axis of a tensor, without padding."""

    lengths: tuple[int, ...]
    device: torch.device
    prefixes: tuple[int, ...] | None = None
    """For each sequence, the index of its prefix, or its own index if it has none. A prefix of several sequences is
    stored once, as a sequence of its own. None: no sequence has a prefix."""

    @once
    def offsets(self) -> tuple[int, ...]:
        """Where each sequence starts, and the total at the end: one more than there are sequences."""
        return tuple(accumulate(self.lengths, initial=0))

    @property
    def tokens(self) -> int:
        return self.offsets[-1]

    @once
    def longest(self) -> int:
        return max(self.lengths)

    @once
    def cumulative(self) -> Tensor:
        """`offsets` as a tensor. *Shape:* (sequences + 1,), int32."""
        return torch.tensor(self.offsets, dtype=torch.int32, device=self.device)

    @once
    def sequence(self) -> Tensor:
        """For each token, the index of its sequence. *Shape:* (tokens,)"""
        indices = torch.arange(len(self.lengths), device=self.device)
        lengths = torch.tensor(self.lengths, device=self.device)
        return torch.repeat_interleave(indices, lengths, output_size=self.tokens)

    @property
    def starts(self) -> Tensor:
        """For each token, where its sequence starts. *Shape:* (tokens,)"""
        return self.first[self.sequence]

    @once
    def positions(self) -> Tensor:
        """For each token, its position in its sequence, prefix included, from 0. *Shape:* (tokens,)"""
        before = [0] * len(self.lengths)
        if self.prefixes is not None:
            before = [whole - own for whole, own in zip(self.context.lengths, self.lengths, strict=True)]
        shifts = [count - offset for count, offset in zip(before, self.offsets, strict=False)]
        return torch.arange(self.tokens, device=self.device) + torch.tensor(shifts, device=self.device)[self.sequence]

    @property
    def own_positions(self) -> Tensor:
        """As `positions`, but from 0 after the prefix. *Shape:* (tokens,)"""
        return torch.arange(self.tokens, device=self.device) - self.starts

    @once
    def first(self) -> Tensor:
        """The index of each sequence's first token. *Shape:* (sequences,)"""
        return torch.tensor(self.offsets[:-1], device=self.device)

    @once
    def last(self) -> Tensor:
        """The index of each sequence's last token. *Shape:* (sequences,)"""
        return torch.tensor(self.offsets[1:], device=self.device) - 1

    @once
    def context(self) -> Layout:
        """The sequences with their prefixes, as attention reads them; this layout if there are none."""
        if self.prefixes is None:
            return self
        whole = (
            length + (self.lengths[prefix] if prefix != index else 0)
            for index, (length, prefix) in enumerate(zip(self.lengths, self.prefixes, strict=True))
        )
        return Layout(tuple(whole), self.device)

    @once
    def context_index(self) -> Tensor:
        """For each token of `context`, its index here. *Shape:* (context.tokens,)"""
        assert self.prefixes is not None
        parts = []
        for index, prefix in enumerate(self.prefixes):
            for sequence in dict.fromkeys((prefix, index)):
                parts.append(torch.arange(self.offsets[sequence], self.offsets[sequence + 1], device=self.device))
        return torch.cat(parts)

    @once
    def single(self) -> Layout:
        """The same number of sequences, of one token each: the layout when only the token that is read is left."""
        return self if self.longest == 1 and self.prefixes is None else Layout((1,) * len(self.lengths), self.device)

    def tensors(self) -> list[Tensor]:
        """All that a forward pass reads of this layout, and of those that belong to it."""
        own = [getattr(self, name) for name in self._names]
        return own + [tensor for name in self._parts for tensor in getattr(self, name).tensors()]

    def placed(self, device: torch.device, tensors: Iterator[Tensor]) -> Layout:
        """This layout on a device that has copies of its `tensors`: nothing is worked out there."""
        placed = replace(self, device=device)
        vars(placed).update(zip(self._names, tensors, strict=False))  # where a cached property looks first
        vars(placed).update({name: getattr(self, name).placed(device, tensors) for name in self._parts})
        return placed

    @property
    def _names(self) -> tuple[str, ...]:
        names = ("cumulative", "sequence", "positions", "first", "last")
        return names if self.prefixes is None else (*names, "context_index")

    @property
    def _parts(self) -> tuple[str, ...]:
        parts = () if self.single is self else ("single",)
        return parts if self.prefixes is None else (*parts, "context")


def copy_at_once(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Copies of tensors of the CPU, made in one transfer; to a GPU from pinned memory, without waiting for it."""
    starts = list(accumulate((-(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT for tensor in tensors), initial=0))
    together = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")

    def part(whole: Tensor, index: int) -> Tensor:
        tensor = tensors[index]
        return whole[starts[index] : starts[index] + tensor.nbytes].view(tensor.dtype).view(tensor.shape)

    for index, tensor in enumerate(tensors):
        part(together, index).copy_(tensor)
    there = together.to(device, non_blocking=True)
    return [part(there, index) for index in range(len(tensors))]
