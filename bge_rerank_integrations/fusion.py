"""Retriever and reranker together: one score out of both.

"rrf" adds reciprocal ranks (Cormack, Clarke and Büttcher 2009), as LangChain's EnsembleRetriever does. "weighted" adds
the scores themselves, each standardised over the passages of the query, so that the two scales do not matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bge_rerank_integrations.options import RankingOptions, Scale
from bge_rerank_integrations.ranking import scaled

RANK_CONSTANT = 60
"""Of reciprocal ranks, as in the paper: how little the first places count above later ones."""
SATURATED = 37.0
"""From this logit on a sigmoid is 1.0."""


def retrieval_ranks(places: Sequence[int], retrieved: Sequence[float | None]) -> list[int]:
    """The retriever's rank of each passage, from 1: by its scores where all have one, else by place."""
    known = _all_known(retrieved)
    keys = [-score for score in known] if known else places
    order = sorted(range(len(places)), key=lambda i: (keys[i], places[i]))
    ranks = [0] * len(places)
    for rank, i in enumerate(order, 1):
        ranks[i] = rank
    return ranks


def fused(
    scores: Sequence[float],
    places: Sequence[int],
    retrieved: Sequence[float | None],
    options: RankingOptions,
    scale: Scale,
) -> list[float]:
    """One score for each passage of a query, above 0 and below 1; higher is better. Compare them within a query only.

    Args:
        scores: the reranker's, best first; the other lists are in the same order.
        places: where each passage came in.
        retrieved: the retriever's scores, higher is better. If one is missing, the ranks of `places` are used.
        options: `fusion`, not "none", and `fusion_weight`.
        scale: of `scores`. The result does not depend on it, up to rounding.
    """
    ranks, weight = retrieval_ranks(places, retrieved), options.fusion_weight
    if options.fusion == "rrf":
        return [
            (1 - weight) / (RANK_CONSTANT + own) + weight / (RANK_CONSTANT + other)
            for own, other in enumerate(ranks, 1)
        ]
    own = standardised([_logit(score, scale) for score in scores])
    # without scores: about as a retriever's fall
    other = standardised(_all_known(retrieved) or [-math.log(rank) for rank in ranks])
    return [scaled((1 - weight) * mine + weight * theirs, "sigmoid") for mine, theirs in zip(own, other, strict=True)]


def standardised(values: Sequence[float]) -> list[float]:
    """Minus the mean, in units of the standard deviation; zeros if all are equal.

    *Shape:* (passages,) both.
    """
    largest = max(map(abs, values), default=0.0) or 1.0  # their squares may be too large for a float
    small = [value / largest for value in values]
    mean = math.fsum(small) / max(1, len(small))
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in small) / max(1, len(small)))
    return [(value - mean) / deviation if deviation > 1e-12 else 0.0 for value in small]


def _all_known(retrieved: Sequence[float | None]) -> list[float]:
    """The scores, or none of them if one is missing or is no number."""
    known = [score for score in retrieved if score is not None and math.isfinite(score)]
    return known if len(known) == len(retrieved) else []


def _logit(score: float, scale: Scale) -> float:
    if scale == "logit":
        return score
    if score >= 1:
        return SATURATED
    return math.log(score / (1 - score)) if score > 0 else math.log(5e-324)
