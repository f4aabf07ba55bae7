"""Clients that people use rank through the server as the scorer does in process. Those not installed are left out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.ranking import Ranked
from bge_rerank_integrations.serve import ServerSettings, create_app
from tests.server import serving

QUERY = "how do I sort a dictionary by its values?"
TEXTS = [
    *(f"Step {i}: lists of {i} numbers are sorted in place by their method sort." for i in range(40)),
    "sorted(d.items(), key=lambda item: item[1]) sorts a dictionary by its values.",
    "Paris is the capital of France.",
]
KEY = "key-of-the-server"
MODEL = "rerank-demo"
TOP = 5


pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture(autouse=True)
def _connections() -> Iterator[None]:
    """Several of these clients never close theirs: they go here, not in the middle of another test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    with load_scorer("demo") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def url(scorer: Scorer) -> Iterator[str]:
    with serving(create_app({MODEL: scorer}, ServerSettings(api_key=KEY))) as address:
        yield address


@pytest.fixture(scope="module")
def expected(scorer: Scorer) -> list[Ranked]:
    return scorer.with_options(scale="sigmoid").rank(QUERY, TEXTS, top_n=TOP)


def langchain_cohere(url: str) -> Any:
    cohere = pytest.importorskip("cohere")
    rerank = pytest.importorskip("langchain_cohere.rerank")
    return rerank.CohereRerank(client=cohere.ClientV2(api_key=KEY, base_url=url), model=MODEL, top_n=TOP)


def langchain_jina(url: str) -> Any:
    jina = pytest.importorskip("langchain_community.document_compressors.jina_rerank")
    return jina.JinaRerank(jina_api_key=KEY, model=MODEL, top_n=TOP)


def langchain_reranker(url: str) -> Any:
    http = pytest.importorskip("langchain_reranker.rerankers.http_reranker")
    return http.HttpReranker(base_url=url, api_key=KEY, model=MODEL, top_n=TOP)


@pytest.mark.parametrize("make", [langchain_cohere, langchain_jina, langchain_reranker])
def test_langchain(
    make: Callable[[str], Any], url: str, expected: list[Ranked], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make(url)
    if make is langchain_jina:  # its address is a constant
        monkeypatch.setattr(f"{type(client).__module__}.JINA_API_URL", f"{url}/v1/rerank")
    documents = [Document(text, metadata={"place": place}) for place, text in enumerate(TEXTS)]
    ranked = client.compress_documents(documents, QUERY)
    assert [document.metadata["place"] for document in ranked] == [one.index for one in expected]
    scores = [document.metadata["relevance_score"] for document in ranked]
    assert scores == pytest.approx([one.score for one in expected], abs=1e-5)


def llama_index_cohere(url: str) -> Any:
    module = pytest.importorskip("llama_index.postprocessor.cohere_rerank")
    return module.CohereRerank(api_key=KEY, base_url=url, model=MODEL, top_n=TOP)


def llama_index_tei(url: str) -> Any:
    module = pytest.importorskip("llama_index.postprocessor.tei_rerank")
    return module.TextEmbeddingInference(base_url=url, auth_token=KEY, top_n=TOP)


@pytest.mark.parametrize("make", [llama_index_cohere, llama_index_tei])
def test_llama_index(make: Callable[[str], Any], url: str, expected: list[Ranked]) -> None:
    nodes = [NodeWithScore(node=TextNode(text=text, id_=str(place))) for place, text in enumerate(TEXTS)]
    ranked = make(url).postprocess_nodes(nodes, query_str=QUERY)
    assert [node.node_id for node in ranked] == [str(one.index) for one in expected]
    assert [node.score for node in ranked] == pytest.approx([one.score for one in expected], abs=1e-5)


def test_the_cohere_client_alone(url: str, expected: list[Ranked]) -> None:
    cohere = pytest.importorskip("cohere")
    for client in (cohere.ClientV2(api_key=KEY, base_url=url), cohere.Client(api_key=KEY, base_url=url)):
        ranked = client.rerank(model=MODEL, query=QUERY, documents=TEXTS, top_n=TOP).results
        assert [one.index for one in ranked] == [one.index for one in expected]
    with pytest.raises(cohere.errors.UnauthorizedError, match="API key"):
        cohere.ClientV2(api_key="wrong", base_url=url).rerank(model=MODEL, query=QUERY, documents=TEXTS)
    with pytest.raises(cohere.errors.NotFoundError, match=MODEL):
        cohere.ClientV2(api_key=KEY, base_url=url).rerank(model="another", query=QUERY, documents=TEXTS)
