"""What a file format must be able to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from bge_rerank_integrations.dataset.plan import Block
from bge_rerank_integrations.dataset.rows import Columns, Row, Shape

Scored = tuple[str | int, list[float]]
"""A row's id, and a score for each of its passages."""


@dataclass(frozen=True)
class Survey:
    """What one reading of a file found."""

    rows: int
    digest: str
    """SHA-256 of the file."""
    starts: list[list[int]]
    """For each block, where it begins: its byte, and its line counted from 1. Empty: the format needs none."""


class Format(Protocol):
    """How rows are read and scores are written. All raise DataError with file and row for what cannot be read."""

    suffix: str

    def shape(self, path: Path, columns: Columns) -> Shape | None:
        """How this file's rows are built; None: it has none to tell from."""

    def survey(self, path: Path, block_rows: int) -> Survey:
        """Read the file once, from its beginning to its end."""

    def read(self, path: Path, survey: Survey, blocks: Sequence[Block], shape: Shape) -> Iterator[list[Row]]:
        """The rows of each of these blocks, which are some of the file's, in order."""

    def write(self, file: BinaryIO, scored: Sequence[Scored], shape: Shape) -> None:
        """Write the scores of a block."""
