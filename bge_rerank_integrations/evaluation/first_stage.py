"""BM25 as the first stage: it finds candidates, or sorts given ones, and notes what it cannot read."""

from __future__ import annotations

from collections.abc import Mapping

from bge_rerank_integrations.evaluation.data import Watch, counted
from bge_rerank_integrations.retrieval import BM25Index
from bge_rerank_integrations.textfiles import shortened

Candidates = dict[str, dict[str, float]]
"""For each query its candidates' ids and scores, best first."""


def retrieve(
    queries: Mapping[str, str], corpus: Mapping[str, str], depth: int, watch: Watch
) -> tuple[Candidates, list[str]]:
    """BM25's best `depth` documents for each query, and notes for readers of the figures."""
    watch("indexing for BM25", 0, 1)
    ids = list(corpus)
    index = BM25Index(list(corpus.values()))
    watch("indexing for BM25", 1, 1)
    found = {}
    for done, (query, text) in enumerate(queries.items(), 1):
        best = [(ids[i], score) for i, score in index.search(text, depth + 1) if ids[i] != query]
        found[query] = dict(best[:depth])
        watch("retrieving", done, len(queries))
    return found, _notes(index, queries)


def in_bm25_order(
    queries: Mapping[str, str], texts: Mapping[str, str], judged: Mapping[str, Mapping[str, int]], watch: Watch
) -> tuple[Candidates, list[str]]:
    """The judged texts by BM25 score, equal ones in the order given, and notes for readers of the figures."""
    index_of = {name: index for index, name in enumerate(texts)}
    index = BM25Index(list(texts.values()))
    found: Candidates = {}
    for done, (query, text) in enumerate(queries.items(), 1):
        scores = index.score(text, [index_of[name] for name in judged[query]])
        scored = zip(judged[query], scores, strict=True)
        found[query] = dict(sorted(scored, key=lambda pair: -pair[1]))
        watch("ordering by BM25", done, len(queries))
    notes = _notes(index, queries)
    alike = [query for query, scores in found.items() if not any(scores.values())]
    if alike:
        notes.append(
            f"not ordered by BM25, so negatives first: {counted(len(alike), 'query', 'queries')} without a word in "
            f"common with a candidate, such as {shortened(queries[alike[0]])!r}"
        )
    return found, notes


def _notes(index: BM25Index, queries: Mapping[str, str]) -> list[str]:
    notes = [f"BM25 reads {index.analysis}"]
    unread = [text for text in queries.values() if not index.reads(text)]
    if unread:
        notes.append(
            f"not read by BM25: {counted(len(unread), 'query', 'queries')} without a word that it counts, such as "
            f"{shortened(unread[0])!r}"
        )
    if index.unread:
        notes.append(f"not read by BM25: {counted(index.unread, 'text', 'texts')} without a word that it counts")
    return notes
