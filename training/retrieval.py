"""BM25 with stemming: the first stage that every figure starts from, and the source of hard negatives."""

import bm25s
import numpy as np
import Stemmer

POOL = 50  # candidates a query


def stemmed(texts: list[str]) -> list[list[str]]:
    """Lower-case words without English stop words, stemmed by Snowball."""
    tokens: list[list[str]] = bm25s.tokenize(
        texts, stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False
    )
    return tokens


def retrieve(texts: list[str], queries: list[str], k: int = POOL) -> tuple[np.ndarray, np.ndarray]:
    """BM25's best `k` passages for every query: their places and scores, each (queries, k)."""
    index = bm25s.BM25()
    index.index(stemmed(texts), show_progress=False)
    found, scores = index.retrieve(stemmed(queries), k=min(k, len(texts)), show_progress=False, n_threads=2)
    return found, scores
