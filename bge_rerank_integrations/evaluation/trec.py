"""TREC run files: read as candidates, and written with scores that give every reader the same order.

trec_eval reads scores as 32-bit floats, ignores the ranks, and sorts equal scores by the documents' names. Therefore a
score is written as a 32-bit float. If it is not below the one before it, the next lower 32-bit float is written. The
file then has one order only: if a model scores all documents equally, it is that of the first stage.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bge_rerank_integrations.errors import DataError
from bge_rerank_integrations.evaluation.data import Problems, lines
from bge_rerank_integrations.ranking import rank
from bge_rerank_integrations.textfiles import UTF_8, shortened

Run = dict[str, dict[str, float]]
"""For each query, documents with strictly falling scores that are exact as 32-bit floats."""


def ranked(documents: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    """Documents best first, ties in the order given, with the scores to write."""
    written: dict[str, float] = {}
    lowest = np.float32(np.inf)
    for index, score in rank(scores):
        lowest = min(np.float32(score), np.nextafter(lowest, np.float32(-np.inf)))
        written[documents[index]] = float(lowest)
    return written


def write_run(path: Path, run: Mapping[str, Mapping[str, float]], tag: str) -> None:
    """Write a run. The tag must have no white space."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for query, documents in run.items():
            for position, (document, score) in enumerate(documents.items(), 1):
                file.write(f"{query} Q0 {document} {position} {score:.9g} {tag}\n")


def read_run(
    path: Path,
    queries: Container[str],
    corpus: Container[str],
    depth: int | None,
    problems: Problems,
    encoding: str = UTF_8,
) -> Run:
    """The best `depth` documents of each query, or all, by score; equal scores by their rank in the file.

    Raises:
        DataError: a line is malformed, names an unknown query or document, or gives a document twice.
    """
    found: dict[str, dict[str, tuple[float, int]]] = {}
    for where, line in lines(path, encoding):
        columns = line.split()
        if len(columns) != 6:
            raise DataError(f"{where} is {shortened(line)!r}: six columns are needed: query Q0 document rank score tag")
        query, _, document, given, written, _ = columns
        score, position = _number(written), _number(given)
        if score is None or position is None:
            raise DataError(f"{where}: rank={given!r}, score={written!r}: use finite numbers that fit 32 bits")
        if query not in queries:
            problems.found(
                "candidates of unknown queries",
                f"{where}: query {query!r} is not in queries.jsonl: remove it, or use a run of this data",
            )
        elif document not in corpus:
            problems.found(
                "unknown candidates",
                f"{where}: document {document!r} is not in corpus.jsonl (or has no text): remove it, or use a "
                "run of this data",
            )
        elif document in found.get(query, {}):
            problems.found(
                "candidates given twice",
                f"{where}: document {document!r} is given twice for query {query!r}: remove one",
            )
        elif document != query:
            found.setdefault(query, {})[document] = (-score, int(position))
    return {query: _best(documents.items(), depth) for query, documents in found.items()}


def _best(documents: Iterable[tuple[str, tuple[float, int]]], depth: int | None) -> dict[str, float]:
    ordered = sorted(documents, key=lambda item: item[1])
    return {document: -score for document, (score, _) in ordered[:depth]}


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) <= float(np.finfo(np.float32).max) else None
