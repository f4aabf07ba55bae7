"""LlamaIndex: `BGERerank`, a node postprocessor for query engines, chat engines and retrievers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, field_serializer, model_validator

try:
    from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
    from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # it is, less openly
    from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
except ModuleNotFoundError as error:
    from bge_rerank_integrations.errors import MissingExtraError

    raise MissingExtraError(["llama-index-core"], "llama-index") from error

from bge_rerank_integrations.ranking import check_query, describe
from bge_rerank_integrations.rerank_fields import RETRIEVAL_SCORE_KEY, RerankFields, details
from bge_rerank_integrations.reranking import Reranked
from bge_rerank_integrations.text_choice import Passage, heads

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
    """Whether to keep the retriever's score in `metadata["retrieval_score"]`, where prompts and embeddings omit it.

    A node that has one already keeps it, so that of several rerankers in a row the first one's is kept. Remove it from
    nodes before they are stored, or it stays with them.
    """

    @model_validator(mode="after")
    def _check_one_choice_of_text(self) -> BGERerank:
        if self.metadata_fields and self.metadata_mode is not MetadataMode.EMBED:
            raise ValueError(
                f"metadata_mode={self.metadata_mode.value!r} beside metadata_fields={self.metadata_fields!r}: both say "
                "which metadata is scored, so give one of them"
            )
        return self

    @classmethod
    def class_name(cls) -> str:
        return "BGERerank"

    @model_validator(mode="before")
    @classmethod
    def _from_saved(cls, values: Any) -> Any:
        """Take what `to_dict` and `model_dump` write, in which the class is named as well."""
        if isinstance(values, Mapping) and values.get("class_name") == cls.class_name():
            return {name: value for name, value in values.items() if name != "class_name"}
        return values

    @field_serializer("metadata_mode")
    def _mode_as_text(self, mode: MetadataMode) -> str:
        return mode.value  # YAML knows no enums

    def __getstate__(self) -> dict[str, Any]:
        """Without the callbacks, which belong to this process; the inherited method takes them from `self` too."""
        state = super().__getstate__()
        return {**state, "__dict__": {k: v for k, v in state["__dict__"].items() if k != "callback_manager"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        values = {"callback_manager": CallbackManager(), **state["__dict__"]}
        BaseModel.__setstate__(self, {**state, "__dict__": values})

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> BGERerank:
        return super().__deepcopy__({**(memo or {}), id(self.callback_manager): self.callback_manager})

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query, given = _query(query_bundle), _nodes(nodes)
        passages = self._passages(given)
        if not given:
            return []
        with self._events(given, query) as chosen:
            chosen.extend(self._chosen(given, self._reranked(query, passages, self.top_n)))
        return chosen

    @dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query, given = _query(query_bundle), _nodes(nodes)
        passages = self._passages(given)
        if not given:
            return []
        with self._events(given, query) as chosen:
            chosen.extend(self._chosen(given, await self._areranked(query, passages, self.top_n)))
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

    def _passages(self, nodes: Sequence[NodeWithScore]) -> list[Passage]:
        if not self.metadata_fields:
            return [self._passage(one) for one in nodes]
        chosen = heads([one.node.metadata for one in nodes], self.metadata_fields)
        return [
            Passage(one.node.get_content(metadata_mode=MetadataMode.NONE) or "", head, one.score)
            for one, head in zip(nodes, chosen, strict=True)
        ]

    def _passage(self, scored: NodeWithScore) -> Passage:
        """The node's text, as LlamaIndex itself puts its metadata before it."""
        content = scored.node.get_content(metadata_mode=self.metadata_mode) or ""
        own = (scored.node.get_content(metadata_mode=MetadataMode.NONE) or "").rstrip()
        known = content.rstrip()  # the node's template may have stripped the text
        start = len(known) - len(own) if known.endswith(own) else 0
        return Passage(content[start:], content[:start], scored.score)

    def _chosen(self, nodes: Sequence[NodeWithScore], ranked: Sequence[Reranked]) -> list[NodeWithScore]:
        return [NodeWithScore(node=self._node(nodes[one.index], one), score=one.score) for one in ranked]

    def _node(self, scored: NodeWithScore, one: Reranked) -> BaseNode:
        """The node itself, or a copy with more metadata, of which neither prompts nor embeddings show anything."""
        new = {**scored.node.metadata, **details(one)}
        if self.keep_retrieval_score:
            # of two rerankers in a row the first has kept it, and the score that the second is given is the first one's
            new[RETRIEVAL_SCORE_KEY] = scored.node.metadata.get(RETRIEVAL_SCORE_KEY, scored.score)
        added = [RETRIEVAL_SCORE_KEY] if self.keep_retrieval_score else []
        added += [key for key in details(one) if key not in added]
        if not added:
            return scored.node
        update: dict[str, Any] = {"metadata": new}
        for field in ("excluded_embed_metadata_keys", "excluded_llm_metadata_keys"):
            keys = getattr(scored.node, field)
            update[field] = [*keys, *(key for key in added if key not in keys)]
        return scored.node.model_copy(update=update)


def _query(bundle: QueryBundle | str | None) -> str:
    if bundle is None:
        raise ValueError("Missing query bundle in extra info.")
    if isinstance(bundle, str):
        return bundle  # given by position, where the bundle stands
    if not isinstance(bundle, QueryBundle):
        raise TypeError(f"query_bundle is {describe(bundle)}: give a QueryBundle, or query_str=")
    check_query(bundle.query_str)
    return bundle.query_str


def _nodes(nodes: Iterable[Any]) -> list[NodeWithScore]:
    """What was given, at the time of the call: the caller may change its list while this one waits."""
    if isinstance(nodes, (str, BaseNode, NodeWithScore)) or not isinstance(nodes, Iterable):
        raise TypeError(f"nodes is {describe(nodes)}: give a list, [node] for a single one")
    return [_with_score(index, node) for index, node in enumerate(nodes)]


def _with_score(index: int, node: object) -> NodeWithScore:
    if isinstance(node, NodeWithScore):
        return node
    if isinstance(node, BaseNode):
        return NodeWithScore(node=node)
    raise TypeError(f"nodes[{index}] is {describe(node)}: give a NodeWithScore, or a node, such as TextNode(text=...)")
