"""Both frameworks' adapters behind one interface, and recorders of what they load and tell."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from langchain_core.documents import Document
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.schema import NodeWithScore, TextNode

from bge_rerank_integrations import Scorer, langchain, llama_index, loading
from tests.conftest import CHECKPOINTS

ENCODER = str(CHECKPOINTS / "encoder")


@dataclass(frozen=True)
class Adapter:
    """An adapter class, and how to get from it a score for each text in the order given."""

    kind: type[Any]
    score: Callable[[Any, str, Sequence[str]], list[float]]
    ascore: Callable[[Any, str, Sequence[str]], Awaitable[list[float]]] | None = None
    """None: it has no async form."""
    keeps: dict[str, Any] = field(default_factory=lambda: {"top_n": None, "blank": "score"})

    def new(self, **fields: Any) -> Any:
        """One that keeps every text; over the tiny encoder unless the fields say otherwise."""
        source = {} if {"model", "scorer"} & fields.keys() else {"model": ENCODER}
        return self.kind(**self.keeps | source | fields)


def _documents(texts: Sequence[str]) -> list[Document]:
    return [Document(text, metadata={"place": place}) for place, text in enumerate(texts)]


def _document_scores(documents: Sequence[Document]) -> list[float]:
    scores = {document.metadata["place"]: document.metadata["relevance_score"] for document in documents}
    return [scores[place] for place in range(len(documents))]


def _nodes(texts: Sequence[str]) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text, id_=str(place))) for place, text in enumerate(texts)]


def _node_scores(nodes: Sequence[NodeWithScore]) -> list[float]:
    scores = {node.node_id: node.score for node in nodes}
    return [scores[str(place)] for place in range(len(nodes))]


async def _acompress(reranker: Any, query: str, texts: Sequence[str]) -> list[float]:
    return _document_scores(await reranker.acompress_documents(_documents(texts), query))


async def _apostprocess(reranker: Any, query: str, texts: Sequence[str]) -> list[float]:
    return _node_scores(await reranker.apostprocess_nodes(_nodes(texts), query_str=query))


COMPRESSOR = Adapter(
    langchain.BGERerank,
    lambda reranker, query, texts: _document_scores(reranker.compress_documents(_documents(texts), query)),
    _acompress,
)
POSTPROCESSOR = Adapter(
    llama_index.BGERerank,
    lambda reranker, query, texts: _node_scores(reranker.postprocess_nodes(_nodes(texts), query_str=query)),
    _apostprocess,
)
CROSS_ENCODER = Adapter(
    langchain.BGECrossEncoder,
    lambda encoder, query, texts: encoder.score([(query, text) for text in texts]),
    keeps={},
)


@pytest.fixture(params=[COMPRESSOR, POSTPROCESSOR, CROSS_ENCODER], ids=["compressor", "postprocessor", "cross-encoder"])
def adapter(request: pytest.FixtureRequest) -> Adapter:
    """Each of the three adapters."""
    return request.param


@pytest.fixture(params=[COMPRESSOR, POSTPROCESSOR], ids=["compressor", "postprocessor"])
def async_adapter(request: pytest.FixtureRequest) -> Adapter:
    """Each of the two that rank, and that have an async form."""
    return request.param


class Gate:
    """Holds back the thread that calls it until the test lets it through."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()

    def __call__(self, *_: object) -> None:
        self._reached.set()
        self._open.wait(5)  # an end, so that a test of which the loop is blocked fails rather than hangs

    @property
    def reached(self) -> bool:
        return self._reached.is_set()

    def open(self) -> None:
        self._open.set()

    def before(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        """Hold back whoever calls this method, before it does anything."""
        original = getattr(owner, name)

        def held(*args: Any) -> Any:
            self()
            return original(*args)

        monkeypatch.setattr(owner, name, held)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


class Loads:
    """Stands at the door of `load_scorer`: notes who asks for which model, and lets the real one do the work."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self.scorers: list[Scorer] = []
        self.before: Callable[[], object] = lambda: None
        """Called in the thread that loads."""
        self._real = loading.load_scorer

    def __call__(self, model: str, **options: Any) -> Scorer:
        self.models.append(model)
        self.before()
        scorer = self._real(model, **options)
        self.scorers.append(scorer)
        return scorer


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loads]:
    """What adapters load during this test."""
    loads = Loads()
    monkeypatch.setattr(loading, "load_scorer", loads)
    yield loads
    for scorer in loads.scorers:
        scorer.close()


class RerankEvents(BaseEventHandler):
    """LlamaIndex's rerank events, in order."""

    seen: list[Any] = []  # noqa: RUF012 - pydantic copies it

    @classmethod
    def class_name(cls) -> str:
        return "RerankEvents"

    def handle(self, event: Any, **_: Any) -> None:
        if isinstance(event, (ReRankStartEvent, ReRankEndEvent)):
            self.seen.append(event)


class Recorded(NamedTuple):
    """What LlamaIndex's instrumentation told."""

    spans: SimpleSpanHandler
    events: list[Any]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Every span, and the rerank events, of whatever runs in the test."""
    spans, events = SimpleSpanHandler(), RerankEvents()
    root = get_dispatcher()
    monkeypatch.setattr(root, "span_handlers", [spans])
    monkeypatch.setattr(root, "event_handlers", [events])
    return Recorded(spans, events.seen)
