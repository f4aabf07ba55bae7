"""LlamaIndex: `BGERerank`, a node postprocessor for query engines, chat engines and retrievers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel

try:
    from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
    from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # it is, less openly
    from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
except ModuleNotFoundError as error:
    from bge_rerank_integrations.errors import MissingExtraError

    raise MissingExtraError("llama-index-core", "llama-index") from error

from bge_rerank_integrations.adapter_fields import RerankFields
from bge_rerank_integrations.ranking import rank

RETRIEVAL_SCORE_KEY = "retrieval_score"
dispatcher = get_dispatcher(__name__)


class BGERerank(RerankFields, BaseNodePostprocessor):
    """Rescores retrieved nodes with a BGE reranker and keeps the best.

    Use it among the `node_postprocessors` of a query engine. Threads and event loops may share one; the model is loaded
    at the first use, or by `warm_up()`. A `SimilarityPostprocessor` after it drops negative scores: give it
    `scale="sigmoid"` then.

    Example:
        `index.as_query_engine(node_postprocessors=[BGERerank(model="BAAI/bge-reranker-v2-m3", top_n=5)])`
    """

    metadata_mode: MetadataMode = MetadataMode.EMBED
    """Which of a node's metadata is scored together with its text."""
    keep_retrieval_score: bool = False
    """Whether to keep the retriever's score in `metadata["retrieval_score"]`, where prompts and embeddings omit it."""

    @classmethod
    def class_name(cls) -> str:
        return "BGERerank"

    def __getstate__(self) -> dict[str, Any]:
        """Without the callbacks, which belong to this process; the inherited method would take them from `self` too."""
        state = BaseModel.__getstate__(self)
        return {**state, "__dict__": {k: v for k, v in state["__dict__"].items() if k != "callback_manager"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        values = {"callback_manager": CallbackManager(), **state["__dict__"]}
        BaseModel.__setstate__(self, {**state, "__dict__": values})

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> BGERerank:
        return super().__deepcopy__({**(memo or {}), id(self.callback_manager): self.callback_manager})

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _query(query_bundle)
        if not nodes:
            return []
        with self._events(nodes, query) as chosen:
            scores = self._ready().score(query, self._texts(nodes))
            chosen.extend(self._chosen(nodes, scores))
        return chosen

    @dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _query(query_bundle)
        if not nodes:
            return []
        with self._events(nodes, query) as chosen:
            scorer = await self._aready()
            scores = await scorer.ascore(query, self._texts(nodes))
            chosen.extend(self._chosen(nodes, scores))
        return chosen

    @contextmanager
    def _events(self, nodes: Sequence[NodeWithScore], query: str) -> Iterator[list[NodeWithScore]]:
        """LlamaIndex's two kinds of events around the work, which fills the list that is given."""
        chosen: list[NodeWithScore] = []
        name = self.model or "BGERerank"
        top_n = len(nodes) if self.top_n is None else self.top_n
        dispatcher.event(ReRankStartEvent(query=query, nodes=list(nodes), top_n=top_n, model_name=name))
        payload: dict[str, Any] = {
            EventPayload.NODES: list(nodes),
            EventPayload.MODEL_NAME: name,
            EventPayload.QUERY_STR: query,
            EventPayload.TOP_K: top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            yield chosen
            event.on_end(payload={EventPayload.NODES: chosen})
        dispatcher.event(ReRankEndEvent(nodes=chosen))

    def _texts(self, nodes: Sequence[NodeWithScore]) -> list[str]:
        return [node.node.get_content(metadata_mode=self.metadata_mode) or "" for node in nodes]

    def _chosen(self, nodes: Sequence[NodeWithScore], scores: Sequence[float]) -> list[NodeWithScore]:
        return [
            NodeWithScore(node=self._node(nodes[index]), score=score)
            for index, score in rank(scores, self.top_n, self.score_threshold)
        ]

    def _node(self, scored: NodeWithScore) -> BaseNode:
        if not self.keep_retrieval_score:
            return scored.node
        update: dict[str, Any] = {"metadata": {**scored.node.metadata, RETRIEVAL_SCORE_KEY: scored.score}}
        for field in ("excluded_embed_metadata_keys", "excluded_llm_metadata_keys"):
            keys = getattr(scored.node, field)
            update[field] = keys if RETRIEVAL_SCORE_KEY in keys else [*keys, RETRIEVAL_SCORE_KEY]
        return scored.node.model_copy(update=update)


def _query(bundle: QueryBundle | None) -> str:
    if bundle is None:
        raise ValueError("Missing query bundle in extra info.")
    return bundle.query_str
