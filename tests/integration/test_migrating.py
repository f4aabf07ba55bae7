"""The migration guide's tables about the frameworks' own rerankers, line by line, on both sides where both are here."""

from __future__ import annotations

import copy as copying
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from llama_index.core.postprocessor import SentenceTransformerRerank
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle, TextNode

from bge_rerank_integrations import langchain, llama_index, load_scorer
from bge_rerank_integrations.errors import OptionError
from tests.conftest import CHECKPOINTS, FAMILIES, golden

if TYPE_CHECKING:
    from tests.integration.conftest import Loads, Recorded

# what other packages warn of is not the matter here
pytestmark = pytest.mark.filterwarnings("ignore")
sentence_transformers = pytest.importorskip("sentence_transformers")

PAGE = Path(__file__).parents[2] / "docs" / "migrating.md"
ENCODER = str(CHECKPOINTS / "encoder")
TEXTS = [text for _, text in golden()["pairs"]["mixed"]][:8]
QUERY = "What is the capital of France?"
Copies = Callable[..., Any]


class OtherEncoder(BaseCrossEncoder):
    """As `HuggingFaceCrossEncoder` of langchain-community: a model of sentence-transformers."""

    def __init__(self, folder: str) -> None:
        self.client = sentence_transformers.CrossEncoder(folder, device="cpu")

    def score(self, text_pairs: list[tuple[str, str]]) -> Any:
        return self.client.predict(text_pairs)


def documents() -> list[Document]:
    return [Document(text, metadata={"index": index}) for index, text in enumerate(TEXTS)]


def nodes() -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text, id_=str(i)), score=i / 10) for i, text in enumerate(TEXTS)]


def sure(tensors: dict[str, Any]) -> None:
    """Spread the scores out and move them up, until every sigmoid is 1.0."""
    tensors["classifier.out_proj.weight"] *= 20
    tensors["classifier.out_proj.bias"] += 100


@pytest.fixture(scope="module")
def langchains() -> CrossEncoderReranker:
    return CrossEncoderReranker(model=OtherEncoder(ENCODER), top_n=8)


@pytest.fixture
def compressor() -> Iterator[langchain.BGERerank]:
    made = langchain.BGERerank(model=ENCODER, top_n=8)
    yield made
    made.close()


@pytest.fixture(scope="module")
def llama_indexs() -> SentenceTransformerRerank:
    return SentenceTransformerRerank(model=ENCODER, top_n=8, device="cpu")


@pytest.fixture
def postprocessor() -> Iterator[llama_index.BGERerank]:
    made = llama_index.BGERerank(model=ENCODER, top_n=8)
    yield made
    made.close()


def lines(heading: str) -> list[str]:
    """What the first column of a table says."""
    section = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in re.findall(r"^\| ([^|]*) \|", section, re.MULTILINE) if line != "---"]


def test_every_line_has_its_test() -> None:
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    for heading, prefix in (("From LangChain's CrossEncoderReranker", "langchain"),
                            ("From LlamaIndex's SentenceTransformerRerank", "llama_index")):  # fmt: skip
        written = {f"{prefix}_{'_'.join(re.findall('[a-z]+', line.lower()))}" for line in lines(heading)}
        assert len(written) > 10
        assert written == {name for name in tests if name.startswith(prefix)}


# --- LangChain --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_langchain_models(family: str) -> None:
    made = langchain.BGERerank(model=str(CHECKPOINTS / family))
    assert len(made.compress_documents(documents(), QUERY)) == 3
    made.close()


def test_langchain_scores(langchains: CrossEncoderReranker, compressor: langchain.BGERerank) -> None:
    assert "relevance_score" not in langchains.compress_documents(documents(), QUERY)[0].metadata
    assert type(compressor.compress_documents(documents(), QUERY)[0].metadata["relevance_score"]) is float


def test_langchain_scale(langchains: CrossEncoderReranker, compressor: langchain.BGERerank) -> None:
    theirs = langchains.model.score([(QUERY, text) for text in TEXTS])
    ours = compressor.with_options(scale="sigmoid").rerank(TEXTS, QUERY)
    assert {one["index"]: one["relevance_score"] for one in ours} == pytest.approx(dict(enumerate(theirs)), abs=1e-5)
    assert compressor.rerank(TEXTS, QUERY)[0]["relevance_score"] != pytest.approx(max(theirs), abs=1e-3)


def test_langchain_order(compressor: langchain.BGERerank, copy: Copies) -> None:
    folder = str(copy("encoder").tensors(sure).folder)
    theirs = CrossEncoderReranker(model=OtherEncoder(folder), top_n=8).compress_documents(documents(), QUERY)
    assert [document.metadata["index"] for document in theirs] == list(range(8))
    order = [one["index"] for one in compressor.rerank(TEXTS, QUERY)]
    made = langchain.BGERerank(model=folder, top_n=8, scale="sigmoid")
    assert [one["index"] for one in made.rerank(TEXTS, QUERY)] == order != list(range(8))
    made.close()


def test_langchain_threshold(compressor: langchain.BGERerank) -> None:
    assert "score_threshold" not in CrossEncoderReranker.model_fields
    third = compressor.compress_documents(documents(), QUERY)[2].metadata["relevance_score"]
    assert len(compressor.with_options(score_threshold=third - 1e-5).compress_documents(documents(), QUERY)) == 3


def test_langchain_how_many(langchains: CrossEncoderReranker, compressor: langchain.BGERerank) -> None:
    without = langchains.model_copy(update={"top_n": -1})
    assert len(without.compress_documents(documents(), QUERY)) == 7
    assert len(compressor.with_options(top_n=None).compress_documents(documents(), QUERY)) == 8
    with pytest.raises(OptionError, match="top_n=-1"):
        compressor.with_options(top_n=-1)


def test_langchain_documents(langchains: CrossEncoderReranker, compressor: langchain.BGERerank) -> None:
    given = documents()
    assert {id(one) for one in langchains.compress_documents(given, QUERY)} == {id(one) for one in given}
    assert not {id(one) for one in compressor.compress_documents(given, QUERY)} & {id(one) for one in given}


def test_langchain_what_is_not_a_document(langchains: CrossEncoderReranker, loads: Loads) -> None:
    with pytest.raises(AttributeError, match="page_content"):
        langchains.compress_documents(TEXTS, QUERY)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"documents\[0\]"):
        langchain.BGERerank(model=ENCODER).compress_documents(TEXTS, QUERY)  # type: ignore[arg-type]
    assert loads.models == []


def test_langchain_a_copy_with_other_fields(langchains: CrossEncoderReranker, loads: Loads) -> None:
    assert langchains.model_copy(update={"top_k": 5, "top_n": "five"}).top_n == "five"  # type: ignore[comparison-overlap]
    made = langchain.BGERerank(model=ENCODER)
    for top_n in range(5):
        assert len(made.with_options(top_n=top_n).compress_documents(documents(), QUERY)) == top_n
    assert loads.models == [ENCODER]
    with pytest.raises(OptionError, match="top_k"):
        made.with_options(top_k=5)


def test_langchain_traces(langchains: CrossEncoderReranker, compressor: langchain.BGERerank) -> None:
    seen = RunCollectorCallbackHandler()
    langchains.compress_documents(documents(), QUERY, [seen])
    assert seen.traced_runs == []
    compressor.compress_documents(documents(), QUERY, [seen])
    assert [run.name for run in seen.traced_runs] == ["BGERerank"]


def test_langchain_async() -> None:
    assert CrossEncoderReranker.acompress_documents is BaseDocumentCompressor.acompress_documents
    assert langchain.BGERerank.acompress_documents is not BaseDocumentCompressor.acompress_documents


def test_langchain_truncation(langchains: CrossEncoderReranker, compressor: langchain.BGERerank) -> None:
    """Scores differ where it is the query that is too long."""
    sigmoid, long = compressor.with_options(scale="sigmoid"), "capital " * 500
    for query, text, same in ((QUERY, "Paris", True), (QUERY, "Paris " * 700, True), (long, "Paris " * 300, False)):
        (theirs,) = langchains.model.score([(query, text)])
        (ours,) = sigmoid.rerank([text], query)
        assert bool(ours["relevance_score"] == pytest.approx(float(theirs), abs=1e-5)) == same
    with load_scorer(ENCODER) as scorer:
        scorer.score(long, ["Paris " * 300])
        assert scorer.truncated_pairs == 1


def test_langchain_loading(loads: Loads) -> None:
    with pytest.raises(Exception, match="no-such"):
        OtherEncoder("/no-such/folder")
    langchain.BGERerank(model="/no-such/folder")
    made = langchain.BGERerank(model=ENCODER)
    assert loads.models == []
    made.warm_up()
    assert loads.models == [ENCODER]


def test_langchain_device_dtype() -> None:
    with pytest.raises(OptionError, match="model_kwargs is not a field of BGERerank: use the options themselves"):
        langchain.BGERerank(model="demo", model_kwargs={"device": "cpu"})  # type: ignore[call-arg]
    assert langchain.BGERerank(model="demo", devices=0, dtype="fp16").devices == "cuda:0"


# --- LlamaIndex -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_index_models(family: str) -> None:
    made = llama_index.BGERerank(model=str(CHECKPOINTS / family))
    assert len(made.postprocess_nodes(nodes(), query_str=QUERY)) == 3
    made.close()
    assert inspect.signature(SentenceTransformerRerank).parameters["model"].default
    with pytest.raises(OptionError, match="give model="):
        llama_index.BGERerank()


def test_llama_index_arguments() -> None:
    assert SentenceTransformerRerank(5, ENCODER, "cpu").top_n == 5
    with pytest.raises(TypeError, match="takes its fields by name"):
        llama_index.BGERerank(5, ENCODER)  # type: ignore[misc]


def test_llama_index_top_n(postprocessor: llama_index.BGERerank) -> None:
    assert SentenceTransformerRerank(model=ENCODER, device="cpu").top_n == 2
    assert llama_index.BGERerank(model=ENCODER).top_n == 3
    assert len(postprocessor.with_options(top_n=None).postprocess_nodes(nodes(), query_str=QUERY)) == 8


def test_llama_index_score(llama_indexs: SentenceTransformerRerank, postprocessor: llama_index.BGERerank) -> None:
    with pytest.raises(TypeError, match="float32 is not JSON serializable"):
        json.dumps(llama_indexs.postprocess_nodes(nodes(), query_str=QUERY)[0].score)
    assert json.dumps(postprocessor.postprocess_nodes(nodes(), query_str=QUERY)[0].score)


def test_llama_index_scale(llama_indexs: SentenceTransformerRerank, postprocessor: llama_index.BGERerank) -> None:
    theirs = {one.node_id: float(one.score or 0) for one in llama_indexs.postprocess_nodes(nodes(), query_str=QUERY)}
    sigmoid = postprocessor.with_options(scale="sigmoid").postprocess_nodes(nodes(), query_str=QUERY)
    assert {one.node_id: one.score for one in sigmoid} == pytest.approx(theirs, abs=1e-5)
    logit = postprocessor.postprocess_nodes(nodes(), query_str=QUERY)
    assert [one.node_id for one in logit] == [one.node_id for one in sigmoid] == list(theirs)
    assert logit[0].score != pytest.approx(sigmoid[0].score, abs=1e-3)


def test_llama_index_order(postprocessor: llama_index.BGERerank, copy: Copies) -> None:
    folder = str(copy("encoder").tensors(sure).folder)
    theirs = SentenceTransformerRerank(model=folder, top_n=8, device="cpu").postprocess_nodes(nodes(), query_str=QUERY)
    assert [one.node_id for one in theirs] == [one.node_id for one in nodes()]
    order = [one.node_id for one in postprocessor.postprocess_nodes(nodes(), query_str=QUERY)]
    made = llama_index.BGERerank(model=folder, top_n=8, scale="sigmoid")
    ours = made.postprocess_nodes(nodes(), query_str=QUERY)
    assert [one.node_id for one in ours] == order != [one.node_id for one in theirs]
    made.close()


def test_llama_index_threshold(postprocessor: llama_index.BGERerank) -> None:
    assert "score_threshold" not in SentenceTransformerRerank.model_fields
    third = postprocessor.postprocess_nodes(nodes(), query_str=QUERY)[2].score
    assert third is not None
    kept = postprocessor.with_options(score_threshold=third - 1e-5).postprocess_nodes(nodes(), query_str=QUERY)
    assert len(kept) == 3


def test_llama_index_nodes(llama_indexs: SentenceTransformerRerank, postprocessor: llama_index.BGERerank) -> None:
    theirs, ours = nodes(), nodes()
    assert {id(one) for one in llama_indexs.postprocess_nodes(theirs, query_str=QUERY)} == {id(one) for one in theirs}
    assert [one.score for one in theirs] != [one.score for one in nodes()]
    assert not {id(one) for one in postprocessor.postprocess_nodes(ours, query_str=QUERY)} & {id(one) for one in ours}
    assert [one.score for one in ours] == [one.score for one in nodes()]


def test_llama_index_what_is_not_a_node_with_a_score(llama_indexs: SentenceTransformerRerank, loads: Loads) -> None:
    plain: Any = [TextNode(text=text) for text in TEXTS]
    for given in (plain, TEXTS):
        with pytest.raises(AttributeError, match="'node'"):
            llama_indexs.postprocess_nodes(given, query_str=QUERY)
    made = llama_index.BGERerank(model=ENCODER)
    with pytest.raises(TypeError, match=r"nodes\[0\]"):
        made.postprocess_nodes(TEXTS, query_str=QUERY)  # type: ignore[arg-type]
    assert loads.models == []
    assert len(made.postprocess_nodes(plain, query_str=QUERY)) == 3


def test_llama_index_query_by_position(
    llama_indexs: SentenceTransformerRerank, postprocessor: llama_index.BGERerank
) -> None:
    with pytest.raises(AttributeError, match="query_str"):
        llama_indexs.postprocess_nodes(nodes(), QUERY)  # type: ignore[arg-type]
    assert postprocessor.postprocess_nodes(nodes(), QUERY) == postprocessor.postprocess_nodes(  # type: ignore[arg-type]
        nodes(), QueryBundle(QUERY)
    )


def test_llama_index_keep_retrieval_score(postprocessor: llama_index.BGERerank) -> None:
    other = SentenceTransformerRerank(model=ENCODER, device="cpu", keep_retrieval_score=True)
    (shown, *_) = other.postprocess_nodes(nodes(), query_str=QUERY)
    assert "retrieval_score" in shown.node.get_content(MetadataMode.LLM)
    (kept, *_) = postprocessor.with_options(keep_retrieval_score=True).postprocess_nodes(nodes(), query_str=QUERY)
    assert "retrieval_score" in kept.metadata
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        assert "retrieval_score" not in kept.node.get_content(mode)


def test_llama_index_two_in_a_row_with_keep_retrieval_score(postprocessor: llama_index.BGERerank) -> None:
    retrieved = {one.node_id: one.score for one in nodes()}
    other = SentenceTransformerRerank(model=ENCODER, top_n=8, device="cpu", keep_retrieval_score=True)
    theirs = other.postprocess_nodes(other.postprocess_nodes(nodes(), query_str=QUERY), query_str=QUERY)
    assert {one.node_id: one.metadata["retrieval_score"] for one in theirs} != retrieved
    keeping = postprocessor.with_options(keep_retrieval_score=True)
    ours = keeping.postprocess_nodes(keeping.postprocess_nodes(nodes(), query_str=QUERY), query_str=QUERY)
    assert {one.node_id: one.metadata["retrieval_score"] for one in ours} == retrieved


def test_llama_index_text(llama_indexs: SentenceTransformerRerank, postprocessor: llama_index.BGERerank) -> None:
    given = [NodeWithScore(node=TextNode(text="Paris", metadata={"of": "France"}))]
    sigmoid = postprocessor.with_options(scale="sigmoid")
    (ours,) = sigmoid.postprocess_nodes(given, query_str=QUERY)
    (other,) = sigmoid.with_options(metadata_mode=MetadataMode.NONE).postprocess_nodes(given, query_str=QUERY)
    (theirs,) = llama_indexs.postprocess_nodes(copying.deepcopy(given), query_str=QUERY)
    assert ours.score == pytest.approx(float(theirs.score or 0), abs=1e-5)
    assert other.score != pytest.approx(ours.score, abs=1e-5)


def test_llama_index_async() -> None:
    inherited = inspect.unwrap(BaseNodePostprocessor._apostprocess_nodes)
    assert inspect.unwrap(SentenceTransformerRerank._apostprocess_nodes) is inherited
    assert inspect.unwrap(llama_index.BGERerank._apostprocess_nodes) is not inherited


def test_llama_index_truncation(llama_indexs: SentenceTransformerRerank, postprocessor: llama_index.BGERerank) -> None:
    given = [NodeWithScore(node=TextNode(text="Paris " * 300))]
    sigmoid = postprocessor.with_options(scale="sigmoid")
    for query, same in ((QUERY, True), ("capital " * 500, False)):
        (theirs,) = llama_indexs.postprocess_nodes(copying.deepcopy(given), query_str=query)
        (ours,) = sigmoid.postprocess_nodes(given, query_str=query)
        assert bool(ours.score == pytest.approx(float(theirs.score or 0), abs=1e-5)) == same


def test_llama_index_device() -> None:
    with pytest.raises(OptionError, match="device is not a field of BGERerank: use devices"):
        llama_index.BGERerank(model="demo", device="cpu")  # type: ignore[call-arg]
    two = llama_index.BGERerank(model=ENCODER, devices=["cpu", "cpu"])
    assert len(two.postprocess_nodes(nodes(), query_str=QUERY)) == 3
    two.close()


def test_llama_index_trust_remote_code() -> None:
    assert inspect.signature(SentenceTransformerRerank).parameters["trust_remote_code"].default is True
    with pytest.raises(OptionError, match="trust_remote_code is not a field of BGERerank: use nothing in its place"):
        llama_index.BGERerank(model="demo", trust_remote_code=True)  # type: ignore[call-arg]


def test_llama_index_events(
    llama_indexs: SentenceTransformerRerank, postprocessor: llama_index.BGERerank, recorded: Recorded
) -> None:
    llama_indexs.postprocess_nodes(nodes(), query_str=QUERY)
    assert recorded.events == []
    postprocessor.postprocess_nodes(nodes(), query_str=QUERY)
    assert [type(event).__name__ for event in recorded.events] == ["ReRankStartEvent", "ReRankEndEvent"]


def test_llama_index_loading(loads: Loads) -> None:
    with pytest.raises(Exception, match="no-such"):
        SentenceTransformerRerank(model="/no-such/folder", device="cpu")
    llama_index.BGERerank(model="/no-such/folder")
    assert loads.models == []
