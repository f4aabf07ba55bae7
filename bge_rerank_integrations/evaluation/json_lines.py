"""One file of JSON lines: a query with texts that answer it and texts that do not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bge_rerank_integrations.errors import DataError
from bge_rerank_integrations.evaluation.data import (
    Dataset,
    Problems,
    Watch,
    checked_text,
    objects,
    shortened,
    unwatched,
)
from bge_rerank_integrations.retrieval import BM25Index


def read_jsonl(path: str | os.PathLike[str], *, skip_bad: bool = False, watch: Watch = unwatched) -> Dataset:
    """Read a file of objects with `query`, `positives` and `negatives` (or `pos` and `neg`, as FlagEmbedding has them).

    A query's candidates are its positives and negatives, in the order that BM25 over all texts of the file gives them;
    where BM25 cannot tell, negatives come first, so that no row profits from how the file was written.

    Args:
        skip_bad: leave out blank texts, texts and queries given twice, and queries without a positive or a negative,
            and count them in `Dataset.notes`; else the first of them is an error.

    Raises:
        DataError: a line cannot be used; names file, line, value and remedy.
    """
    path = Path(path)
    problems = Problems(skip_bad)
    queries: dict[str, str] = {}
    given: dict[str, str] = {}
    ids: dict[str, str] = {}
    judged: dict[str, dict[str, int]] = {}
    for number, (where, row) in enumerate(objects(path), 1):
        watch(f"reading {path.name}", number, 0)
        query = checked_text(where, "query", row.get("query"))
        negatives = _texts(where, row, ("negatives", "neg"), problems)
        positives = _texts(where, row, ("positives", "pos"), problems)
        for text in [text for text in positives if text in negatives]:
            problems.found(
                "texts given as positive and as negative",
                f"{where}: {shortened(text)!r} is among the positives and the negatives: remove it from one",
            )
            negatives.remove(text)
        if not query.strip():
            problems.found("blank queries", f"{where}: the query is blank: fill it in or remove the line")
        elif query in given:
            problems.found(
                "queries given twice",
                f"{where}: the query {shortened(query)!r} is that of {given[query]}: make them one",
            )
        elif not positives or not negatives:
            missing = "negatives" if positives else "positives"
            problems.found(f"queries without {missing}", f"{where} has no {missing}: every order would be as good")
        else:
            name = f"q{number}"
            queries[name], given[query] = query, where
            relevance = [(text, 0) for text in negatives] + [(text, 1) for text in positives]
            judged[name] = {ids.setdefault(text, f"d{len(ids) + 1}"): value for text, value in relevance}
    if not queries:
        raise DataError(f"{path} leaves no query with positives and negatives: nothing to do")
    texts = {name: text for text, name in ids.items()}
    return Dataset(
        name=path.name,
        queries=queries,
        texts=texts,
        candidates=_in_bm25_order(queries, texts, judged, watch),
        qrels=judged,
        first_stage="BM25",
        notes=problems.notes(),
    )


def _texts(where: str, row: dict[str, Any], keys: tuple[str, str], problems: Problems) -> list[str]:
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
    return list(texts)


def _in_bm25_order(
    queries: dict[str, str], texts: dict[str, str], judged: dict[str, dict[str, int]], watch: Watch
) -> dict[str, dict[str, float]]:
    """Candidates with their BM25 scores, best first; equal ones in the order given."""
    index_of = {name: index for index, name in enumerate(texts)}
    index = BM25Index(list(texts.values()))
    found = {}
    for done, (query, text) in enumerate(queries.items(), 1):
        scores = index.score(text, [index_of[name] for name in judged[query]])
        scored = zip(judged[query], scores, strict=True)
        found[query] = dict(sorted(scored, key=lambda pair: -pair[1]))
        watch("ordering by BM25", done, len(queries))
    return found
