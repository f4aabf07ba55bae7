"""A model so sure of itself that all its sigmoids are 1.0: the order is still that of its logits, everywhere."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode
from torch import Tensor

from bge_rerank_integrations import Scorer, langchain, llama_index, load_scorer
from bge_rerank_integrations.cli import main
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.evaluation import evaluate, read_beir
from tests.beir_example import write_beir
from tests.conftest import golden

if TYPE_CHECKING:
    from tests.integration.conftest import Adapter

TEXTS = [text for _, text in golden()["pairs"]["mixed"]][:8]
QUERY = "What is the capital of France?"


@pytest.fixture
def folder(copy: Callable[..., Any]) -> str:
    """The tiny encoder, its scores spread out and moved up."""

    def sure(tensors: dict[str, Tensor]) -> None:
        tensors["classifier.out_proj.weight"] *= 20
        tensors["classifier.out_proj.bias"] += 100

    return str(copy("encoder").tensors(sure).folder)


@pytest.fixture
def logits(folder: str) -> Iterator[Scorer]:
    with load_scorer(folder) as scorer:
        yield scorer


@pytest.fixture
def wanted(logits: Scorer) -> list[int]:
    """The order of the texts, far from that in which they are given."""
    scores = logits.score(QUERY, TEXTS)
    assert min(scores) > 40
    order = sorted(range(len(TEXTS)), key=lambda index: -scores[index])
    assert order != list(range(len(TEXTS)))
    return order


def test_rank_and_arank(logits: Scorer, wanted: list[int]) -> None:
    sigmoid = logits.with_options(scale="sigmoid")
    for ranked in (sigmoid.rank(QUERY, TEXTS), asyncio.run(sigmoid.arank(QUERY, TEXTS))):
        assert ranked == [(index, 1.0) for index in wanted]
    assert sigmoid.rank(QUERY, TEXTS, top_n=2, score_threshold=1.0) == [(index, 1.0) for index in wanted[:2]]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_the_adapters_that_rank(asynchronous: bool, folder: str, wanted: list[int]) -> None:
    documents = [Document(text, metadata={"index": index}) for index, text in enumerate(TEXTS)]
    compressor = langchain.BGERerank(model=folder, top_n=None, scale="sigmoid")
    nodes = [NodeWithScore(node=TextNode(text=text, metadata={"index": i})) for i, text in enumerate(TEXTS)]
    postprocessor = llama_index.BGERerank(model=folder, top_n=None, scale="sigmoid", metadata_mode="none")  # type: ignore[arg-type]
    if asynchronous:
        kept = await compressor.acompress_documents(documents, QUERY)
        nodes = await postprocessor.apostprocess_nodes(nodes, query_str=QUERY)
        ranked = await compressor.arerank(TEXTS, QUERY)
    else:
        kept = compressor.compress_documents(documents, QUERY)
        nodes = postprocessor.postprocess_nodes(nodes, query_str=QUERY)
        ranked = compressor.rerank(TEXTS, QUERY)
    assert [document.metadata["index"] for document in kept] == wanted
    assert [node.metadata["index"] for node in nodes] == wanted
    assert [one["index"] for one in ranked] == wanted
    assert {document.metadata["relevance_score"] for document in kept} == {node.score for node in nodes} == {1.0}
    compressor.close()
    postprocessor.close()


def test_a_cross_encoder_gives_the_order_by_its_logits(folder: str, wanted: list[int]) -> None:
    documents = [Document(text, metadata={"index": index}) for index, text in enumerate(TEXTS)]
    encoder = langchain.BGECrossEncoder(model=folder)
    kept = CrossEncoderReranker(model=encoder, top_n=8).compress_documents(documents, QUERY)
    assert [document.metadata["index"] for document in kept] == wanted
    encoder.scale = "sigmoid"
    assert set(encoder.score([(QUERY, text) for text in TEXTS])) == {1.0}
    encoder.close()


def test_the_command(
    folder: str, wanted: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["rank", QUERY, "--model", folder, "--scale", "sigmoid", "--json"]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    monkeypatch.setattr(sys, "argv", ["bge-rerank", *words, "--jsonl"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode()), encoding="utf-8"))
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert [json.loads(line)["index"] for line in capsys.readouterr().out.splitlines()] == wanted


def test_evaluate(folder: str, tmp_path: Path) -> None:
    """A row on either scale is the same row but for its name, ties included."""
    data, out = read_beir(write_beir(tmp_path)), tmp_path / "out"
    result = evaluate(data, [f"{folder},scale=logit", f"{folder},scale=sigmoid"], out=out, timing_queries=1)
    _, logit, sigmoid = result.rows
    assert sigmoid.metrics == logit.metrics
    assert sigmoid.tied_queries == logit.tied_queries == 0
    runs = [[line.split()[:5] for line in (out / row.run_file).read_text().splitlines()] for row in (logit, sigmoid)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("threshold", [float("nan"), "high"])
def test_a_threshold_that_is_no_number_is_refused(threshold: Any, async_adapter: Adapter) -> None:
    with pytest.raises(OptionError, match="score_threshold="):
        async_adapter.new(score_threshold=threshold)
    made = async_adapter.new()
    with pytest.raises(OptionError, match="score_threshold="):
        made.score_threshold = threshold
    with pytest.raises(OptionError, match="score_threshold="):
        made.with_options(score_threshold=threshold)
    assert made.score_threshold is None


def test_a_threshold_outside_the_scale_is_refused(async_adapter: Adapter, encoder: Scorer) -> None:
    said = r"score_threshold=5.0: with scale='sigmoid' scores lie between 0 and 1"
    for fields in ({"scale": "sigmoid"}, {"scorer": encoder.with_options(scale="sigmoid")}):
        with pytest.raises(OptionError, match=said):
            async_adapter.new(score_threshold=5, **fields)
    made = async_adapter.new(score_threshold=5)
    with pytest.raises(OptionError, match=said):
        made.scale = "sigmoid"
    assert (made.scale, made.score_threshold) == ("logit", 5.0)
    assert made.with_options(scale="sigmoid", score_threshold=0.5).score_threshold == 0.5


@pytest.mark.parametrize(("threshold", "scale"), [("nan", "logit"), ("nan", "sigmoid"), ("5", "sigmoid")])
def test_the_command_refuses_thresholds(
    threshold: str, scale: str, folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["rank", QUERY, "--model", folder, "--threshold", threshold, "--scale", scale]
    monkeypatch.setattr(sys, "argv", ["bge-rerank", *words])
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\n"))
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code
    assert "score_threshold=" in " ".join(capsys.readouterr().err.split())
