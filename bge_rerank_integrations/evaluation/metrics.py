"""Ranking measures of every query, by trec_eval, and confidence intervals of their means.

The measures come from ir-measures, which runs trec_eval. Intervals are 95% percentile intervals of the mean from
scipy.stats.bootstrap, which draws queries with replacement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 9999
LARGEST_DRAW = 5_000_000
"""Values to draw at a time: 40 MB of memory."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over queries and its 95% interval. A single query has no interval: None."""

    value: float
    low: float | None
    high: float | None


def measure(
    qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Mapping[str, float]], depth: int
) -> dict[str, Values]:
    """nDCG@10, MRR@10, recall@10, recall@depth and MAP of each query, in the order of `qrels`.

    A query without candidates has 0 in each. The gain in nDCG is the relevance itself, as in trec_eval.

    Args:
        run: for each query its documents, with scores that are all different as 32-bit floats (see `trec`).
        depth: the largest number of candidates of a query: no reranker can exceed the recall at this depth.
    """
    from ir_measures import AP, RR, R, iter_calc, nDCG

    names = {nDCG @ 10: "nDCG@10", RR @ 10: "MRR@10", R @ 10: "R@10", R @ depth: f"R@{depth}", AP: "MAP"}
    index_of = {query: index for index, query in enumerate(qrels)}
    values = {name: np.zeros(len(qrels)) for name in names.values()}
    judged = {query: dict(documents) for query, documents in qrels.items()}
    found = {query: dict(documents) for query, documents in run.items() if documents}
    for metric in iter_calc(list(names), judged, found):
        values[names[metric.measure]][index_of[metric.query_id]] = metric.value
    return values


def estimate(values: Mapping[str, Values], seed: int = 0) -> dict[str, Estimate]:
    """The mean of each list of values (one for each query) with its interval; all use the same draws of queries.

    For a paired comparison, give the difference of each query.
    """
    from scipy.stats import bootstrap

    rows = np.stack(list(values.values()))
    queries = rows.shape[1]
    means = rows.mean(axis=1).tolist()
    if queries < 2:
        return {name: Estimate(mean, None, None) for name, mean in zip(values, means, strict=True)}
    interval = bootstrap(
        (rows,),
        np.mean,
        axis=1,
        n_resamples=RESAMPLES,
        batch=max(1, LARGEST_DRAW // rows.size),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    bounds = zip(values, means, interval.low.tolist(), interval.high.tolist(), strict=True)
    return {name: Estimate(mean, low, high) for name, mean, low, high in bounds}
