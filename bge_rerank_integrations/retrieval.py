"""A first stage: BM25 with stemming (Lucene's variant, as bm25s computes it)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bge_rerank_integrations.words import Words, bm25s, describe_analysis


class BM25Index:
    """Texts to search with BM25. `words` cuts them into words."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._words = Words()
        self._count = len(texts)
        tokens = self._words(texts)
        self.analysis = describe_analysis(texts)
        """How the texts are cut into words, for readers of figures."""
        self.unread = sum(not words for words in tokens)
        """How many texts have no word, and are found by no query."""
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

        If fewer share a word with the query, its row is filled with texts that share none; their score is 0.

        *Shape:* (queries, count) each; if there are fewer than `count` texts, (queries, texts).
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
        """Whether the query has a word. Without one it finds nothing."""
        return any(self._words([query])[0])
