"""LangChain: `BGERerank` for contextual compression, `BGECrossEncoder` for whatever takes a cross-encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

try:
    from langchain_core.callbacks import Callbacks
    from langchain_core.cross_encoders import BaseCrossEncoder
    from langchain_core.documents import BaseDocumentCompressor, Document
except ModuleNotFoundError as error:
    from bge_rerank_integrations.errors import MissingExtraError

    raise MissingExtraError("langchain-core", "langchain") from error

from bge_rerank_integrations.adapter_fields import RerankFields, ScorerFields
from bge_rerank_integrations.ranking import Ranked, check_top_n, rank

SCORE_KEY = "relevance_score"
_AS_SET: Any = object()


class BGERerank(RerankFields, BaseDocumentCompressor):
    """Rescores retrieved documents with a BGE reranker and keeps the best.

    Use it as the `base_compressor` of a `ContextualCompressionRetriever`, in a `DocumentCompressorPipeline`, or alone.
    Threads and event loops may share one; the model is loaded at the first use, or by `warm_up()`.

    Example:
        `BGERerank(model="BAAI/bge-reranker-v2-m3", top_n=5, scale="sigmoid", score_threshold=0.3)`
    """

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The best documents for the query, best first.

        Args:
            documents: what was retrieved; left as it is.
            query: what was asked.
            callbacks: part of LangChain's interface; a compressor has no events to send there.

        Returns:
            Copies, at most `top_n`, each with its score, a float, in `metadata["relevance_score"]`.
        """
        if not documents:
            return []
        return self._chosen(documents, self._ready().score(query, _texts(documents)))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """As `compress_documents`, without blocking the event loop."""
        if not documents:
            return []
        scorer = await self._aready()
        return self._chosen(documents, await scorer.ascore(query, _texts(documents)))

    def rerank(
        self, documents: Sequence[str | Document], query: str, *, top_n: int | None = _AS_SET
    ) -> list[dict[str, Any]]:
        """The ranking alone, as CohereRerank and JinaRerank give it.

        Args:
            top_n: how many at most, None for all; left out: the field `top_n`.

        Returns:
            A dictionary each, best first, with the index in `documents` as "index" and the score as "relevance_score".
        """
        check_top_n(None if top_n is _AS_SET else top_n)
        if not documents:
            return []
        return self._dictionaries(self._ready().score(query, _texts(documents)), top_n)

    async def arerank(
        self, documents: Sequence[str | Document], query: str, *, top_n: int | None = _AS_SET
    ) -> list[dict[str, Any]]:
        """As `rerank`, without blocking the event loop."""
        check_top_n(None if top_n is _AS_SET else top_n)
        if not documents:
            return []
        scorer = await self._aready()
        return self._dictionaries(await scorer.ascore(query, _texts(documents)), top_n)

    def _dictionaries(self, scores: Sequence[float], top_n: int | None) -> list[dict[str, Any]]:
        return [{"index": index, SCORE_KEY: score} for index, score in self._ranked(scores, top_n)]

    def _ranked(self, scores: Sequence[float], top_n: int | None = _AS_SET) -> list[Ranked]:
        return rank(scores, self.top_n if top_n is _AS_SET else top_n, self.score_threshold)

    def _chosen(self, documents: Sequence[Document], scores: Sequence[float]) -> list[Document]:
        return [
            documents[index].model_copy(update={"metadata": {**documents[index].metadata, SCORE_KEY: score}})
            for index, score in self._ranked(scores)
        ]


class BGECrossEncoder(ScorerFields, BaseCrossEncoder):
    """A BGE reranker as LangChain's cross-encoder, for `CrossEncoderReranker` and the like."""

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """One score for each (query, text) pair, in the order given."""
        return self._ready().score_pairs(text_pairs) if text_pairs else []


def _texts(documents: Sequence[str | Document]) -> list[str]:
    if isinstance(documents, str):
        raise TypeError(f"documents is one string, {documents[:40]!r}: give a list, [text] for a single one")
    return [_text(index, document) for index, document in enumerate(documents)]


def _text(index: int, document: object) -> str:
    if isinstance(document, Document):
        return document.page_content
    if isinstance(document, str):
        return document
    raise TypeError(f"documents[{index}] is {document!r:.60}: give a string or a Document")
