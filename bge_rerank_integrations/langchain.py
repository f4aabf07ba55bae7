"""LangChain: `BGERerank` for contextual compression, `BGECrossEncoder` for whatever takes a cross-encoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

try:
    from langchain_core.callbacks import (
        AsyncCallbackManager,
        CallbackManager,
        Callbacks,
    )
    from langchain_core.cross_encoders import BaseCrossEncoder
    from langchain_core.documents import BaseDocumentCompressor, Document
except ModuleNotFoundError as error:
    from bge_rerank_integrations.errors import MissingExtraError

    raise MissingExtraError(["langchain-core"], "langchain") from error

from bge_rerank_integrations.adapter_fields import RerankFields, ScorerFields
from bge_rerank_integrations.ranking import Ranked, check_top_n, describe

SCORE_KEY = "relevance_score"
_AS_SET: Any = object()


class BGERerank(RerankFields, BaseDocumentCompressor):
    """Rescores retrieved documents with a BGE reranker and keeps the best.

    Use it as the `base_compressor` of a `ContextualCompressionRetriever`, in a `DocumentCompressorPipeline`, or alone.
    Threads and event loops may share one; the model is loaded at the first use, or by `warm_up()`.

    Example:
        `BGERerank(model="BAAI/bge-reranker-v2-m3", top_n=5, scale="sigmoid", score_threshold=0.3)`
    """

    trace_texts: bool = False
    """Whether traces show the documents' texts, besides the query, the counts and the scores."""

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The best documents for the query, best first.

        Args:
            documents: what was retrieved; left as it is.
            query: what was asked.
            callbacks: where to trace the reranking, as a run of its own below the caller's.

        Returns:
            Copies, at most `top_n`, each with its score, a float, in `metadata["relevance_score"]`.

        Raises:
            TypeError: `documents` holds something else than documents; names its index.
        """
        given = _documents(documents)
        if not given:
            return []
        name, about, inputs = self._traced(given, query)
        run = CallbackManager.configure(callbacks).on_chain_start(about, inputs, name=name)
        try:
            ranked = self._ready().rank(query, _texts(given), self.top_n, self.score_threshold)
        except BaseException as error:
            run.on_chain_error(error)
            raise
        run.on_chain_end(self._outputs(given, ranked))
        return _chosen(given, ranked)

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """As `compress_documents`, without blocking the event loop."""
        given = _documents(documents)
        if not given:
            return []
        name, about, inputs = self._traced(given, query)
        run = await AsyncCallbackManager.configure(callbacks).on_chain_start(about, inputs, name=name)
        try:
            scorer = await self._aready()
            ranked = await scorer.arank(query, _texts(given), self.top_n, self.score_threshold)
        except BaseException as error:
            await run.on_chain_error(error)
            raise
        await run.on_chain_end(self._outputs(given, ranked))
        return _chosen(given, ranked)

    def rerank(
        self, documents: Sequence[str | Document], query: str, *, top_n: int | None = _AS_SET
    ) -> list[dict[str, Any]]:
        """The ranking alone, as CohereRerank and JinaRerank give it.

        Args:
            top_n: how many at most, None for all; left out: the field `top_n`.

        Returns:
            A dictionary each, best first, with the index in `documents` as "index" and the score as "relevance_score".
        """
        kept = self.top_n if top_n is _AS_SET else check_top_n(top_n)
        texts = _texts(documents)
        return _dictionaries(self._ready().rank(query, texts, kept, self.score_threshold) if texts else [])

    async def arerank(
        self, documents: Sequence[str | Document], query: str, *, top_n: int | None = _AS_SET
    ) -> list[dict[str, Any]]:
        """As `rerank`, without blocking the event loop."""
        kept = self.top_n if top_n is _AS_SET else check_top_n(top_n)
        texts = _texts(documents)
        if not texts:
            return []
        scorer = await self._aready()
        return _dictionaries(await scorer.arank(query, texts, kept, self.score_threshold))

    def _traced(self, documents: Sequence[Document], query: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Name, description and inputs of the run that a trace shows."""
        model = self.model or "BGERerank"
        inputs: dict[str, Any] = {"query": query, "model": model, "documents": len(documents), "top_n": self.top_n}
        if self.trace_texts:
            inputs["texts"] = _texts(documents)
        return "BGERerank", {"name": "BGERerank", "model": model}, inputs

    def _outputs(self, documents: Sequence[Document], ranked: Sequence[Ranked]) -> dict[str, Any]:
        outputs: dict[str, Any] = {
            "documents": len(ranked),
            "indices": [index for index, _ in ranked],
            "scores": [score for _, score in ranked],
        }
        if self.trace_texts:
            outputs["texts"] = [documents[index].page_content for index, _ in ranked]
        return outputs


class BGECrossEncoder(ScorerFields, BaseCrossEncoder):
    """A BGE reranker as LangChain's cross-encoder, for `CrossEncoderReranker` and the like."""

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """One score for each (query, text) pair, in the order given."""
        return self._ready().score_pairs(text_pairs) if text_pairs else []


def _documents(documents: Iterable[Document]) -> list[Document]:
    """What was given, at the time of the call: the caller may change its list while this one waits."""
    given = _listed(documents)
    for index, document in enumerate(given):
        if not isinstance(document, Document):
            raise TypeError(
                f"documents[{index}] is {describe(document)}: give a Document; rerank() takes strings as well"
            )
    return given


def _texts(documents: Iterable[str | Document]) -> list[str]:
    return [_text(index, document) for index, document in enumerate(_listed(documents))]


def _text(index: int, document: object) -> str:
    if isinstance(document, Document):
        return document.page_content
    if isinstance(document, str):
        return document
    raise TypeError(f"documents[{index}] is {describe(document)}: give a string or a Document")


def _listed(documents: Any) -> list[Any]:
    if isinstance(documents, (str, Document)) or not isinstance(documents, Iterable):
        raise TypeError(f"documents is {describe(documents)}: give a list, [text] or [document] for a single one")
    return list(documents)


def _chosen(documents: Sequence[Document], ranked: Sequence[Ranked]) -> list[Document]:
    return [
        documents[index].model_copy(update={"metadata": {**documents[index].metadata, SCORE_KEY: score}})
        for index, score in ranked
    ]


def _dictionaries(ranked: Sequence[Ranked]) -> list[dict[str, Any]]:
    return [{"index": index, SCORE_KEY: score} for index, score in ranked]
