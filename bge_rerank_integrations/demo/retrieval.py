"""The first stage of the demonstration: BM25 with stemming over the Python language reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bm25s
import Stemmer

from bge_rerank_integrations.demo.corpus import Passage


class BM25Index:
    """Passages by BM25 score (Lucene's variant, as bm25s computes it)."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = passages
        self._stemmer = Stemmer.Stemmer("english")
        self._index = bm25s.BM25()
        self._index.index(self._tokens([f"{p.title}\n{p.text}" for p in passages]), show_progress=False)

    def search(self, query: str, count: int) -> list[tuple[Passage, float]]:
        """The `count` best passages with their scores, best first; without those that share no word with the query."""
        places, scores = self._index.retrieve(
            self._tokens([query]), k=min(count, len(self.passages)), show_progress=False
        )
        found = zip(places[0].tolist(), scores[0].tolist(), strict=True)
        return [(self.passages[place], score) for place, score in found if score > 0]

    def _tokens(self, texts: list[str]) -> Any:
        return bm25s.tokenize(texts, stopwords="en", stemmer=self._stemmer, show_progress=False)
