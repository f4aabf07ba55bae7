"""Rows with the first stage's scores fused in; their weight is chosen on other queries than it is measured on."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bge_rerank_integrations.evaluation.configurations import Configuration
from bge_rerank_integrations.evaluation.data import Dataset
from bge_rerank_integrations.evaluation.metrics import measure
from bge_rerank_integrations.evaluation.rows import QUALITY
from bge_rerank_integrations.evaluation.trec import Run, ranked
from bge_rerank_integrations.fusion import fused
from bge_rerank_integrations.options import RankingOptions
from bge_rerank_integrations.ranking import rank

WEIGHTS = tuple(step / 20 for step in range(21))
"""What the weight is chosen from."""


def run_of(
    configuration: Configuration, data: Dataset, scores: Mapping[str, Any], seed: int
) -> tuple[Run, tuple[float, ...]]:
    """Each query's documents as the configuration ranks them, and the weights that were chosen.

    Two weights are chosen, each on one half of the queries, and each is used on the other half alone: no query has a
    part in the weight that it is measured with.

    Args:
        scores: for each query the reranker's logits, in first-stage order.
        seed: of the draw of the halves.
    """
    if not configuration.weight_is_chosen:
        return _run(data, list(data.candidates), scores, configuration.ranking), ()
    queries = list(data.queries)
    random.Random(seed).shuffle(queries)
    halves = [queries[::2], queries[1::2]]
    weights = [_best_weight(data, half, scores, configuration.ranking) for half in halves]
    run: Run = {}
    for half, weight in zip(halves, reversed(weights), strict=True):
        run |= _run(data, half, scores, replace(configuration.ranking, fusion_weight=weight))
    return {query: run[query] for query in data.candidates}, tuple(weights)


def _best_weight(data: Dataset, queries: Sequence[str], scores: Mapping[str, Any], options: RankingOptions) -> float:
    """The one with the best nDCG@10 on these queries; of equal ones the smallest."""
    qrels = {query: data.qrels[query] for query in queries}
    if not qrels:
        return 0.0
    runs = {weight: _run(data, queries, scores, replace(options, fusion_weight=weight)) for weight in WEIGHTS}
    return max(WEIGHTS, key=lambda weight: (measure(qrels, runs[weight], data.depth)[QUALITY].mean(), -weight))


def _run(data: Dataset, queries: Sequence[str], scores: Mapping[str, Any], options: RankingOptions) -> Run:
    return {
        query: ranked(list(found), _scores(scores[query], list(found.values()), options))
        for query, found in ((query, data.candidates[query]) for query in queries)
    }


def _scores(logits: Sequence[float], retrieved: Sequence[float], options: RankingOptions) -> Sequence[float]:
    """What the documents are ordered by, in first-stage order."""
    if not options.fuses:
        return logits
    places = [one.index for one in rank(logits)]
    together = fused(
        [logits[place] for place in places], places, [retrieved[place] for place in places], options, "logit"
    )
    by_place = dict(zip(places, together, strict=True))
    return [by_place[place] for place in range(len(logits))]
