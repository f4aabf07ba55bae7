"""Which rows make which block: the same input and block size always give the same blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """Rows that are scored together and whose scores make one output file."""

    number: int
    """Of the block, counted from 0 over all files."""
    file: int
    """The index of the input file."""
    index: int
    """Of the block within its file."""
    first: int
    """The index of its first row within the file."""
    rows: int


def plan_blocks(rows_of_files: Sequence[int], block_rows: int) -> list[Block]:
    """Cut files into blocks: in order, none empty, none over the end of a file.

    Args:
        rows_of_files: how many rows each input file has.
        block_rows: how many rows a block has; the last one of a file has what is left.
    """
    blocks: list[Block] = []
    for file, rows in enumerate(rows_of_files):
        for index, first in enumerate(range(0, rows, block_rows)):
            blocks.append(Block(len(blocks), file, index, first, min(block_rows, rows - first)))
    return blocks
