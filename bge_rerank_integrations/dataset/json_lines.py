"""JSON lines: one object a line, in UTF-8. Blank lines are no rows."""

from __future__ import annotations

import hashlib
import json
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from bge_rerank_integrations.dataset.formats import Scored, Survey
from bge_rerank_integrations.dataset.plan import Block
from bge_rerank_integrations.dataset.rows import Columns, Row, Shape, find_shape, row_of
from bge_rerank_integrations.errors import DataError
from bge_rerank_integrations.textfiles import parse_json, read_json_lines, shortened

LOOKED_AT = 100
"""Lines at the beginning of a file, one of which must show which keys the rows have."""


class JsonLines:
    """Reads and writes JSON lines."""

    suffix = "jsonl"

    def shape(self, path: Path, columns: Columns) -> Shape | None:
        """That of the first row which has one: a broken row at the beginning is set aside as any other is."""
        first: DataError | None = None
        with path.open("rb") as file:
            for number, line in _numbered(islice(file, LOOKED_AT), 1):
                where = f"{path}, line {number}"
                try:
                    kinds = {key: isinstance(value, list) for key, value in _object(line, where).items()}
                    return find_shape(columns, kinds, "string", where)
                except DataError as error:
                    first = first or error
        if first is None:
            return None
        next(read_json_lines(path), None)  # says what a file is that is no text in UTF-8, and what it looks like
        raise first

    def survey(self, path: Path, block_rows: int) -> Survey:
        digest = hashlib.sha256()
        starts: list[list[int]] = []
        rows = position = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                digest.update(line)
                if not _is_blank(line):
                    if rows % block_rows == 0:
                        starts.append([position, number])
                    rows += 1
                position += len(line)
        return Survey(rows, digest.hexdigest(), starts)

    def read(self, path: Path, survey: Survey, blocks: Sequence[Block], shape: Shape) -> Iterator[list[Row]]:
        with path.open("rb") as file:
            for block in blocks:
                position, start = survey.starts[block.index]
                file.seek(position)
                lines = islice(_numbered(file, start), block.rows)
                yield [_row(line, number, f"{path}, line {number}", shape) for number, line in lines]

    def write(self, file: BinaryIO, scored: Sequence[Scored], shape: Shape) -> None:
        for identity, scores in scored:
            found = {"scores": scores} if shape.several else {"score": scores[0]}
            file.write(json.dumps({"id": identity, **found}, ensure_ascii=False).encode() + b"\n")


def _numbered(lines: Iterator[bytes] | BinaryIO, start: int) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(lines, start) if not _is_blank(line))


def _is_blank(line: bytes) -> bool:
    return not line.strip() or line.strip() == BOM_UTF8


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        text = line.removeprefix(BOM_UTF8).decode().strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 ({error.reason} at byte {error.start}): convert it") from error
    values = parse_json(text, where)
    if not isinstance(values, dict):
        raise DataError(f"{where} holds {shortened(text)}: an object is needed")
    return values


def _row(line: bytes, number: int, where: str, shape: Shape) -> Row:
    try:
        return row_of(_object(line, where), number, where, shape)
    except DataError as error:
        return Row(number, None, [], str(error))
