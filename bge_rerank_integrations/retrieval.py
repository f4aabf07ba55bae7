"""A first stage: BM25 with stemming (Lucene's variant, as bm25s computes it)."""

from __future__ import annotations

from collections.abc import Sequence

import bm25s
import numpy as np
import numpy.typing as npt
import Stemmer


class BM25Index:
    """Texts by BM25 score, English stop words left out."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._stemmer = Stemmer.Stemmer("english")
        self._count = len(texts)
        tokens = self._tokens(texts)
        self._index = bm25s.BM25() if any(tokens) else None  # bm25s takes no index without words
        if self._index is not None:
            self._index.index(tokens, show_progress=False)

    def search(self, query: str, count: int) -> list[tuple[int, float]]:
        """The places of the `count` best texts with their scores, best first; without those that share no word with the
        query."""
        places, scores = self.search_all([query], count)
        found = zip(places[0].tolist(), scores[0].tolist(), strict=True)
        return [(place, score) for place, score in found if score > 0]

    def search_all(self, queries: Sequence[str], count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The places of the `count` best texts for each query with their scores, best first, as rows of one length.

        Where fewer share a word with the query, texts that share none fill up its row; their score is 0.

        *Shape:* (queries, count) each, or as many columns as there are texts.
        """
        count = min(count, self._count)
        if self._index is None:
            places = np.tile(np.arange(count), (len(queries), 1))
            return places, np.zeros(places.shape, dtype=np.float32)
        places, scores = self._index.retrieve(self._tokens(queries), k=count, show_progress=False)
        return places, scores

    def score(self, query: str, places: Sequence[int]) -> list[float]:
        """The scores of the texts at these places; 0 for those that share no word with the query."""
        (words,) = self._tokens([query])
        if self._index is None or not words:
            return [0.0] * len(places)
        scores: list[float] = self._index.get_scores(words)[list(places)].tolist()
        return scores

    def _tokens(self, texts: Sequence[str]) -> list[list[str]]:
        tokens: list[list[str]] = bm25s.tokenize(
            list(texts), stopwords="en", stemmer=self._stemmer, return_ids=False, show_progress=False
        )
        return [[] if words == [""] else words for words in tokens]
