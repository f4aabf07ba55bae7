"""What is evaluated on: queries, their candidates in the order of a first stage, and which of them are relevant."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bge_rerank_integrations.errors import DataError

Watch = Callable[[str, int, int], object]
"""Called with what is being done, how much of it is done, and how much there is."""


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
    """For each query its candidates' ids and first-stage scores, best first; empty where nothing was found."""
    qrels: dict[str, dict[str, int]]
    """For each query how relevant documents are, by id; 0 is not relevant. Documents outside `candidates` count."""
    first_stage: str
    """What put the candidates in their order, such as "BM25"."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the figures must know."""

    @property
    def depth(self) -> int:
        """Candidates that a query has at most."""
        return max(map(len, self.candidates.values()))

    def pairs(self, query: str) -> list[tuple[str, str]]:
        """Query text and text of each candidate, in first-stage order."""
        return [(self.queries[query], self.texts[document]) for document in self.candidates[query]]

    def fingerprint(self) -> str:
        """Changes with anything that scores or measures depend on."""
        digest = hashlib.sha256()
        for query, text in self.queries.items():
            found = [[document, self.texts[document]] for document in self.candidates[query]]
            digest.update(json.dumps([query, text, found, sorted(self.qrels[query].items())]).encode())
        return digest.hexdigest()


class Problems:
    """What to do about lines that cannot be used: refuse the first, or leave them out and count them."""

    def __init__(self, skip: bool) -> None:
        self._skip = skip
        self._skipped: Counter[str] = Counter()

    def found(self, kind: str, message: str) -> None:
        """Raise, or count one more of its kind; the caller then leaves it out."""
        if not self._skip:
            raise DataError(f"{message}; skip_bad (--skip-bad) leaves out all such lines and counts them")
        self._skipped[kind] += 1

    def notes(self) -> list[str]:
        return [f"left out: {count:,} {kind}" for kind, count in self._skipped.items()]


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line that is not blank, after the words that say where it is; a file without any is an error."""
    empty = True
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                where = f"{path}, line {number}"
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{where} is not UTF-8 ({error.reason} at byte {error.start}): convert it"
                    ) from error
                if line.strip():
                    empty = False
                    yield where, line
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder: a file is needed") from error
    if empty:
        raise DataError(f"{path} is empty: it needs at least one line")


def objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each JSON object of a JSON-lines file, after the words that say where it is."""
    for where, line in lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # no JSON, or a number of thousands of digits
            raise DataError(f"{where} is not JSON ({error}): {shortened(line)}; write one object a line") from error
        if not isinstance(row, dict):
            raise DataError(f"{where} is {shortened(line)}: write an object, such as {{...}}")
        yield where, row


def checked_text(where: str, key: str, value: object) -> str:
    """The value as a string that can be tokenized, or an error that names it."""
    if not isinstance(value, str):
        missing = value is None
        raise DataError(
            f"{where} has no {key!r}: add it" if missing else f"{where}: {key}={shortened(repr(value))}: use a string"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: {key} holds half a surrogate pair ({shortened(value)!a}): remove it") from error
    return value


def shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
