"""Ranking quality and its uncertainty."""

import numpy as np


def ndcg(scores: np.ndarray, relevant: np.ndarray, total_relevant: int, k: int = 10) -> float:
    """nDCG@k of one query's candidates, relevance 0 or 1.

    The ideal ranking has all `total_relevant` passages of the corpus, also those that are not among the candidates.
    Equal scores keep the candidates' order. `scores` and `relevant` have the shape (candidates,).
    """
    order = np.argsort(-scores, kind="stable")[:k]
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gain = float((relevant[order] * discounts[: len(order)]).sum())
    return gain / float(discounts[: min(total_relevant, k)].sum())


def standardised(scores: np.ndarray) -> np.ndarray:
    """Scores with mean 0 and standard deviation 1 over a query's candidates, the last axis; 0 where all are equal."""
    spread = scores.std(axis=-1, keepdims=True)
    centred: np.ndarray = scores - scores.mean(axis=-1, keepdims=True)
    return centred / np.where(spread > 0, spread, 1)


def bootstrap_interval(values: np.ndarray, rounds: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """95% percentile interval of the mean, resampling queries. For a paired comparison pass per-query differences."""
    rows = np.random.default_rng(seed).integers(0, len(values), size=(rounds, len(values)))
    low, high = np.percentile(values[rows].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
