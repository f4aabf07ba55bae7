"""The input: which files, how many rows, and whether they are the same as before."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from bge_rerank_integrations.dataset.formats import Format, Survey
from bge_rerank_integrations.dataset.json_lines import JsonLines
from bge_rerank_integrations.dataset.parquet import Parquet
from bge_rerank_integrations.dataset.plan import Block
from bge_rerank_integrations.dataset.rows import Columns, Row, Shape
from bge_rerank_integrations.dataset.runner import Watch
from bge_rerank_integrations.errors import DataError

FORMATS: Mapping[str, Format] = {
    ".jsonl": JsonLines(),
    ".ndjson": JsonLines(),
    ".parquet": Parquet(),
    ".pq": Parquet(),
}


@dataclass(frozen=True)
class InputFile:
    """A file of rows."""

    path: Path
    size: int
    """In bytes."""
    modified: int
    """In nanoseconds."""

    @property
    def format(self) -> Format:
        return FORMATS[self.path.suffix.lower()]


@dataclass(frozen=True)
class Source:
    """Every file of a data set, surveyed."""

    files: Sequence[InputFile]
    surveys: Sequence[Survey]
    shape: Shape

    def rows(self, blocks: Sequence[Block]) -> Iterator[tuple[Block, list[Row]]]:
        """These blocks, in order, and the rows of each.

        Raises:
            DataError: a file is damaged, or is not any more what it was when it was surveyed.
        """
        for index, group in groupby(blocks, lambda block: block.file):
            mine = list(group)
            file = self.files[index]
            for block, rows in zip(
                mine, file.format.read(file.path, self.surveys[index], mine, self.shape), strict=True
            ):
                if len(rows) != block.rows or _input_file(file.path) != file:
                    raise DataError(f"{file.path} was changed while it was read: put back what it was")
                yield block, rows

    def describe(self) -> list[dict[str, Any]]:
        """What a later run compares its own input with."""
        return [
            {"name": file.path.name, "size": file.size, "modified": file.modified, **vars(survey)}
            for file, survey in zip(self.files, self.surveys, strict=True)
        ]


def find_files(path: str | os.PathLike[str]) -> list[InputFile]:
    """A file, or the files of a folder by name; those whose names begin with "." or "_" are not data.

    Raises:
        DataError: there is none, or one is of no known format; files in folders within the folder are not looked for.
    """
    path = Path(path)
    if path.is_dir():
        paths = sorted(found for found in path.iterdir() if found.is_file() and found.name[0] not in "._")
    elif path.exists():
        paths = [path]
    else:
        raise DataError(f"{path} does not exist")
    if not paths:
        raise DataError(f"{path} has no files: name a file, or a folder with .parquet or .jsonl files")
    for found in paths:
        if found.suffix.lower() not in FORMATS:
            raise DataError(f"{found} ends in {found.suffix!r}: use one of {', '.join(FORMATS)}, not compressed")
    return [_input_file(found) for found in paths]


def find_common_shape(files: Sequence[InputFile], columns: Columns) -> Shape:
    """The shape that all files have.

    Raises:
        DataError: two differ, one has not the columns, or none has rows.
    """
    first: tuple[Path, Shape] | None = None
    for file in files:
        shape = file.format.shape(file.path, columns)
        if shape is not None and first is not None and shape != first[1]:
            raise DataError(
                f"{file.path} and {first[0]} are built in different ways ({shape} and {first[1]}): score them apart"
            )
        if shape is not None and first is None:
            first = (file.path, shape)
    if first is None:
        raise DataError(f"{files[0].path.parent if len(files) > 1 else files[0].path} has no rows: nothing to score")
    return first[1]


def survey_files(
    files: Sequence[InputFile], block_rows: int, known: Sequence[Mapping[str, Any]], watch: Watch
) -> list[Survey]:
    """Read every file once; those that are known and have the size and time of then are taken as they were."""
    total = sum(file.size for file in files)
    by_name = {entry["name"]: entry for entry in known}
    surveys = []
    read = 0
    for file in files:
        watch("reading files", read, total)
        entry = by_name.get(file.path.name)
        if entry is not None and (entry["size"], entry["modified"]) == (file.size, file.modified):
            surveys.append(Survey(entry["rows"], entry["digest"], entry["starts"]))
        else:
            surveys.append(file.format.survey(file.path, block_rows))
        read += file.size
    watch("reading files", total, total)
    return surveys


def _input_file(path: Path) -> InputFile:
    try:
        with path.open("rb"):
            found = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return InputFile(path, found.st_size, found.st_mtime_ns)
