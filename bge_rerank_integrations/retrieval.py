"""A first stage: BM25 with stemming (Lucene's variant, as bm25s computes it)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bge_rerank_integrations.words import Words, bm25s, describe_analysis


class BM25Index:
    """Texts by BM25 score, cut into words as `words` says."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._words = Words()
        self._count = len(texts)
        tokens = self._words(texts)
        self.analysis = describe_analysis(texts)
        """How the texts are cut, for a reader of the figures."""
        self.unread = sum(not words for words in tokens)
        """Texts without a word, which no query finds."""
        self._index = bm25s.BM25() if any(tokens) else None  # bm25s takes no index without words
        if self._index is not None:
            self._index.index(tokens, show_progress=False)

    def search(self, query: str, count: int) -> list[tuple[int, float]]:
        """The indices of the `count` best texts with their scores, best first, without those that share no word with
        the query."""
        indices, scores = self.search_all([query], count)
        found = zip(indices[0].tolist(), scores[0].tolist(), strict=True)
        return [(index, score) for index, score in found if score > 0]

    def search_all(self, queries: Sequence[str], count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The indices of the `count` best texts for each query with their scores, best first, as rows of one length.

        Where fewer share a word with the query, texts that share none fill up its row; their score is 0.

        *Shape:* (queries, count) each, or as many columns as there are texts.
        """
        count = min(count, self._count)
        if self._index is None:
            indices = np.tile(np.arange(count), (len(queries), 1))
            return indices, np.zeros(indices.shape, dtype=np.float32)
        indices, scores = self._index.retrieve(self._words(queries), k=count, show_progress=False)
        return indices, scores

    def score(self, query: str, indices: Sequence[int]) -> list[float]:
        """The scores of the texts at these indices; 0 for those that share no word with the query."""
        (words,) = self._words([query])
        if self._index is None or not words:
            return [0.0] * len(indices)
        scores: list[float] = self._index.get_scores(words)[list(indices)].tolist()
        return scores

    def reads(self, query: str) -> bool:
        """Whether any word of the query can be looked up; without one it finds nothing."""
        return any(self._words([query])[0])
