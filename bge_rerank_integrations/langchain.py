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
    from langchain_core.runnables.config import ensure_config
except ModuleNotFoundError as error:
    from bge_rerank_integrations.errors import MissingExtraError

    raise MissingExtraError(["langchain-core"], "langchain") from error

from bge_rerank_integrations.adapter_fields import ScorerFields
from bge_rerank_integrations.ranking import check_query, check_top_n, checked_pairs, describe
from bge_rerank_integrations.rerank_fields import AS_SET, RerankFields, details
from bge_rerank_integrations.reranking import Reranked
from bge_rerank_integrations.text_choice import Passage, heads

SCORE_KEY = "relevance_score"


class BGERerank(RerankFields, BaseDocumentCompressor):
    """Rescores retrieved documents with a BGE reranker and keeps the best.

    Use it as the `base_compressor` of a `ContextualCompressionRetriever`, in a `DocumentCompressorPipeline`, or alone.
    Threads and event loops may share one; the model is loaded at the first use, or by `warm_up()`.

    Example:
        `BGERerank(model="BAAI/bge-reranker-v2-m3", top_n=5, scale="sigmoid", score_threshold=0.3)`
    """

    retrieval_score_key: str | None = None
    """The metadata key under which documents have the retriever's score, higher is better, for `fusion`; None: the
    order in which they come in counts."""
    trace_texts: bool = False
    """Whether traces show the documents' texts, besides the query, the counts and the scores."""

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The best documents for the query, best first.

        Args:
            documents: what was retrieved; left as it is.
            query: what was asked.
            callbacks: where to trace the reranking, as a run of its own below the caller's; None: below the run of the
                chain that this is called in, if any.

        Returns:
            Copies, at most `top_n`, each with its score, a float, in `metadata["relevance_score"]`. With `fusion` that
            is the fused one, beside "rerank_score", "retrieval_rank" and, where known, "retrieval_score".

        Raises:
            TypeError: `documents` holds something else than documents (the message names its index), or the query is
                not a string. Nothing was loaded or scored then.
        """
        given = _documents(documents, query)
        passages = self._passages(given)
        if not given:
            return []
        name, about, inputs = self._traced(passages, query)
        run = CallbackManager.configure(_or_surrounding(callbacks)).on_chain_start(about, inputs, name=name)
        try:
            ranked = self._reranked(query, passages, self.top_n)
        except BaseException as error:
            run.on_chain_error(error)
            raise
        run.on_chain_end(self._outputs(passages, ranked))
        return _chosen(given, ranked)

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """As `compress_documents`, without blocking the event loop."""
        given = _documents(documents, query)
        passages = self._passages(given)
        if not given:
            return []
        name, about, inputs = self._traced(passages, query)
        manager = AsyncCallbackManager.configure(_or_surrounding(callbacks))
        run = await manager.on_chain_start(about, inputs, name=name)
        try:
            ranked = await self._areranked(query, passages, self.top_n)
        except BaseException as error:
            await run.on_chain_error(error)
            raise
        await run.on_chain_end(self._outputs(passages, ranked))
        return _chosen(given, ranked)

    def rerank(
        self, documents: Sequence[str | Document], query: str, *, top_n: int | None = AS_SET
    ) -> list[dict[str, Any]]:
        """The ranking alone, as CohereRerank and JinaRerank give it.

        Args:
            top_n: how many at most, None for all; left out: the field `top_n`.

        Returns:
            A dictionary each, best first, with the index in `documents` as "index" and the score as "relevance_score".
        """
        kept = self.top_n if top_n is AS_SET else check_top_n(top_n)
        passages = self._passages(_texts_or_documents(documents, query))
        return _dictionaries(self._reranked(query, passages, kept) if passages else [])

    async def arerank(
        self, documents: Sequence[str | Document], query: str, *, top_n: int | None = AS_SET
    ) -> list[dict[str, Any]]:
        """As `rerank`, without blocking the event loop."""
        kept = self.top_n if top_n is AS_SET else check_top_n(top_n)
        passages = self._passages(_texts_or_documents(documents, query))
        return _dictionaries(await self._areranked(query, passages, kept) if passages else [])

    def _passages(self, documents: Sequence[str | Document]) -> list[Passage]:
        """What is scored. A string has no metadata."""
        metadata = [one.metadata if isinstance(one, Document) else {} for one in documents]
        texts = [one.page_content if isinstance(one, Document) else one for one in documents]
        scores = [self._retrieval_score(index, one) for index, one in enumerate(metadata)]
        return list(map(Passage, texts, heads(metadata, self.metadata_fields), scores))

    def _retrieval_score(self, index: int, metadata: dict[Any, Any]) -> float | None:
        score = metadata.get(self.retrieval_score_key) if self.retrieval_score_key is not None else None
        try:
            return None if score is None else float(score)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"documents[{index}] has {describe(score)} under {self.retrieval_score_key!r}: that is no score"
            ) from error

    def _traced(self, passages: Sequence[Passage], query: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Name, description and inputs of the run that a trace shows."""
        model = self.model or "BGERerank"
        inputs: dict[str, Any] = {"query": query, "model": model, "documents": len(passages), "top_n": self.top_n}
        if self.trace_texts:
            inputs["texts"] = [one.scored for one in passages]
        return "BGERerank", {"name": "BGERerank", "model": model}, inputs

    def _outputs(self, passages: Sequence[Passage], ranked: Sequence[Reranked]) -> dict[str, Any]:
        outputs: dict[str, Any] = {
            "documents": len(ranked),
            "indices": [one.index for one in ranked],
            "scores": [one.score for one in ranked],
        }
        if self.trace_texts:
            outputs["texts"] = [passages[one.index].scored for one in ranked]
        return outputs


class BGECrossEncoder(ScorerFields, BaseCrossEncoder):
    """A BGE reranker as LangChain's cross-encoder, for `CrossEncoderReranker` and the like.

    What orders by its scores should have them as logits, which is the default: with `scale="sigmoid"` every logit above
    37 is 1.0, and such texts cannot be told apart. `BGERerank` orders by logits on either scale.
    """

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """One score for each (query, text) pair, in the order given."""
        pairs = checked_pairs(text_pairs)
        if not pairs:
            return []
        scorer = self._ready()
        remedy = "use a larger max_length where the model has room, or BGERerank with long='windows'"
        with self._telling_of_cuts(scorer, remedy):
            return scorer.score_pairs(pairs)


def _or_surrounding(callbacks: Callbacks) -> Callbacks:
    """What was given, else the callbacks of the chain that runs here."""
    return ensure_config()["callbacks"] if callbacks is None else callbacks


def _documents(documents: Iterable[Document], query: str) -> list[Document]:
    """What was given, at the time of the call: the caller may change it while this one waits."""
    given = _listed(documents)
    for index, document in enumerate(given):
        if not isinstance(document, Document):
            raise TypeError(
                f"documents[{index}] is {describe(document)}: give a Document; rerank() takes strings as well"
            )
    return _texts_or_documents(given, query)  # type: ignore[return-value]  # only documents went in


def _texts_or_documents(documents: Iterable[str | Document], query: str) -> list[str | Document]:
    check_query(query)
    given = _listed(documents)
    for index, one in enumerate(given):
        if not isinstance(one.page_content if isinstance(one, Document) else one, str):
            raise TypeError(f"documents[{index}] is {describe(one)}: give a string, or a Document with a text")
    return given


def _listed(documents: Any) -> list[Any]:
    if isinstance(documents, (str, Document)) or not isinstance(documents, Iterable):
        raise TypeError(f"documents is {describe(documents)}: give a list, [text] or [document] for a single one")
    return list(documents)


def _chosen(documents: Sequence[Document], ranked: Sequence[Reranked]) -> list[Document]:
    return [_copy(documents[one.index], one) for one in ranked]


def _copy(document: Document, one: Reranked) -> Document:
    return document.model_copy(update={"metadata": {**document.metadata, **details(one), SCORE_KEY: one.score}})


def _dictionaries(ranked: Sequence[Reranked]) -> list[dict[str, Any]]:
    return [{"index": one.index, SCORE_KEY: one.score, **details(one)} for one in ranked]
