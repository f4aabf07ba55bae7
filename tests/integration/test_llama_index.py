"""`llama_index.BGERerank`, called as LlamaIndex's own engines, tools and evaluators do, and its events."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.evaluation import RetrieverEvaluator
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.schema import ImageNode, IndexNode, MetadataMode, Node, NodeWithScore, QueryBundle, TextNode
from llama_index.core.tools import RetrieverTool

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.errors import ClosedError
from bge_rerank_integrations.llama_index import BGERerank
from tests.conftest import CHECKPOINTS, golden

if TYPE_CHECKING:
    from tests.integration.conftest import Recorded

ENCODER = str(CHECKPOINTS / "encoder")
TEXTS = [text for _, text in golden()["pairs"]["mixed"]][:8]
QUERY = "What is the capital of France?"
PAYLOAD = {EventPayload.NODES, EventPayload.MODEL_NAME, EventPayload.QUERY_STR, EventPayload.TOP_K}


def scored(texts: Sequence[str] = TEXTS) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text, id_=f"n{i}"), score=i / 10) for i, text in enumerate(texts)]


def ranking(nodes: Sequence[NodeWithScore]) -> list[tuple[str, float | None]]:
    return [(node.node_id, node.score) for node in nodes]


def wanted(scorer: Scorer, query: str = QUERY, texts: Sequence[str] = TEXTS, top_n: int | None = 3) -> Any:
    """What the scorer itself says is the ranking."""
    return [(f"n{index}", pytest.approx(score, abs=1e-5)) for index, score in scorer.rank(query, texts, top_n)]


def sync(reranker: BGERerank, *args: Any, **kwargs: Any) -> Any:
    return reranker.postprocess_nodes(*args, **kwargs)


async def asynchronous(reranker: BGERerank, *args: Any, **kwargs: Any) -> Any:
    return await reranker.apostprocess_nodes(*args, **kwargs)


async def result(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


both_ways = pytest.mark.parametrize("rerank", [sync, asynchronous])


# --- recorders --------------------------------------------------------------------------------------------------------


class Callbacks(BaseCallbackHandler):
    """What the callback manager was told about reranking."""

    def __init__(self) -> None:
        super().__init__([], [])
        self.lock = threading.Lock()  # also makes it a handler that cannot be pickled, as real ones are
        self.seen: list[tuple[str, str, dict[str, Any]]] = []

    def on_event_start(self, event_type: Any, payload: Any = None, event_id: str = "", **_: Any) -> str:
        if event_type == CBEventType.RERANKING:
            self.seen.append(("start", event_id, payload))
        return event_id

    def on_event_end(self, event_type: Any, payload: Any = None, event_id: str = "", **_: Any) -> None:
        if event_type == CBEventType.RERANKING:
            self.seen.append(("end", event_id, payload))

    def start_trace(self, trace_id: str | None = None) -> None: ...

    def end_trace(self, trace_id: str | None = None, trace_map: Any = None) -> None: ...


@pytest.fixture
def callbacks() -> Iterator[Callbacks]:
    """Set for the whole of LlamaIndex, as an application does."""
    handler = Callbacks()
    before = Settings.callback_manager
    Settings.callback_manager = CallbackManager([handler])
    yield handler
    Settings.callback_manager = before


# --- in engines -------------------------------------------------------------------------------------------------------


@pytest.fixture
def index() -> VectorStoreIndex:
    return VectorStoreIndex([node.node for node in scored()], embed_model=MockEmbedding(embed_dim=4))


def query_engine(index: VectorStoreIndex, *steps: Any) -> Any:
    return index.as_query_engine(llm=MockLLM(), similarity_top_k=8, node_postprocessors=list(steps))


def chat_engine(index: VectorStoreIndex, mode: str, *steps: Any) -> Any:
    memory = ChatMemoryBuffer.from_defaults(token_limit=10_000)  # the default one leaves an open database behind
    keywords = {"llm": MockLLM(), "memory": memory, "similarity_top_k": 8, "node_postprocessors": list(steps)}
    return index.as_chat_engine(mode, **keywords)


ENGINES: dict[str, Callable[[VectorStoreIndex, Any], Any]] = {
    "query": lambda index, step: query_engine(index, step).query(QUERY),
    "aquery": lambda index, step: query_engine(index, step).aquery(QUERY),
    "chat": lambda index, step: chat_engine(index, "context", step).chat(QUERY),
    "achat": lambda index, step: chat_engine(index, "context", step).achat(QUERY),
    "condensing chat": lambda index, step: chat_engine(index, "condense_plus_context", step).chat(QUERY),
    "condensing achat": lambda index, step: chat_engine(index, "condense_plus_context", step).achat(QUERY),
}


@pytest.mark.parametrize("call", ENGINES.values(), ids=ENGINES)
async def test_engines_rerank_and_record_it_once(
    call: Callable[..., Any],
    index: VectorStoreIndex,
    encoder: Scorer,
    recorded: Recorded,
    callbacks: Callbacks,
) -> None:
    reranker = BGERerank(scorer=encoder, model="tiny")
    response = await result(call(index, reranker))
    assert ranking(response.source_nodes) == wanted(encoder)
    spans, events = recorded
    assert [type(event) for event in events] == [ReRankStartEvent, ReRankEndEvent]
    assert [kind for kind, *_ in callbacks.seen] == ["start", "end"]
    assert reranker.callback_manager.handlers == [callbacks]  # the engine assigned it
    assert spans.open_spans == {}


@pytest.mark.parametrize("asynchronously", [False, True])
async def test_a_retriever_tool_reranks(asynchronously: bool, index: VectorStoreIndex, encoder: Scorer) -> None:
    retriever = index.as_retriever(similarity_top_k=8)
    tool = RetrieverTool.from_defaults(retriever, node_postprocessors=[BGERerank(scorer=encoder)])
    output = await result(tool.acall(QUERY) if asynchronously else tool.call(QUERY))
    assert ranking(output.raw_output) == wanted(encoder, query=output.raw_input["input"])


async def test_an_evaluator_sees_the_reranked_order(index: VectorStoreIndex, encoder: Scorer) -> None:
    best, *_ = [name for name, _ in wanted(encoder)]
    evaluator = RetrieverEvaluator.from_metric_names(
        ["mrr", "hit_rate"],
        retriever=index.as_retriever(similarity_top_k=8),
        node_postprocessors=[BGERerank(scorer=encoder)],
    )
    evaluation = await evaluator.aevaluate(QUERY, expected_ids=[best])
    assert evaluation.retrieved_ids == [name for name, _ in wanted(encoder)]
    assert evaluation.metric_vals_dict == {"mrr": 1.0, "hit_rate": 1.0}


@pytest.mark.parametrize("scale", ["logit", "sigmoid"])
@pytest.mark.parametrize("asynchronously", [False, True])
async def test_a_similarity_cut_behind_it(
    scale: Any, asynchronously: bool, index: VectorStoreIndex, encoder: Scorer
) -> None:
    """At its default of 0 it drops negative logits, and nothing of the sigmoid scale."""
    scorer = encoder.with_options(scale=scale)
    engine = query_engine(index, BGERerank(scorer=scorer, top_n=None), SimilarityPostprocessor())
    response = await result(engine.aquery(QUERY) if asynchronously else engine.query(QUERY))
    scores = sorted(scorer.score(QUERY, TEXTS), reverse=True)
    kept = [score for score in scores if score >= 0]
    assert [node.score for node in response.source_nodes] == pytest.approx(kept, abs=1e-5)
    assert len(kept) == 8 if scale == "sigmoid" else len(kept) < 8


async def test_two_in_a_chain_each_use_their_own_settings(index: VectorStoreIndex, encoder: Scorer) -> None:
    first = BGERerank(scorer=encoder.with_options(max_length=8), top_n=5)
    second = BGERerank(scorer=encoder, top_n=2, keep_retrieval_score=True)
    response = await query_engine(index, first, second).aquery(QUERY)
    kept = dict(encoder.with_options(max_length=8).rank(QUERY, TEXTS, 5))
    best = sorted(kept, key=lambda place: -encoder.score(QUERY, TEXTS)[place])[:2]
    assert [node.node_id for node in response.source_nodes] == [f"n{place}" for place in best]
    before = [node.node.metadata["retrieval_score"] for node in response.source_nodes]
    assert before == pytest.approx([kept[place] for place in best], abs=1e-5)


# --- events -----------------------------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize(("top_n", "said"), [(2, 2), (None, 8), (0, 0), (99, 99)])
@pytest.mark.parametrize("name", [None, "tiny"])
async def test_events_are_a_pair_within_the_one_span(
    rerank: Any,
    top_n: int | None,
    said: int,
    name: str | None,
    encoder: Scorer,
    recorded: Recorded,
    callbacks: Callbacks,
) -> None:
    given = scored()
    reranker = BGERerank(scorer=encoder, model=name, top_n=top_n)
    found = await result(rerank(reranker, given, query_str=QUERY))
    spans, events = recorded
    start, end = events
    (span,) = spans.completed_spans
    assert start.span_id == end.span_id == span.id_
    assert span.id_.startswith("BGERerank._apostprocess" if rerank is asynchronous else "BGERerank._postprocess")
    assert (start.query, start.top_n, start.nodes) == (QUERY, said, given)
    assert start.model_name == name or not name
    assert (type(start.model_name), bool(start.model_name), end.nodes) == (str, True, found)

    (kind, started, payload), (last, ended, outcome) = callbacks.seen
    assert (kind, last, started) == ("start", "end", ended)
    assert payload.keys() == PAYLOAD
    assert payload[EventPayload.NODES] == given
    assert payload[EventPayload.QUERY_STR] == QUERY
    assert (payload[EventPayload.TOP_K], payload[EventPayload.MODEL_NAME]) == (said, start.model_name)
    assert outcome[EventPayload.NODES] == found


@both_ways
async def test_nothing_in_nothing_out_and_nothing_told(
    rerank: Any, recorded: Recorded, callbacks: Callbacks, loads: Any
) -> None:
    assert await result(rerank(BGERerank(model=ENCODER), [], query_str=QUERY)) == []
    assert (recorded.events, callbacks.seen, loads.models) == ([], [], [])


@both_ways
async def test_an_error_reaches_the_caller_the_span_and_the_callbacks(
    rerank: Any, recorded: Recorded, callbacks: Callbacks
) -> None:
    scorer = load_scorer(ENCODER)
    reranker = BGERerank(scorer=scorer)
    scorer.close()
    with pytest.raises(ClosedError) as raised:
        await result(rerank(reranker, scored(), query_str=QUERY))
    assert [kind for kind, *_ in callbacks.seen] == ["start", "end"]
    assert callbacks.seen[1][2] == {EventPayload.EXCEPTION: raised.value}
    spans, _ = recorded
    assert (len(spans.dropped_spans), spans.open_spans) == (1, {})


# --- the postprocessor by itself --------------------------------------------------------------------------------------


@both_ways
async def test_a_missing_query_is_an_error_and_an_empty_one_is_not(rerank: Any, encoder: Scorer) -> None:
    reranker = BGERerank(scorer=encoder)
    with pytest.raises(ValueError, match=r"^Missing query bundle in extra info\.$"):
        await result(rerank(reranker, scored()))
    for query in ({"query_str": ""}, {"query_bundle": QueryBundle("")}):
        assert ranking(await result(rerank(reranker, scored(), **query))) == wanted(encoder, query="")


@both_ways
@pytest.mark.parametrize("keep", [False, True])
async def test_nothing_of_the_callers_is_touched(rerank: Any, keep: bool, encoder: Scorer) -> None:
    given = scored()
    for node in given:
        node.node.metadata = {"lock": "a", "n": 1}
        node.node.excluded_llm_metadata_keys = ["n"]
    snapshot, hashes, inner = zip(*((n.model_dump(), n.node.hash, n.node) for n in given), strict=True)
    reranker = BGERerank(scorer=encoder, top_n=None, keep_retrieval_score=keep)
    found = await result(rerank(reranker, given, query_str=QUERY))
    assert tuple(node.model_dump() for node in given) == snapshot
    assert tuple(node.node.hash for node in given) == hashes
    assert all(node.node is before for node, before in zip(given, inner, strict=True))
    assert not {id(node) for node in found} & {id(node) for node in given}
    assert {type(node.score) for node in found} == {float}


@pytest.mark.parametrize("top_n", [None, 0, 1, 8, 1000])
def test_top_n_counts(top_n: int | None, encoder: Scorer) -> None:
    found = BGERerank(scorer=encoder, top_n=top_n).postprocess_nodes(scored(), query_str=QUERY)
    assert ranking(found) == wanted(encoder, top_n=top_n)


def test_the_threshold_is_inclusive() -> None:
    with load_scorer(ENCODER, cache_size=100) as scorer:  # remembers, so that scores are the same to the last bit
        third = scorer.rank(QUERY, TEXTS)[2].score
        for threshold, kept in ((third, 3), (math.nextafter(third, math.inf), 2)):
            reranker = BGERerank(scorer=scorer, top_n=None, score_threshold=threshold)
            assert len(reranker.postprocess_nodes(scored(), query_str=QUERY)) == kept


@pytest.mark.parametrize("excluded", [[], ["secret"], ["retrieval_score"]], ids=str)
def test_the_retrieval_score_is_kept_out_of_prompts_and_embeddings(excluded: list[str], encoder: Scorer) -> None:
    keys = {"excluded_embed_metadata_keys": list(excluded), "excluded_llm_metadata_keys": list(excluded)}
    node = TextNode(text="Paris", id_="a", metadata={"secret": "x", "title": "y"}, embedding=[1.0], **keys)
    reranker = BGERerank(scorer=encoder, keep_retrieval_score=True)
    (found,) = reranker.postprocess_nodes([NodeWithScore(node=node, score=0.25)], query_str=QUERY)
    assert found.node.metadata == {"secret": "x", "title": "y", "retrieval_score": 0.25}
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        assert found.node.get_content(mode) == node.get_content(mode)
        assert found.node.get_content_blocks(mode) == node.get_content_blocks(mode)
    for got in (found.node.excluded_embed_metadata_keys, found.node.excluded_llm_metadata_keys):
        assert sorted(got) == sorted({*excluded, "retrieval_score"})
    assert (found.node_id, found.node.embedding, type(found.node)) == ("a", [1.0], TextNode)
    again = reranker.model_copy(update={"metadata_mode": MetadataMode.EMBED})
    (twice,) = again.postprocess_nodes([found], query_str=QUERY)
    assert twice.score == pytest.approx(found.score, abs=1e-5)  # the kept score is not part of what is scored


def test_the_retrieval_score_reaches_no_prompt(index: VectorStoreIndex, encoder: Scorer) -> None:
    """MockLLM answers with its prompt."""
    response = query_engine(index, BGERerank(scorer=encoder, keep_retrieval_score=True)).query(QUERY)
    assert all("retrieval_score" in node.node.metadata for node in response.source_nodes)
    assert "retrieval_score" not in str(response)
    places = [str(response).index(node.text) for node in response.source_nodes]
    assert places == sorted(places)


@both_ways
async def test_of_two_in_a_row_the_retrievers_score_is_kept(rerank: Any, encoder: Scorer) -> None:
    first = BGERerank(scorer=encoder.with_options(max_length=8), top_n=6, keep_retrieval_score=True)
    second = BGERerank(scorer=encoder, top_n=None, keep_retrieval_score=True)
    found = await result(rerank(first, scored(), query_str=QUERY))
    found = await result(rerank(second, SimilarityPostprocessor(similarity_cutoff=-9).postprocess_nodes(found), QUERY))
    assert len(found) == 6
    retrieved = {node.node_id: node.score for node in scored()}
    assert {node.node_id: node.metadata["retrieval_score"] for node in found}.items() <= retrieved.items()
    assert all(node.node.excluded_llm_metadata_keys == ["retrieval_score"] for node in found)
    again = await result(rerank(second.with_options(keep_retrieval_score=False), found, query_str=QUERY))
    assert ranking(again) == [(name, pytest.approx(score, abs=1e-5)) for name, score in ranking(found)]
    assert all(node.metadata["retrieval_score"] == retrieved[node.node_id] for node in again)


def test_a_score_that_was_stored_with_its_node_stays(encoder: Scorer) -> None:
    """As documented: nothing tells it from that of a reranker before, so users remove it before they store nodes."""
    stored = TextNode(text="Paris", metadata={"retrieval_score": 0.9})
    reranker = BGERerank(scorer=encoder, keep_retrieval_score=True)
    (found,) = reranker.postprocess_nodes([NodeWithScore(node=stored, score=0.1)], query_str=QUERY)
    assert found.metadata["retrieval_score"] == 0.9
    assert stored.excluded_llm_metadata_keys == []


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    "kind",
    [TextNode, Node, ImageNode, lambda: IndexNode(index_id="i", text="")],
    ids=["text", "node", "image", "index"],
)
@pytest.mark.parametrize("blank", ["last", "score"])
def test_nodes_without_text_or_score_are_blank(kind: Any, keep: bool, blank: Any, encoder: Scorer) -> None:
    reranker = BGERerank(scorer=encoder, keep_retrieval_score=keep, blank=blank)
    (found,) = reranker.postprocess_nodes([NodeWithScore(node=kind())], query_str=QUERY)
    assert found.score == pytest.approx(-1000 if blank == "last" else encoder.score(QUERY, [""])[0], abs=1e-5)
    assert found.node.metadata == ({"retrieval_score": None} if keep else {})


@pytest.mark.parametrize("keep", [False, True])
def test_a_node_that_was_found_twice_stays_twice(keep: bool, encoder: Scorer) -> None:
    node, other = TextNode(text="same", id_="a"), TextNode(text="different", id_="a")
    given = [NodeWithScore(node=one, score=score) for score, one in enumerate((node, other, node))]
    reranker = BGERerank(scorer=encoder, top_n=None, keep_retrieval_score=keep)
    found = reranker.postprocess_nodes(given, query_str=QUERY)
    assert sorted(one.text for one in found) == ["different", "same", "same"]
    if keep:
        assert [one.node.metadata["retrieval_score"] for one in found if one.text == "same"] == [0.0, 2.0]


@pytest.mark.parametrize("mode", MetadataMode)
def test_the_metadata_mode_chooses_what_is_scored(mode: MetadataMode, encoder: Scorer) -> None:
    hidden = {"excluded_embed_metadata_keys": ["b"], "excluded_llm_metadata_keys": ["a"]}
    node = TextNode(text="Paris", metadata={"a": "capital", "b": "Frankreich"}, **hidden)
    reranker = BGERerank(scorer=encoder, metadata_mode=mode)
    (found,) = reranker.postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)
    assert found.score == pytest.approx(encoder.score(QUERY, [node.get_content(mode)])[0], abs=1e-5)
    assert BGERerank(scorer=encoder).metadata_mode is MetadataMode.EMBED


# --- as a component ---------------------------------------------------------------------------------------------------


def test_it_goes_through_dicts_and_json() -> None:
    reranker = BGERerank(
        model=str(CHECKPOINTS / "lightweight"),
        top_n=None,
        score_threshold=-10.0,
        metadata_mode=MetadataMode.LLM,
        keep_retrieval_score=True,
        compress_layers=(1, 2),
        compress_ratio=2,
        devices=["cpu"],
        max_length=64,
    )
    data = reranker.to_dict()
    assert data["class_name"] == BGERerank.class_name() == "BGERerank"
    assert not {"callback_manager", "scorer"} & data.keys()
    found = reranker.postprocess_nodes(scored(), query_str=QUERY)
    for back in (BGERerank.from_dict(data), BGERerank.from_json(reranker.to_json())):
        assert back.to_json() == reranker.to_json()
        assert (type(back), back.metadata_mode) == (BGERerank, MetadataMode.LLM)
        assert ranking(back.postprocess_nodes(scored(), query_str=QUERY)) == [
            (node.node_id, pytest.approx(node.score, abs=1e-5)) for node in found
        ]
    assert BGERerank.from_dict(data, top_n=7).top_n == 7


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["deep", "pickle"])
def test_copies_work_and_leave_the_original_as_it_was(copied: Any, callbacks: Callbacks) -> None:
    """LlamaIndex's own `__getstate__` deletes what cannot be pickled from the object that is being pickled."""
    reranker = BGERerank(model=ENCODER, callback_manager=CallbackManager([callbacks]))
    for one in (copied(reranker), reranker):
        assert len(one.postprocess_nodes(scored(), query_str=QUERY)) == 3
    assert reranker.callback_manager.handlers == [callbacks]


def test_fields_stay_assignable(encoder: Scorer, callbacks: Callbacks) -> None:
    reranker = BGERerank(scorer=encoder)
    reranker.callback_manager = manager = CallbackManager([callbacks])
    reranker.top_n, reranker.keep_retrieval_score, reranker.metadata_mode = 1, True, "none"  # type: ignore[assignment]
    assert reranker.callback_manager is manager
    (found,) = reranker.postprocess_nodes(scored(), query_str=QUERY)
    assert (found.node_id, found.score) == wanted(encoder)[0]
    assert "retrieval_score" in found.node.metadata
    assert [kind for kind, *_ in callbacks.seen] == ["start", "end"]
