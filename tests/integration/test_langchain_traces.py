"""What LangChain's tracers see of `BGERerank`: a run of its own, below the run that it is called in."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.callbacks import AsyncCallbackHandler, AsyncCallbackManager, BaseCallbackHandler, CallbackManager
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run
from langchain_core.vectorstores import InMemoryVectorStore

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.errors import ClosedError
from bge_rerank_integrations.langchain import BGERerank
from bge_rerank_integrations.model.replica import Replica
from tests.conftest import golden

if TYPE_CHECKING:
    from tests.integration.conftest import Gate, Loads

TEXTS = [text for _, text in golden()["pairs"]["mixed"]][:8]
QUERIES = ["What is the capital of France?", "del statement"]
QUERY = QUERIES[0]


class Traces(BaseTracer):
    """Whole runs, as LangSmith would be sent them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Run] = []

    def _persist_run(self, run: Run) -> None:
        self.seen.append(run)

    def parents(self) -> dict[str, list[str]]:
        """The names of the runs below each run, and of those at the top under ""."""
        found: dict[str, list[str]] = {"": [run.name for run in self.seen]}
        left = list(self.seen)
        while left:
            run = left.pop()
            found.setdefault(run.name, []).extend(child.name for child in run.child_runs)
            left += run.child_runs
        return found

    def reranked(self) -> list[Run]:
        found, left = [], list(self.seen)
        while left:
            run = left.pop(0)
            found += [run] if run.name == "BGERerank" else []
            left += run.child_runs
        return found


class Coroutines(AsyncCallbackHandler):
    """A handler of which the methods are coroutines."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, UUID | None]] = []

    async def on_chain_start(self, *_: Any, parent_run_id: UUID | None = None, **__: Any) -> None:
        await asyncio.sleep(0)
        self.seen.append(("start", parent_run_id))

    async def on_chain_end(self, *_: Any, parent_run_id: UUID | None = None, **__: Any) -> None:
        self.seen.append(("end", parent_run_id))

    async def on_chain_error(self, *_: Any, parent_run_id: UUID | None = None, **__: Any) -> None:
        self.seen.append(("error", parent_run_id))


def documents() -> list[Document]:
    return [Document(text, id=str(i)) for i, text in enumerate(TEXTS)]


def retriever(reranker: BGERerank) -> Runnable:
    store = InMemoryVectorStore.from_documents(documents(), DeterministicFakeEmbedding(size=16))
    base = store.as_retriever(search_kwargs={"k": 8})
    return ContextualCompressionRetriever(base_compressor=reranker, base_retriever=base)


def pipeline(reranker: BGERerank) -> Runnable:
    found = retriever(reranker)
    assert isinstance(found, ContextualCompressionRetriever)
    found.base_compressor = DocumentCompressorPipeline(transformers=[reranker, reranker])
    return found


def in_a_chain(reranker: BGERerank) -> Runnable:
    """As the docs show it: the function is given no callbacks, and the run is found in the chain around it."""

    async def arerank(found: dict[str, Any]) -> list[Document]:
        return await reranker.acompress_documents(found["documents"], found["query"])

    step = RunnableLambda(lambda found: reranker.compress_documents(found["documents"], found["query"]), arerank)
    return {"documents": RunnableLambda(lambda _: documents()), "query": RunnablePassthrough()} | step.with_config(
        run_name="step"
    )


CALLS: dict[str, Callable[[Runnable, Any], Any]] = {
    "invoke": lambda runnable, config: [runnable.invoke(query, config) for query in QUERIES],
    "ainvoke": lambda runnable, config: asyncio.gather(*(runnable.ainvoke(query, config) for query in QUERIES)),
    "batch": lambda runnable, config: runnable.batch(QUERIES, config),
    "abatch": lambda runnable, config: runnable.abatch(QUERIES, config),
    "stream": lambda runnable, config: [list(runnable.stream(query, config)) for query in QUERIES],
}


async def finished(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("build", "parent", "each"),
    [(retriever, "ContextualCompressionRetriever", 1), (pipeline, "ContextualCompressionRetriever", 2),
     (in_a_chain, "step", 1)],
)  # fmt: skip
async def test_the_run_is_below_that_of_the_caller(
    build: Callable[..., Runnable], parent: str, each: int, call: Any, encoder: Scorer
) -> None:
    traces = Traces()
    await finished(call(build(BGERerank(scorer=encoder, model="tiny")), {"callbacks": [traces]}))
    known = traces.parents()
    assert known[parent].count("BGERerank") == 2 * each
    assert "BGERerank" not in known[""]
    assert sorted({run.inputs["query"] for run in traces.reranked()}) == sorted(QUERIES)
    assert {run.trace_id for run in traces.reranked()} == {run.id for run in traces.seen}
    assert all(run.end_time and not run.error and run.run_type == "chain" for run in traces.reranked())


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("texts", [False, True])
async def test_what_a_run_says(texts: bool, asynchronous: bool, encoder: Scorer) -> None:
    traces = Traces()
    reranker = BGERerank(scorer=encoder, model="tiny", top_n=2, trace_texts=texts)
    if asynchronous:
        found = await reranker.acompress_documents(documents(), QUERY, [traces])
    else:
        found = reranker.compress_documents(documents(), QUERY, [traces])
    (run,) = traces.seen
    indices = [int(str(document.id)) for document in found]
    shown = {"texts": TEXTS} if texts else {}
    kept = {"texts": [TEXTS[index] for index in indices]} if texts else {}
    assert run.inputs == {"query": QUERY, "model": "tiny", "documents": 8, "top_n": 2} | shown
    scores = [document.metadata["relevance_score"] for document in found]
    assert run.outputs == {"documents": 2, "indices": indices, "scores": scores} | kept
    assert texts or not any(text in repr((run.inputs, run.outputs, run.serialized, run.extra)) for text in TEXTS)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_error_ends_the_run(asynchronous: bool) -> None:
    traces, coroutines = Traces(), Coroutines()
    scorer = load_scorer("demo")
    scorer.close()
    runnable = retriever(BGERerank(scorer=scorer))
    with pytest.raises(ClosedError):
        await finished(CALLS["ainvoke" if asynchronous else "invoke"](runnable, {"callbacks": [traces, coroutines]}))
    run = traces.reranked()[0]
    assert run.error is not None
    assert "this scorer was closed" in run.error
    assert {kind for kind, _ in coroutines.seen} == {"start", "error"}


async def test_a_cancelled_call_ends_its_run(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    traces = Traces()
    gate.before(monkeypatch, Replica, "run")
    with load_scorer("demo") as scorer:
        task = asyncio.create_task(BGERerank(scorer=scorer).acompress_documents(documents(), QUERY, [traces]))
        for _ in iter(lambda: gate.reached, True):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.open()
    (run,) = traces.seen
    assert "CancelledError" in str(run.error)


@pytest.mark.parametrize("manager", [list, CallbackManager, AsyncCallbackManager], ids=lambda kind: kind.__name__)
async def test_coroutine_handlers_in_every_form_of_callbacks(manager: Any, encoder: Scorer) -> None:
    handler = Coroutines()
    reranker = BGERerank(scorer=encoder)
    reranker.compress_documents(documents(), QUERY, manager([handler]))  # within a running loop
    await asyncio.to_thread(reranker.compress_documents, documents(), QUERY, manager([handler]))
    await reranker.acompress_documents(documents(), QUERY, manager([handler]))
    assert handler.seen == [("start", None), ("end", None)] * 3


class Failing(BaseCallbackHandler):
    """A handler with a fault of its own, which LangChain logs."""

    def on_chain_start(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("a fault of the handler")

    on_chain_end = on_chain_start


def test_a_handler_that_fails_takes_nothing_along(encoder: Scorer, caplog: pytest.LogCaptureFixture) -> None:
    found = BGERerank(scorer=encoder).compress_documents(documents(), QUERY, [Failing()])
    assert len(found) == 3
    assert "a fault of the handler" in caplog.text


def test_what_is_refused_or_empty_starts_no_run(loads: Loads) -> None:
    traces = Traces()
    reranker = BGERerank(model="demo")
    assert reranker.compress_documents([], QUERY, [traces]) == []
    with pytest.raises(TypeError, match=r"documents\[0\]"):
        reranker.compress_documents(["text"], QUERY, [traces])  # type: ignore[list-item]
    assert (traces.seen, dict(traces.run_map), loads.models) == ([], {}, [])
