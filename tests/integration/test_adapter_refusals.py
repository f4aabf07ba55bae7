"""What is no query and no documents: taken where it can only mean one thing, else refused before anything is loaded."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.documents import Document
from llama_index.core import Document as LlamaDocument
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle, TextNode

from bge_rerank_integrations import Scorer, langchain, llama_index
from tests.conftest import CHECKPOINTS, golden

if TYPE_CHECKING:
    from tests.integration.conftest import Loads

ENCODER = str(CHECKPOINTS / "encoder")
TEXTS = [text for _, text in golden()["pairs"]["mixed"]][:4]
QUERY = "What is the capital of France?"


def broken() -> Document:
    """A document whose text was taken away after it was made, which pydantic does not notice."""
    document = Document("text")
    document.page_content = None  # type: ignore[assignment]
    return document


async def result(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


COMPRESS: dict[str, Callable[..., Any]] = {
    "sync": lambda documents, query: langchain.BGERerank(model=ENCODER).compress_documents(documents, query),
    "async": lambda documents, query: langchain.BGERerank(model=ENCODER).acompress_documents(documents, query),
}
RERANK: dict[str, Callable[..., Any]] = {
    "sync": lambda documents, query: langchain.BGERerank(model=ENCODER).rerank(documents, query),
    "async": lambda documents, query: langchain.BGERerank(model=ENCODER).arerank(documents, query),
}
POSTPROCESS: dict[str, Callable[..., Any]] = {
    "sync": lambda nodes, *query: llama_index.BGERerank(model=ENCODER).postprocess_nodes(nodes, *query),
    "async": lambda nodes, *query: llama_index.BGERerank(model=ENCODER).apostprocess_nodes(nodes, *query),
}


@pytest.mark.parametrize("compress", COMPRESS.values(), ids=COMPRESS)
@pytest.mark.parametrize(
    ("documents", "query", "said"),
    [
        ("one text", QUERY, r"documents is 'one text' of type str: give a list, \[text\] or \[document\]"),
        (Document("one"), QUERY, r"documents is Document\(.* of type Document: give a list"),
        (None, QUERY, "documents is None of type NoneType: give a list"),
        (["a", "b"], QUERY, r"documents\[0\] is 'a' of type str: give a Document; rerank\(\) takes strings as well"),
        ([Document("a"), None], QUERY, r"documents\[1\] is None of type NoneType: give a Document"),
        ([Document("a"), {"page_content": "b"}], QUERY, r"documents\[1\] is \{'page_content': 'b'\} of type dict"),
        ([(Document("a"), 0.5)], QUERY, r"documents\[0\] is .* of type tuple: give a Document"),
        ([TextNode(text="a")], QUERY, r"documents\[0\] is .* of type TextNode: give a Document"),
        ([Document("a"), broken()], QUERY, r"documents\[1\] is .* of type Document: give .* a Document with a text"),
        ([Document("a")], None, "query is None of type NoneType: give a string"),
        ([Document("a")], [QUERY], "query is .* of type list: give a string"),
        ([Document("a")], {"input": QUERY}, "query is .* of type dict: give a string"),
        (QUERY, [Document("a")], "documents is 'What is .* of type str: give a list"),  # the other way round
    ],
)
async def test_a_compressor_refuses(compress: Any, documents: Any, query: Any, said: str, loads: Loads) -> None:
    with pytest.raises(TypeError, match=said):
        await result(compress(documents, query))
    assert loads.models == []


@pytest.mark.parametrize("rerank", RERANK.values(), ids=RERANK)
@pytest.mark.parametrize(
    ("documents", "query", "said"),
    [
        ("one text", QUERY, r"documents is 'one text' of type str: give a list"),
        (["a", 3], QUERY, r"documents\[1\] is 3 of type int: give a string, or a Document"),
        ([b"a"], QUERY, r"documents\[0\] is b'a' of type bytes"),
        ([broken()], QUERY, r"documents\[0\] is .* a Document with a text"),
        (["a"], None, "query is None"),
        ([], None, "query is None"),
    ],
)
async def test_rerank_refuses(rerank: Any, documents: Any, query: Any, said: str, loads: Loads) -> None:
    with pytest.raises(TypeError, match=said):
        await result(rerank(documents, query))
    assert loads.models == []


@pytest.mark.parametrize("postprocess", POSTPROCESS.values(), ids=POSTPROCESS)
@pytest.mark.parametrize(
    ("nodes", "query", "said"),
    [
        ("one text", QUERY, r"nodes is 'one text' of type str: give a list, \[node\] for a single one"),
        (TextNode(text="one"), QUERY, r"nodes is .* of type TextNode: give a list"),
        (NodeWithScore(node=TextNode(text="one")), QUERY, r"nodes is .* of type NodeWithScore: give a list"),
        (None, QUERY, "nodes is None of type NoneType: give a list"),
        (["a"], QUERY, r"nodes\[0\] is 'a' of type str: give a NodeWithScore, or a node, such as TextNode\(text=...\)"),
        ([TextNode(text="a"), None], QUERY, r"nodes\[1\] is None of type NoneType"),
        ([(TextNode(text="a"), 0.5)], QUERY, r"nodes\[0\] is .* of type tuple"),
        ([Document("a")], QUERY, r"nodes\[0\] is .* of type Document: give a NodeWithScore"),
        ([SimpleNamespace(node=TextNode(text="a"), score=1)], QUERY, r"nodes\[0\] is .* of type SimpleNamespace"),
        ([TextNode(text="a")], 3, r"query_bundle is 3 of type int: give a QueryBundle, or query_str="),
        ([TextNode(text="a")], QueryBundle(None), "query is None of type NoneType: give a string"),  # type: ignore[arg-type]
        ([TextNode(text="a")], {"query_str": "a"}, r"query_bundle is .* of type dict"),
    ],
)
async def test_a_postprocessor_refuses(postprocess: Any, nodes: Any, query: Any, said: str, loads: Loads) -> None:
    with pytest.raises(TypeError, match=said):
        await result(postprocess(nodes, query))
    assert loads.models == []


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    "kind",
    [list, tuple, deque, iter, lambda given: (one for one in given)],
    ids=["list", "tuple", "deque", "iter", "generator"],
)
async def test_what_can_only_mean_one_thing_is_taken(kind: Any, asynchronous: bool, encoder: Scorer) -> None:
    best = [one.index for one in encoder.rank(QUERY, TEXTS)]
    compressor = langchain.BGERerank(scorer=encoder, top_n=None)
    documents = [Document(text) for text in TEXTS]
    kept = compressor.acompress_documents(kind(documents), QUERY)
    if not asynchronous:
        kept.close()
        kept = compressor.compress_documents(kind(documents), QUERY)
    assert [document.page_content for document in await result(kept)] == [TEXTS[index] for index in best]
    assert [one["index"] for one in compressor.rerank(kind(TEXTS), QUERY)] == best

    postprocessor = llama_index.BGERerank(scorer=encoder, top_n=None)
    plain = [TextNode(text=text) for text in TEXTS]
    mixed = [plain[0], NodeWithScore(node=plain[1]), LlamaDocument(text=TEXTS[2]), ImageNode(text=TEXTS[3])]
    for nodes in (plain, [NodeWithScore(node=node) for node in plain], mixed):
        for query in (QUERY, QueryBundle(QUERY)):  # by position, where the bundle stands
            found: Any = postprocessor.apostprocess_nodes(kind(nodes), query)  # type: ignore[arg-type]
            if not asynchronous:
                found.close()
                found = postprocessor.postprocess_nodes(kind(nodes), query)  # type: ignore[arg-type]
            found = await result(found)
            assert [one.node.get_content() for one in found] == [TEXTS[index] for index in best]
            assert {type(one) for one in found} == {NodeWithScore}


def test_pairs_of_a_cross_encoder_are_checked_before_anything_is_loaded(loads: Loads) -> None:
    encoder = langchain.BGECrossEncoder(model=ENCODER)
    for pairs, said in (
        ([("q", "a"), ("q", None)], r"the text of pairs\[1\] is None"),
        ([("q",)], r"pairs\[0\] is \('q',\)"),
        ("qa", "pairs is 'qa' of type str"),
    ):
        with pytest.raises(TypeError, match=said):
            encoder.score(pairs)  # type: ignore[arg-type]
    assert loads.models == []
    assert len(encoder.score(("q", text) for text in TEXTS)) == 4  # type: ignore[arg-type]


async def test_callers_may_change_what_they_gave_while_it_is_scored(encoder: Scorer) -> None:
    documents = [Document(text) for text in TEXTS]
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    kept = langchain.BGERerank(scorer=encoder, top_n=None).acompress_documents(documents, QUERY)
    found = llama_index.BGERerank(scorer=encoder, top_n=None).apostprocess_nodes(nodes, query_str=QUERY)
    tasks = [asyncio.create_task(kept), asyncio.create_task(found)]
    await asyncio.sleep(0)
    documents.clear()
    nodes.clear()
    assert [len(one) for one in await asyncio.gather(*tasks)] == [4, 4]
