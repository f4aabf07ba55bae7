"""One pipeline, the model in other places: in process, and behind the server, alone or in replicas of Ray Serve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.schema import TextNode

from bge_rerank_integrations import Scorer, langchain, llama_index, load_scorer
from bge_rerank_integrations.errors import OptionError, RemoteError
from bge_rerank_integrations.serve import ServerSettings, create_app
from tests import ray_serve
from tests.server import serving

KEY = "key-of-the-server"
QUERY = "how do I sort a dictionary by its values?"
TEXTS = [
    *(f"Step {i}: lists of {i} numbers are sorted in place by their method sort." for i in range(20)),
    "sorted(d.items(), key=lambda item: item[1]) sorts a dictionary by its values.",
    "Paris is the capital of France.",
]
MODELS = ("demo", "demo-layerwise", "demo-lightweight")


@pytest.fixture(scope="module")
def models() -> Iterator[dict[str, Scorer]]:
    loaded = {name: load_scorer(name) for name in MODELS}
    yield loaded
    for scorer in loaded.values():
        scorer.close()


@contextmanager
def alone(models: dict[str, Scorer]) -> Iterator[str]:
    with serving(create_app(models, ServerSettings(api_key=KEY))) as address:
        yield address


@contextmanager
def on_ray(models: dict[str, Scorer]) -> Iterator[str]:
    """Replicas load the same models again."""
    pytest.importorskip("ray")
    from ray import serve

    from bge_rerank_integrations.ray import serve_app

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BGE_RERANK_API_KEY", KEY)
        with ray_serve.serving(cpus=2) as address:
            serve.run(serve_app({name: name for name in models}, min_replicas=2, max_replicas=2))
            yield address


@pytest.fixture(scope="module", params=[alone, on_ray])
def url(request: pytest.FixtureRequest, models: dict[str, Scorer]) -> Iterator[str]:
    with request.param(models) as address:
        yield address


def langchain_pipeline(**fields: Any) -> list[tuple[str, float]]:
    """The best texts with their scores, from a retriever of LangChain."""
    with closing(langchain.BGERerank(top_n=5, **fields)) as reranker:
        store = InMemoryVectorStore.from_texts(TEXTS, DeterministicFakeEmbedding(size=16))
        retriever = ContextualCompressionRetriever(
            base_compressor=reranker, base_retriever=store.as_retriever(search_kwargs={"k": len(TEXTS)})
        )
        found: list[Document] = retriever.invoke(QUERY)
    return [(document.page_content, document.metadata["relevance_score"]) for document in found]


def llama_index_pipeline(**fields: Any) -> list[tuple[str, float]]:
    """The best texts with their scores, from a query engine of LlamaIndex."""
    with closing(llama_index.BGERerank(top_n=5, **fields)) as reranker:
        index = VectorStoreIndex([TextNode(text=text) for text in TEXTS], embed_model=MockEmbedding(embed_dim=4))
        engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=len(TEXTS), node_postprocessors=[reranker])
        found = engine.query(QUERY).source_nodes
    return [(one.node.get_content(), one.score or 0.0) for one in found]


PIPELINES = [langchain_pipeline, llama_index_pipeline]
Pipeline = Callable[..., list[tuple[str, float]]]


def assert_same(found: list[tuple[str, float]], expected: list[tuple[str, float]]) -> None:
    assert [text for text, _ in found] == [text for text, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-5)


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize(
    "place",
    [
        {"dialect": "bge-rerank"},
        {"dialect": "bge-rerank", "served_model": "demo", "concurrency": 2},
        {"dialect": "tei"},
        {"dialect": "cohere", "served_model": "demo"},
        {"dialect": "jina", "served_model": "demo"},
    ],
    ids=str,
)
def test_a_pipeline_ranks_the_same_in_process_and_by_a_server(
    pipeline: Pipeline, place: dict[str, Any], url: str
) -> None:
    scale = "sigmoid" if place["dialect"] in ("cohere", "jina") else "logit"
    expected = pipeline(model="demo", scale=scale)
    assert_same(pipeline(model=url, api_key=KEY, scale=scale, timeout=120, **place), expected)
    assert expected[0][0] == TEXTS[20]


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("demo-layerwise", {"cutoff_layer": 4}),
        ("demo-layerwise", {"cutoff_layer": 8, "prompt": "Is the passage relevant?"}),
        ("demo-lightweight", {"cutoff_layer": 8, "compress_ratio": 2, "compress_layers": [4]}),
        ("demo-lightweight", {"compress_ratio": 4, "compress_layers": [2, 4], "scale": "sigmoid"}),
    ],
    ids=str,
)
def test_the_decoders_options_hold_over_http(pipeline: Pipeline, model: str, options: dict[str, Any], url: str) -> None:
    found = pipeline(model=url, dialect="bge-rerank", served_model=model, api_key=KEY, timeout=120, **options)
    assert_same(found, pipeline(model=model, **options))


def test_options_of_one_call(models: dict[str, Scorer], url: str) -> None:
    options = {"cutoff_layer": 4, "compress_ratio": 2, "compress_layers": (2,)}
    with load_scorer(url, dialect="bge-rerank", served_model="demo-lightweight", api_key=KEY) as remote:
        changed = remote.with_options(**options)
        expected = models["demo-lightweight"].with_options(**options).score(QUERY, TEXTS)
        assert changed.score(QUERY, TEXTS) == pytest.approx(expected, abs=1e-5)
        assert changed.options.cutoff_layer == 4
        assert "cutoff_layer=4" in repr(changed)
        assert remote.score(QUERY, TEXTS) == pytest.approx(models["demo-lightweight"].score(QUERY, TEXTS), abs=1e-5)
        changed.close()


def test_options_that_cannot_be(url: str) -> None:
    with (
        load_scorer(url, dialect="bge-rerank", served_model="demo", api_key=KEY, cutoff_layer=4) as remote,
        pytest.raises(RemoteError, match="cutoff_layer=4 is not an option of the encoder family"),
    ):
        remote.score(QUERY, TEXTS)
    with pytest.raises(OptionError, match="cutoff_layer cannot be chosen from here"):
        load_scorer(url, dialect="tei", cutoff_layer=4)
    with load_scorer(url, dialect="bge-rerank") as remote:
        for wrong in ({"max_length": 100}, {"head_index": "layer"}):
            with pytest.raises(OptionError, match="cannot be chosen from here with dialect 'bge-rerank'"):
                remote.with_options(**wrong)
