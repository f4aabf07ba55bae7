"""What `bge-rerank rank` reads: texts out of plain files, JSON lines, JSON, CSV and TSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Any

from bge_rerank_integrations.errors import DataError
from bge_rerank_integrations.textfiles import (
    Source,
    checked_text,
    name_of,
    parse_json,
    read_json_lines,
    read_lines,
    read_text,
    shortened,
)

SEPARATORS = {".csv": ",;\t", ".tsv": "\t"}
LONGEST_CELL = 2**31 - 1  # csv's own limit would refuse a text of 131,073 letters


class Split(str, Enum):
    """What makes one text of a plain file."""

    line = "line"
    paragraph = "paragraph"
    file = "file"


@dataclass(frozen=True)
class Entry:
    """A text to score, and whatever else its object or its line of a table had."""

    text: str
    others: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    """The file, where there are several."""


@dataclass(frozen=True)
class Reader:
    """How texts are read.

    Args:
        key: of an object, or head of a column, that holds the text.
        json_lines: whether everything is JSON lines, whatever files are called.
        encoding: of all files, by a name that Python knows.
    """

    split: Split
    key: str
    json_lines: bool
    encoding: str

    def read(self, files: list[Path]) -> list[Entry]:
        """Every text, in the order of the files; without files, those of standard input, which "-" names too.

        Raises:
            DataError: a file cannot be read as what it is; names file, line and remedy.
            OptionError: there is no such encoding.
        """
        sources: list[Source] = [_standard_input() if str(file) == "-" else file for file in files or [Path("-")]]
        named = len(files) > 1
        return [
            Entry(entry.text, entry.others, name_of(source) if named else "")
            for source in sources
            for entry in self._entries(source)
        ]

    def _entries(self, source: Source) -> Iterator[Entry]:
        suffix = source.suffix.lower() if isinstance(source, Path) else ""
        if self.json_lines or suffix in (".jsonl", ".ndjson"):
            yield from (self._of_json(value, where) for where, value in read_json_lines(source, self.encoding))
        elif suffix == ".json":
            yield from self._of_array(source)
        elif suffix in SEPARATORS:
            yield from self._of_table(source, suffix)
        else:
            yield from (Entry(part.strip()) for part in self._parts(source) if part.strip())

    def _parts(self, source: Source) -> Iterator[str]:
        if self.split is Split.file:
            yield read_text(source, self.encoding)
            return
        lines = (line for _, line in read_lines(source, self.encoding))
        if self.split is Split.line:
            yield from lines
        else:
            yield from ("\n".join(group) for _, group in groupby(lines, lambda line: bool(line.strip())))

    def _of_array(self, source: Source) -> Iterator[Entry]:
        name = name_of(source)
        try:
            values = parse_json(read_text(source, self.encoding), name)
        except DataError as error:
            raise DataError(f"{error}; if each line is JSON by itself, add --jsonl") from error
        if not isinstance(values, list):
            raise DataError(f"{name} holds {shortened(repr(values))}: an array of strings or objects is needed")
        for index, value in enumerate(values):
            yield self._of_json(value, f"{name}, entry {index}")

    def _of_json(self, value: Any, where: str) -> Entry:
        if isinstance(value, str):
            return Entry(checked_text(where, "text", value))
        if not isinstance(value, dict):
            raise DataError(
                f"{where} is {shortened(json.dumps(value))}: give a string, or an object with a text under {self.key!r}"
            )
        if self.key not in value:
            raise DataError(f"{where} has no {self.key!r}: --field takes one of {shortened(', '.join(value))}")
        return Entry(checked_text(where, self.key, value[self.key]), value)

    def _of_table(self, source: Source, suffix: str) -> Iterator[Entry]:
        name = name_of(source)
        (_, heads), *rows = _rows(read_text(source, self.encoding), name, suffix) or [(name, [])]
        if heads and self.key not in heads:
            raise DataError(f"{name} has no column {self.key!r}: --field takes one of {shortened(', '.join(heads))}")
        if heads.count(self.key) > 1:
            raise DataError(f"{name} has {heads.count(self.key)} columns {self.key!r}: rename all but one")
        for where, row in rows:
            if len(row) > len(heads):
                raise DataError(
                    f"{where} has {len(row)} cells under {len(heads)} heads: put quotes around a text that holds the "
                    "separator"
                )
            cells = dict(zip(heads, row, strict=False))
            if cells.get(self.key, "").strip():
                yield Entry(cells[self.key], cells)


def _rows(content: str, name: str, suffix: str) -> list[tuple[str, list[str]]]:
    """The rows of a table that are not blank, each after the words that say where it begins."""
    head = content.lstrip().partition("\n")[0]
    separator = max(SEPARATORS[suffix], key=head.count)
    lines = (line + "\n" for line in content.split("\n"))
    table = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    rows = []
    start = 1
    limit = csv.field_size_limit(LONGEST_CELL)
    try:
        for row in table:
            if row:
                rows.append((f"{name}, line {start}", row))
            start = table.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{name}, line {start} is not {suffix[1:].upper()} ({error}): a text with a quotation mark stands in "
            "quotation marks, and has its own doubled"
        ) from error
    finally:
        csv.field_size_limit(limit)
    return rows


def _standard_input() -> Source:
    if sys.stdin is None:
        raise DataError("there is no standard input: name files")
    if sys.stdin.isatty():
        print("Texts, one a line; an end of file (Ctrl-D, on Windows Ctrl-Z and Enter) ends them:", file=sys.stderr)
    return sys.stdin.buffer
