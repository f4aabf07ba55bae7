"""`langchain.BGERerank` and `BGECrossEncoder`, called as LangChain's own retrievers, pipelines, chains and tools do."""

from __future__ import annotations

import inspect
import math
import threading
from collections import UserList, deque
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_classic.retrievers import ContextualCompressionRetriever, EnsembleRetriever
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker, DocumentCompressorPipeline
from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, CallbackManager
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.tools import create_retriever_tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests
from langchain_text_splitters import CharacterTextSplitter

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.langchain import BGECrossEncoder, BGERerank
from tests.conftest import CHECKPOINTS, golden

ENCODER = str(CHECKPOINTS / "encoder")
TEXTS = [text for _, text in golden()["pairs"]["mixed"]][:8]
QUERIES = ["What is the capital of France?", "del statement", "Какая столица России?"]
QUERY = QUERIES[0]


def documents(texts: Sequence[str] = TEXTS) -> list[Document]:
    return [Document(text, id=str(place), metadata={"place": place}) for place, text in enumerate(texts)]


def ranking(found: Sequence[Document]) -> list[tuple[str, float]]:
    return [(document.page_content, document.metadata["relevance_score"]) for document in found]


def wanted(scorer: Scorer, query: str = QUERY, texts: Sequence[str] = TEXTS, top_n: int | None = 3) -> Any:
    """What the scorer itself says is the ranking."""
    return [(texts[index], pytest.approx(score, abs=1e-5)) for index, score in scorer.rank(query, texts, top_n)]


def places(found: Sequence[Document]) -> list[int]:
    return [document.metadata["place"] for document in found]


# --- in pipelines -----------------------------------------------------------------------------------------------------


@pytest.fixture
def base() -> BaseRetriever:
    """Finds every text, in an order that means nothing."""
    store = InMemoryVectorStore.from_documents(documents(), DeterministicFakeEmbedding(size=16))
    return store.as_retriever(search_kwargs={"k": len(TEXTS)})


def compression(reranker: BGERerank, base: BaseRetriever) -> Runnable:
    return ContextualCompressionRetriever(base_compressor=reranker, base_retriever=base)


def pipeline(reranker: BGERerank, base: BaseRetriever) -> Runnable:
    steps = [CharacterTextSplitter(chunk_size=10_000), reranker.model_copy(update={"top_n": 5}), reranker]
    return compression(DocumentCompressorPipeline(transformers=steps), base)


def before_ensemble(reranker: BGERerank, base: BaseRetriever) -> Runnable:
    return EnsembleRetriever(retrievers=[compression(reranker, base), compression(reranker, base)])


def after_ensemble(reranker: BGERerank, base: BaseRetriever) -> Runnable:
    return compression(reranker, EnsembleRetriever(retrievers=[base, base], weights=[0.9, 0.1]))


def chain(reranker: BGERerank, base: BaseRetriever) -> Runnable:
    async def arerank(found: dict[str, Any]) -> list[Document]:
        return await reranker.acompress_documents(found["documents"], found["query"])

    rerank = RunnableLambda(lambda found: reranker.compress_documents(found["documents"], found["query"]), arerank)
    return {"documents": base, "query": RunnablePassthrough()} | rerank


async def ainvoke(runnable: Runnable) -> list[list[Document]]:
    return [await runnable.ainvoke(query) for query in QUERIES]


CALLS: dict[str, Callable[[Runnable], Any]] = {
    "invoke": lambda runnable: [runnable.invoke(query) for query in QUERIES],
    "ainvoke": ainvoke,
    "batch": lambda runnable: runnable.batch(QUERIES),
    "abatch": lambda runnable: runnable.abatch(QUERIES),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("build", [compression, pipeline, before_ensemble, after_ensemble, chain])
async def test_pipelines_rerank(
    build: Callable[..., Runnable], call: Callable[..., Any], base: BaseRetriever, encoder: Scorer
) -> None:
    found = call(build(BGERerank(scorer=encoder), base))
    found = await found if inspect.isawaitable(found) else found
    assert [ranking(one) for one in found] == [wanted(encoder, query) for query in QUERIES]


async def test_an_empty_list_in_a_pipeline_loads_no_model(loads: Any, encoder: Scorer) -> None:
    none_pass = BGERerank(scorer=encoder, score_threshold=math.inf)
    steps = DocumentCompressorPipeline(transformers=[none_pass, BGERerank(model=ENCODER)])
    assert steps.compress_documents(documents(), QUERY) == []
    assert await steps.acompress_documents(documents(), QUERY) == []
    assert loads.models == []


class Runs(BaseCallbackHandler):
    """Which documents each retriever run ended with, by its query."""

    def __init__(self) -> None:
        self.queries: dict[UUID, str] = {}
        self.ended: list[tuple[UUID | None, str, list[Document]]] = []

    def on_retriever_start(self, serialized: Any, query: str, *, run_id: UUID, **_: Any) -> None:
        self.queries[run_id] = query

    def on_retriever_end(self, found: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **_: Any) -> None:
        self.ended.append((parent_run_id, self.queries[run_id], list(found)))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_callbacks_stay_with_their_query(call: Callable[..., Any], base: BaseRetriever, encoder: Scorer) -> None:
    runs = Runs()
    found = call(compression(BGERerank(scorer=encoder), base).with_config(callbacks=[runs]))
    found = await found if inspect.isawaitable(found) else found
    outer = {query: ranking(got) for parent, query, got in runs.ended if parent is None}
    assert outer == {query: ranking(got) for query, got in zip(QUERIES, found, strict=True)}
    assert sum(parent is not None for parent, _, _ in runs.ended) == len(QUERIES)  # the base retriever's runs


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_agent_gets_it_as_a_tool(asynchronous: bool, base: BaseRetriever, encoder: Scorer) -> None:
    tool = create_retriever_tool(
        compression(BGERerank(scorer=encoder), base), "search", "Finds.", response_format="content_and_artifact"
    )
    call = {"name": "search", "args": {"query": QUERY}, "id": "1", "type": "tool_call"}
    model = FakeMessagesListChatModel(responses=[AIMessage("", tool_calls=[call]), AIMessage("done")])
    messages: list[Any] = [HumanMessage(QUERY)]
    while (answer := model.invoke(messages)).tool_calls:
        messages.append(answer)
        for wish in answer.tool_calls:
            messages.append(await tool.ainvoke(wish) if asynchronous else tool.invoke(wish))
    result = messages[-1]
    assert isinstance(result, ToolMessage)
    assert ranking(result.artifact) == wanted(encoder)
    assert result.content == "\n\n".join(text for text, _ in wanted(encoder))


async def test_the_cross_encoder_reranks_in_langchains_own_reranker(base: BaseRetriever, encoder: Scorer) -> None:
    reranker = CrossEncoderReranker(model=BGECrossEncoder(scorer=encoder), top_n=3)
    retriever = ContextualCompressionRetriever(base_compressor=reranker, base_retriever=base)
    best = [text for text, _ in wanted(encoder)]
    assert [document.page_content for document in retriever.invoke(QUERY)] == best
    assert [document.page_content for document in await retriever.ainvoke(QUERY)] == best


def reranked_retriever(k: int = 8) -> BaseRetriever:
    """Where a user sets k in such a retriever: in both of its parts."""
    store = InMemoryVectorStore.from_documents(documents(), DeterministicFakeEmbedding(size=16))
    return compression(BGERerank(model=ENCODER, top_n=k), store.as_retriever(search_kwargs={"k": k}))


class TestStandard(RetrieversIntegrationTests):
    """LangChain's own tests of a retriever."""

    @property
    def retriever_constructor(self) -> Any:
        return reranked_retriever

    @property
    def retriever_query_example(self) -> str:
        return QUERY


# --- the compressor by itself -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_n", [None, 0, 1, 3, 8, 9, 1000])
def test_top_n_counts(top_n: int | None, encoder: Scorer) -> None:
    found = BGERerank(scorer=encoder, top_n=top_n).compress_documents(documents(), QUERY)
    assert ranking(found) == wanted(encoder, top_n=top_n)
    assert len(found) == min(len(TEXTS) if top_n is None else top_n, len(TEXTS))


def test_three_are_kept_unless_told(encoder: Scorer) -> None:
    assert BGERerank(model=ENCODER).top_n == 3
    assert len(BGERerank(scorer=encoder).compress_documents(documents(), QUERY)) == 3


@pytest.mark.parametrize("scale", ["logit", "sigmoid"])
def test_the_threshold_is_inclusive_and_in_the_unit_of_the_scale(scale: Any) -> None:
    with load_scorer(ENCODER, scale=scale, cache_size=100) as scorer:  # remembers scores to the last bit
        ranked = BGERerank(scorer=scorer, top_n=None).compress_documents(documents(), QUERY)
        third = ranked[2].metadata["relevance_score"]
        just_above = math.nextafter(third, math.inf)
        for threshold, top_n, kept in ((third, None, 3), (just_above, None, 2), (third, 1, 1), (math.inf, None, 0)):
            reranker = BGERerank(scorer=scorer, top_n=top_n, score_threshold=threshold)
            assert reranker.compress_documents(documents(), QUERY) == ranked[:kept]


def test_sigmoid_maps_the_same_ranking_into_0_to_1() -> None:
    logits, shares = (
        BGERerank(model=ENCODER, top_n=None, scale=scale).compress_documents(documents(), QUERY)
        for scale in ("logit", "sigmoid")
    )
    assert places(logits) == places(shares)
    for logit, share in zip(ranking(logits), ranking(shares), strict=True):
        assert share[1] == pytest.approx(1 / (1 + math.exp(-logit[1])), abs=1e-6)


def test_the_score_is_a_float_and_replaces_an_older_one(encoder: Scorer) -> None:
    old = [document.model_copy(update={"metadata": {"relevance_score": "old", "n": 1}}) for document in documents()]
    found = BGERerank(scorer=encoder).compress_documents(old, QUERY)
    assert ranking(found) == wanted(encoder)
    assert all(type(document.metadata["relevance_score"]) is float for document in found)
    assert all(document.metadata.keys() == {"relevance_score", "n"} for document in found)


class Cited(Document):
    """A subclass, as vector stores and loaders make them."""

    source: str


def test_documents_are_copied_whatever_their_metadata_holds(encoder: Scorer) -> None:
    """Neither JSON nor deep copies would do for these values and keys."""
    metadata = {"lock": threading.Lock(), "steps": (step for step in "abc"), 7: "seven", ("a", "b"): None, None: object}
    given = [Cited(page_content=text, id=f"id-{text}", source="book", metadata=dict(metadata)) for text in TEXTS]
    found = BGERerank(scorer=encoder, top_n=None).compress_documents(given, QUERY)
    assert [document.page_content for document in given] == TEXTS
    assert all(document.metadata == metadata for document in given)
    for document in found:
        score = document.metadata.pop("relevance_score")
        assert type(document) is Cited
        assert (document.source, document.id) == ("book", f"id-{document.page_content}")
        assert document.metadata == metadata
        assert document.metadata is not given[TEXTS.index(document.page_content)].metadata
        assert math.isfinite(score)


def test_duplicates_and_blank_texts_are_kept(encoder: Scorer) -> None:
    texts = ["", "same", "other", "same", " \n\t", "", "same"] * 5
    found = BGERerank(scorer=encoder, top_n=None, blank="score").compress_documents(documents(texts), QUERY)
    assert ranking(found) == wanted(encoder, texts=texts, top_n=None)
    order = places(found)
    assert sorted(order) == list(range(len(texts)))
    for text in set(texts):  # the same text has the same score, and so keeps the order given
        again = [place for place in order if texts[place] == text]
        assert again == sorted(again)


@pytest.mark.parametrize("kind", [list, tuple, deque, UserList])
@pytest.mark.parametrize("count", [0, 8])
async def test_any_sequence_goes_in_and_a_list_comes_out(kind: type, count: int, encoder: Scorer) -> None:
    reranker = BGERerank(scorer=encoder)
    for found in (
        reranker.compress_documents(kind(documents()[:count]), QUERY),
        await reranker.acompress_documents(kind(documents()[:count]), QUERY),
    ):
        assert type(found) is list
        assert ranking(found) == (wanted(encoder) if count else [])


@pytest.mark.parametrize(
    "callbacks", [None, [Runs()], CallbackManager([Runs()]), AsyncCallbackManager([Runs()])], ids=type
)
async def test_callbacks_come_in_every_form_by_position_or_name(callbacks: Any, encoder: Scorer) -> None:
    reranker = BGERerank(scorer=encoder)
    assert ranking(reranker.compress_documents(documents(), QUERY, callbacks)) == wanted(encoder)
    assert ranking(await reranker.acompress_documents(documents(), QUERY, callbacks)) == wanted(encoder)
    assert ranking(reranker.compress_documents(documents=documents(), query=QUERY, callbacks=callbacks))
    assert ranking(await reranker.acompress_documents(documents=documents(), query=QUERY, callbacks=callbacks))


async def test_a_query_that_is_no_string_is_refused(encoder: Scorer) -> None:
    reranker = BGERerank(scorer=encoder)
    with pytest.raises(TypeError, match="query is None"):
        reranker.compress_documents(documents(), None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="query is None"):
        await reranker.acompress_documents(documents(), None)  # type: ignore[arg-type]


# `scorers`, and not `encoder`: hypothesis refuses fixtures that are made anew for each test
@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.text(max_size=30), max_size=9),
    top_n=st.none() | st.integers(0, 12),
    threshold=st.none() | st.floats(-0.5, 0.5),
)
def test_whatever_comes_in(
    scorers: Callable[[str], Scorer], texts: list[str], top_n: int | None, threshold: float | None
) -> None:
    reranker = BGERerank(scorer=scorers("encoder"), top_n=top_n, score_threshold=threshold)
    found = reranker.compress_documents(documents(texts), QUERY)
    keys = [(-document.metadata["relevance_score"], document.metadata["place"]) for document in found]
    assert keys == sorted(keys)
    assert len(found) <= (len(texts) if top_n is None else top_n)
    assert threshold is None or all(-score >= threshold for score, _ in keys)
    assert all(document.page_content == texts[document.metadata["place"]] for document in found)


# --- rerank, and the cross-encoder ------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [TEXTS, documents(), [*TEXTS[:4], *documents()[4:]]], ids=["str", "doc", "both"])
def test_rerank_gives_places_and_scores(given: Any, encoder: Scorer) -> None:
    ranked = [{"index": i, "relevance_score": pytest.approx(s, abs=1e-5)} for i, s in encoder.rank(QUERY, TEXTS)]
    reranker = BGERerank(scorer=encoder, top_n=2)
    assert reranker.rerank(given, QUERY) == ranked[:2]
    assert reranker.rerank(given, query=QUERY, top_n=None) == ranked
    assert reranker.rerank(given, QUERY, top_n=5) == ranked[:5]
    assert reranker.rerank(given, QUERY, top_n=0) == []
    assert reranker.rerank([], QUERY) == []


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"documents": "one text"}, TypeError, r"\[text\]"),
        ({"documents": ["a", None]}, TypeError, r"\[1\] is None"),
        ({"documents": ["a", {"text": "b"}]}, TypeError, r"\[1\] is \{"),
        ({"documents": ["a"], "top_n": -1}, ValueError, "top_n=-1"),
        ({"documents": ["a"], "top_n": 1.5}, TypeError, "top_n=1.5"),
        ({"documents": ["a"], "query": None}, TypeError, "query is None"),
    ],
    ids=str,
)
def test_rerank_refuses(arguments: dict[str, Any], error: type[Exception], said: str, encoder: Scorer) -> None:
    with pytest.raises(error, match=said):
        BGERerank(scorer=encoder).rerank(**{"query": QUERY} | arguments)


def test_the_cross_encoder_scores_pairs_in_their_order(encoder: Scorer) -> None:
    pairs = [(query, text) for text in TEXTS for query in QUERIES]
    scores = BGECrossEncoder(scorer=encoder).score(pairs)
    assert scores == pytest.approx(encoder.score_pairs(pairs), abs=1e-5)
    assert {type(score) for score in scores} == {float}


def test_the_cross_encoder_loads_nothing_for_no_pairs(loads: Any) -> None:
    assert BGECrossEncoder(model=ENCODER).score([]) == []
    assert loads.models == []
