"""BEIR's layout: a folder with corpus.jsonl, queries.jsonl and qrels/<split>.tsv."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bge_rerank_integrations.errors import DataError
from bge_rerank_integrations.evaluation.data import (
    Dataset,
    Problems,
    Watch,
    counted,
    lines,
    objects,
    unwatched,
)
from bge_rerank_integrations.evaluation.first_stage import retrieve
from bge_rerank_integrations.evaluation.trec import read_run
from bge_rerank_integrations.textfiles import UTF_8, checked_text, shortened

BM25_DEPTH = 50
MOST_RELEVANT = 1000
"""The largest relevance. trec_eval has a table of all values below the largest: with huge ones, it overflows."""
HEADER = ["query-id", "corpus-id", "score"]


def read_beir(
    folder: str | os.PathLike[str],
    split: str = "test",
    *,
    candidates: str | os.PathLike[str] | None = None,
    depth: int | None = None,
    skip_bad: bool = False,
    encoding: str = UTF_8,
    watch: Watch = unwatched,
) -> Dataset:
    """Read a data set in BEIR's layout.

    A document's text is its title, a space and its text, as in BEIR. Queries without judgements in the split are not
    used. A document with the same id as the query is not a candidate, as in BEIR's own evaluation.

    Args:
        folder: has corpus.jsonl (objects with _id, title, text), queries.jsonl (_id, text) and qrels/<split>.tsv
            (a header, then query id, document id and score, separated by tabs; a score of 0 or less is not relevant).
        candidates: a TREC run file with each query's candidates; None: the best of BM25.
        depth: how many candidates to use for each query; None: 50 of BM25, or all of the run file.
        skip_bad: leave out blank texts, duplicates, judgements and candidates of unknown ids, and queries without a
            relevant document, and count them in `Dataset.notes`; otherwise the first of them is an error.
        encoding: of all files, a name that Python knows.

    Raises:
        DataError: a line cannot be used; the message names file, line, value and remedy.
    """
    folder = Path(folder)
    if depth is not None and depth < 1:
        raise DataError(f"depth={depth}: use at least 1 candidate for each query")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: give one with corpus.jsonl, queries.jsonl and qrels/{split}.tsv")
    problems = Problems(skip_bad)
    corpus = _texts(folder / "corpus.jsonl", "document", problems, encoding, watch)
    asked = _texts(folder / "queries.jsonl", "query", problems, encoding, watch)
    qrels = _qrels(folder, split, asked, corpus, problems, encoding)
    queries = {query: text for query, text in asked.items() if query in qrels}
    if not queries:
        raise DataError(f"{folder / 'qrels' / f'{split}.tsv'} has no usable query with a relevant document")
    if candidates is None:
        found, notes = retrieve(queries, corpus, depth or BM25_DEPTH, watch)
    else:
        found, notes = read_run(Path(candidates), asked, corpus, depth, problems, encoding), []
    found = {query: found.get(query, {}) for query in queries}
    notes = problems.notes() + notes
    if unused := len(asked) - len(queries):
        notes.append(
            f"not used: {counted(unused, 'query', 'queries')} for which qrels/{split}.tsv has nothing relevant"
        )
    if lost := sum(not ids for ids in found.values()):
        notes.append(f"0 in every row: {counted(lost, 'query', 'queries')} without candidates")
        if lost == len(queries):
            raise DataError(
                f"no query of {folder} has a candidate: check the ids, and whether queries and documents are in one "
                "language; with candidates (--candidates), give the run of a retriever that works across languages"
            )
    return Dataset(
        name=f"{folder.resolve().name} ({split})",
        queries=queries,
        texts={document: corpus[document] for ids in found.values() for document in ids},
        candidates=found,
        qrels={query: qrels[query] for query in queries},
        first_stage="BM25" if candidates is None else Path(candidates).name,
        notes=notes,
    )


def _texts(path: Path, what: str, problems: Problems, encoding: str, watch: Watch) -> dict[str, str]:
    """Texts by id."""
    texts: dict[str, str] = {}
    for where, row in objects(path, encoding):
        name = _id(where, row)
        title = checked_text(where, "title", row.get("title") or "") if what == "document" else ""
        text = f"{title} {checked_text(where, 'text', row.get('text'))}".strip()
        if name in texts:
            problems.found(f"{what} ids given twice", f"{where}: _id={name!r} is given a second time: rename one")
        elif not text:
            problems.found(
                f"blank {what} texts", f"{where}: the text of _id={name!r} is blank: fill it in or remove it"
            )
        else:
            texts[name] = text
        if len(texts) % 1000 == 0:
            watch(f"reading {path.name}", len(texts), 0)
    if not texts:
        raise DataError(f"{path} has no {what} with a text: nothing to do")
    return texts


def _id(where: str, row: dict[str, Any]) -> str:
    value = row.get("_id")
    name = str(value) if isinstance(value, int) and not isinstance(value, bool) else checked_text(where, "_id", value)
    if not name or name.split() != [name] or "\0" in name:
        raise DataError(
            f"{where}: _id={shortened(repr(value))}: use an id without white space, which separates the columns of run "
            "files, and without NUL, which ends a name there"
        )
    return name


def _qrels(
    folder: Path, split: str, queries: dict[str, str], corpus: dict[str, str], problems: Problems, encoding: str
) -> dict[str, dict[str, int]]:
    """Judgements of the queries that have a relevant document."""
    path = folder / "qrels" / f"{split}.tsv"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in (folder / "qrels").glob("*.tsv"))) or "none"
        raise DataError(f"{path} does not exist: the splits of this folder are: {known}")
    rows = lines(path, encoding)
    where, header = next(rows)
    if header.split("\t") != HEADER:
        raise DataError(f"{where} is {shortened(repr(header))}: the header {chr(9).join(HEADER)!r} is needed")
    qrels: dict[str, dict[str, int]] = {}
    first: dict[str, str] = {}
    for where, line in rows:
        columns = [column.strip() for column in line.split("\t")]
        if len(columns) != 3:
            raise DataError(
                f"{where} is {shortened(repr(line))}: three columns, separated by tabs, are needed: {', '.join(HEADER)}"
            )
        query, document, score = columns
        try:
            relevance = int(score)
        except ValueError as error:
            raise DataError(f"{where}: score={score!r}: use a whole number, 0 for not relevant") from error
        if relevance > MOST_RELEVANT:
            raise DataError(f"{where}: score={shortened(score)}: use at most {MOST_RELEVANT}")
        if query not in queries:
            problems.found(
                "judgements of unknown queries", f"{where}: query {query!r} is not in queries.jsonl: remove it"
            )
        elif document not in corpus:
            problems.found(
                "judgements of unknown documents", f"{where}: document {document!r} is not in corpus.jsonl: remove it"
            )
        elif document in qrels.get(query, {}):
            problems.found(
                "judgements given twice", f"{where}: query {query!r} and document {document!r} are judged a second time"
            )
        else:
            qrels.setdefault(query, {})[document] = max(0, relevance)
        first.setdefault(query, where)
    for query in [query for query, judged in qrels.items() if not any(judged.values())]:
        problems.found(
            "queries without a relevant document",
            f"{first[query]}: query {query!r} has no relevant document: judge one above 0, or remove the query",
        )
        del qrels[query]
    return qrels
