"""A JSON Lines file: each line has a query, texts that answer it, and texts that do not."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bge_rerank_integrations.errors import DataError
from bge_rerank_integrations.evaluation.data import Dataset, Problems, Watch, counted, objects, unwatched
from bge_rerank_integrations.evaluation.first_stage import in_bm25_order
from bge_rerank_integrations.textfiles import UTF_8, checked_text, shortened


@dataclass
class _Query:
    """The texts in the lines of one query. Dictionaries keep the order given, and each text once."""

    number: int
    """The number of its first line, counted from 1; blank lines are not counted."""
    where: str
    negatives: dict[str, None] = field(default_factory=dict)
    positives: dict[str, None] = field(default_factory=dict)


def read_jsonl(
    path: str | os.PathLike[str], *, skip_bad: bool = False, encoding: str = UTF_8, watch: Watch = unwatched
) -> Dataset:
    """Read a file of objects with `query`, `positives` and `negatives` (or `pos` and `neg`, as in FlagEmbedding).

    Lines with the same query are merged. A query's candidates are its positives and negatives, in the order of BM25
    over all texts of the file. If BM25 scores are equal, negatives come first: the order in the file helps no row.

    Args:
        skip_bad: leave out blank texts and queries, texts given twice in a line, and queries without a positive or a
            negative, and count them in `Dataset.notes`; otherwise the first of them is an error.
        encoding: of the file, a name that Python knows.

    Raises:
        DataError: a line cannot be used; the message names file, line, value and remedy.
    """
    path = Path(path)
    problems = Problems(skip_bad)
    given: dict[str, _Query] = {}
    repeated = 0
    for number, (where, row) in enumerate(objects(path, encoding), 1):
        watch(f"reading {path.name}", number, 0)
        text = checked_text(where, "query", row.get("query"))
        negatives = _texts(where, row, ("negatives", "neg"), problems)
        positives = _texts(where, row, ("positives", "pos"), problems)
        if not text.strip():
            problems.found("blank queries", f"{where}: the query is blank: fill it in or remove the line")
            continue
        repeated += text in given
        query = given.setdefault(text, _Query(number, where))
        query.negatives |= negatives
        query.positives |= positives
        for both in [text for text in query.positives if text in query.negatives]:
            lines = "" if query.where == where else f" (this query's first line: {query.where})"
            problems.found(
                "texts given as positive and as negative",
                f"{where}: {shortened(both)!r} is a positive and a negative{lines}: remove it from one of them",
            )
            del query.negatives[both]
    queries: dict[str, str] = {}
    ids: dict[str, str] = {}
    judged: dict[str, dict[str, int]] = {}
    for text, query in given.items():
        if query.positives and query.negatives:
            name = f"q{query.number}"
            queries[name] = text
            relevance = [*dict.fromkeys(query.negatives, 0).items(), *dict.fromkeys(query.positives, 1).items()]
            judged[name] = {ids.setdefault(answer, f"d{len(ids) + 1}"): value for answer, value in relevance}
        else:
            missing = "negatives" if query.positives else "positives"
            problems.found(
                f"queries without {missing}", f"{query.where} has no {missing}: every order would be equally good"
            )
    if not queries:
        raise DataError(f"{path} has no usable query with positives and negatives")
    texts = {name: text for text, name in ids.items()}
    candidates, notes = in_bm25_order(queries, texts, judged, watch)
    if repeated:
        notes.append(f"merged with an earlier line of the same query: {counted(repeated, 'line', 'lines')}")
    return Dataset(
        name=path.name,
        queries=queries,
        texts=texts,
        candidates=candidates,
        qrels=judged,
        first_stage="BM25",
        notes=problems.notes() + notes,
    )


def _texts(where: str, row: dict[str, Any], keys: tuple[str, str], problems: Problems) -> dict[str, None]:
    """The texts under one of two keys, each once."""
    found = [key for key in keys if key in row]
    if len(found) != 1:
        how = "both" if found else "none"
        raise DataError(f"{where} has {how} of {' and '.join(map(repr, keys))}: give one of them, a list of texts")
    (key,) = found
    if not isinstance(row[key], list):
        raise DataError(f"{where}: {key}={shortened(repr(row[key]))}: use a list of texts")
    texts: dict[str, None] = {}
    for index, value in enumerate(row[key]):
        text = checked_text(where, f"{key}[{index}]", value)
        if not text.strip():
            problems.found("blank texts", f"{where}: {key}[{index}] is blank: fill it in or remove it")
        elif text in texts:
            problems.found(
                "texts given twice", f"{where}: {key}[{index}]={shortened(text)!r} is given twice: remove it"
            )
        else:
            texts[text] = None
    return texts
