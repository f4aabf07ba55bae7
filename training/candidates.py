"""BM25's best passages for each query, to be scored, and the quality of the order that scores give them."""

from collections.abc import Collection, Sequence

import numpy as np

from bge_rerank_integrations.evaluation.metrics import measure
from bge_rerank_integrations.evaluation.trec import ranked
from bge_rerank_integrations.retrieval import BM25Index

POOL = 50  # candidates of a query


def retrieve(texts: Sequence[str], queries: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """BM25's best passages for each query, best first: their indices in `texts`, and their scores.

    *Shape:* (queries, POOL) each
    """
    return BM25Index(texts).search_all(queries, POOL)


def quality(scores: np.ndarray, found: np.ndarray, relevant: Sequence[Collection[int]]) -> np.ndarray:
    """nDCG@10 of each query; equal scores keep the order of the candidates.

    The ideal order has all relevant passages of the corpus, also those that are not among the candidates.

    *Shape:* (queries, candidates) -> (queries,)

    Args:
        found: the candidates' indices in the corpus.
        relevant: for each query the indices of its relevant passages.
    """
    run = {
        str(query): ranked([str(index) for index in candidates], values.tolist())
        for query, (candidates, values) in enumerate(zip(found, scores, strict=True))
    }
    qrels = {str(query): {str(index): 1 for index in indices} for query, indices in enumerate(relevant)}
    return measure(qrels, run, depth=found.shape[1])["nDCG@10"]


def standardised(scores: np.ndarray) -> np.ndarray:
    """Scores with mean 0 and standard deviation 1 over a query's candidates, the last axis; 0 where all are equal."""
    spread = scores.std(axis=-1, keepdims=True)
    centred: np.ndarray = scores - scores.mean(axis=-1, keepdims=True)
    return centred / np.where(spread > 0, spread, 1)
