"""The data of an evaluation: queries, their candidates in the order of a first stage, and which are relevant."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bge_rerank_integrations.errors import DataError
from bge_rerank_integrations.textfiles import UTF_8, read_json_lines, read_lines, shortened

Item = TypeVar("Item")

Watch = Callable[[str, int, int], object]
"""Called with the name of a step, how much of it is done, and how much there is."""


def unwatched(what: str, done: int, total: int) -> None:
    """Does nothing."""


@dataclass(frozen=True)
class Dataset:
    """Queries with candidates and judgements. `read_beir` and `read_jsonl` make one."""

    name: str
    queries: dict[str, str]
    """Text of each query by its id; every one has a relevant document."""
    texts: dict[str, str]
    """Text of each candidate by its id."""
    candidates: dict[str, dict[str, float]]
    """For each query its candidates' ids and first-stage scores, best first; empty if nothing was found."""
    qrels: dict[str, dict[str, int]]
    """For each query the relevance of documents by id; 0 is not relevant. Documents that are not candidates count."""
    first_stage: str
    """The name of the first stage, such as "BM25"."""
    notes: list[str] = field(default_factory=list)
    """What readers of the figures must know."""

    @property
    def depth(self) -> int:
        """The largest number of candidates of a query."""
        return max(map(len, self.candidates.values()))

    def pairs(self, query: str) -> list[tuple[str, str]]:
        """The query's text with the text of each candidate, in first-stage order."""
        return [(self.queries[query], self.texts[document]) for document in self.candidates[query]]

    def fingerprint(self) -> str:
        """Changes if any data changes that scores or measures depend on."""
        digest = hashlib.sha256()
        for query, text in self.queries.items():
            found = [[document, self.texts[document]] for document in self.candidates[query]]
            digest.update(json.dumps([query, text, found, sorted(self.qrels[query].items())]).encode())
        return digest.hexdigest()


class Problems:
    """Lines that cannot be used: the first is an error, or all are left out and counted."""

    def __init__(self, skip: bool) -> None:
        self._skip = skip
        self._skipped: Counter[str] = Counter()

    def found(self, kind: str, message: str) -> None:
        """Raise, or count one more of this kind. The caller then leaves it out."""
        if not self._skip:
            raise DataError(f"{message}; skip_bad (--skip-bad) leaves out all such lines and counts them")
        self._skipped[kind] += 1

    def notes(self) -> list[str]:
        return [f"left out: {kind} ({count:,})" for kind, count in self._skipped.items()]


def lines(path: Path, encoding: str = UTF_8) -> Iterator[tuple[str, str]]:
    """Each line that is not blank, with the words that say where it is: (where, line). An empty file is an error."""
    return _filled(path, ((where, line) for where, line in read_lines(path, encoding) if line.strip()))


def objects(path: Path, encoding: str = UTF_8) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each JSON object of a JSON Lines file, with the words that say where it is: (where, object)."""
    for where, row in _filled(path, read_json_lines(path, encoding)):
        if not isinstance(row, dict):
            raise DataError(f"{where} is {shortened(json.dumps(row))}: write an object, such as {{...}}")
        yield where, row


def _filled(path: Path, found: Iterator[tuple[str, Item]]) -> Iterator[tuple[str, Item]]:
    empty = True
    for where, item in found:
        empty = False
        yield where, item
    if empty:
        raise DataError(f"{path} is empty: it needs at least one line")


def counted(count: int, one: str, many: str) -> str:
    """A number with its noun: "1 query", "2 queries"."""
    return f"{count:,} {one if count == 1 else many}"
