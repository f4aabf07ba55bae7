"""Parquet. A file is read from its beginning to its end, a few thousand rows in memory at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from bge_rerank_integrations.dataset.formats import Scored, Survey
from bge_rerank_integrations.dataset.plan import Block
from bge_rerank_integrations.dataset.rows import Columns, IdType, Row, Shape, find_shape, row_of
from bge_rerank_integrations.errors import DataError

BATCH_ROWS = 1024


class Parquet:
    """Reads and writes Parquet."""

    suffix = "parquet"

    def shape(self, path: Path, columns: Columns) -> Shape | None:
        schema = _opened(path).schema_arrow
        types = {field.name: _plain(field.type) for field in schema}
        kinds = {name: _is_list(kind) for name, kind in types.items()}
        shape = find_shape(columns, kinds, _id_type(types.get(columns.id)), str(path))
        for name in (shape.query, shape.passage):
            inner = _plain(types[name].value_type) if name == shape.passage and shape.several else types[name]
            if not _is_text(inner):
                raise DataError(f"{path}: column {name!r} is of type {types[name]}: strings are needed")
        if shape.id_type == "string" and not _is_text(types[shape.id]):
            raise DataError(f"{path}: column {shape.id!r} is of type {types[shape.id]}: use strings or whole numbers")
        return shape

    def survey(self, path: Path, block_rows: int) -> Survey:
        rows = _opened(path).metadata.num_rows
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while piece := file.read(1 << 20):
                digest.update(piece)
        return Survey(rows, digest.hexdigest(), [])

    def read(self, path: Path, survey: Survey, blocks: Sequence[Block], shape: Shape) -> Iterator[list[Row]]:
        file = _opened(path)
        ahead = iter(blocks)
        block = next(ahead, None)
        rows: list[Row] = []
        for position, values in _values(file, path, blocks, shape):
            if block is not None and position >= block.first:
                rows.append(row_of(values, position + 1, f"{path}, row {position + 1}", shape))
                if len(rows) == block.rows:
                    yield rows
                    block, rows = next(ahead, None), []

    def write(self, file: BinaryIO, scored: Sequence[Scored], shape: Shape) -> None:
        ids = [str(identity) if shape.id_type == "string" else identity for identity, _ in scored]
        columns = {"id": pa.array(ids, getattr(pa, shape.id_type)())}
        if shape.several:
            columns["scores"] = pa.array([scores for _, scores in scored], pa.list_(pa.float64()))
        else:
            columns["score"] = pa.array([scores[0] for _, scores in scored], pa.float64())
        pq.write_table(pa.table(columns), file, compression="zstd")


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is not Parquet, or damaged: {error}") from error


def _values(
    file: pq.ParquetFile, path: Path, blocks: Sequence[Block], shape: Shape
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every row of the row groups that hold some of the blocks, after its index in the file."""
    names = [shape.id, shape.query, shape.passage]
    start = 0
    for group in range(file.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        position = start
        if any(block.first < end and block.first + block.rows > start for block in blocks):
            try:
                for batch in file.iter_batches(BATCH_ROWS, [group], names):
                    columns = [_column(batch.column(name)) for name in names]
                    for values in zip(*columns, strict=True):
                        yield position, dict(zip(names, values, strict=True))
                        position += 1
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{path} is damaged after row {position}: {error}") from error
        start = end


def _column(column: pa.Array) -> list[Any]:
    """The column's values; those that are no text in UTF-8 as bytes, which a row then complains about."""
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        values = [_value(value) for value in column]
    return values


def _value(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return [_value(one) for one in value.values] if _is_list(value.type) else value.as_buffer().to_pybytes()


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    return any(is_one(kind) for is_one in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _is_text(kind: pa.DataType) -> bool:
    return any(is_one(kind) for is_one in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _id_type(kind: pa.DataType | None) -> IdType:
    if kind is None or not pa.types.is_integer(kind):
        return "string"
    return "uint64" if kind == pa.uint64() else "int64"
