"""The options of ranking, as users of both frameworks give them."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from langchain_core.documents import Document
from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, TextNode

from bge_rerank_integrations import Scorer, langchain, llama_index, load_scorer
from bge_rerank_integrations.errors import OptionError
from tests.integration.conftest import ENCODER

QUERY = "the capital of France"


@pytest.fixture(scope="module")
def encoder() -> Any:
    with load_scorer(ENCODER, cache_size=1000) as scorer:  # remembers, so that scores are the same to the last bit
        yield scorer


def by_langchain(metadata: dict[str, Any], text: str, **fields: Any) -> float:
    reranker, document = langchain.BGERerank(**fields), Document(text, metadata=metadata)
    (found,) = reranker.compress_documents([document], QUERY)
    assert asyncio.run(reranker.acompress_documents([document], QUERY)) == [found]
    assert [{"index": 0, "relevance_score": found.metadata["relevance_score"]}] == reranker.rerank([document], QUERY)
    return found.metadata["relevance_score"]  # type: ignore[no-any-return]


def by_llama_index(metadata: dict[str, Any], text: str, **fields: Any) -> float:
    reranker, node = llama_index.BGERerank(**fields), NodeWithScore(node=TextNode(text=text, metadata=metadata))
    (found,) = reranker.postprocess_nodes([node], query_str=QUERY)
    assert asyncio.run(reranker.apostprocess_nodes([node], query_str=QUERY)) == [found]
    assert found.score is not None
    return found.score


both = pytest.mark.parametrize("score", [by_langchain, by_llama_index])


@both
@pytest.mark.parametrize(
    ("metadata_fields", "read"),
    [
        (["title"], "Paris\na city"),
        ("{title}, {kind}: {text}", "Paris, page: a city"),
        (lambda metadata: metadata["title"].upper(), "PARIS\na city"),
    ],
)
def test_the_chosen_metadata_is_scored_before_the_text(
    score: Any, metadata_fields: Any, read: str, encoder: Scorer
) -> None:
    metadata = {"title": "Paris", "kind": "page"}
    found = score(metadata, "a city", scorer=encoder, metadata_fields=metadata_fields)
    assert found == encoder.score(QUERY, [read])[0]
    assert found != encoder.score(QUERY, ["a city"])[0]


@both
def test_the_end_of_the_text_is_cut_and_not_the_title(score: Any, encoder: Scorer) -> None:
    short = encoder.with_options(max_length=24)
    texts = ["a city " * 30, "a city " * 31]
    first, second = (score({"title": "Paris"}, text, scorer=short, metadata_fields=["title"]) for text in texts)
    assert first == second != score({"title": "Rome"}, texts[0], scorer=short, metadata_fields=["title"])


def test_langchain_scores_the_text_alone_unless_told(encoder: Scorer) -> None:
    assert by_langchain({"title": "Paris"}, "a city", scorer=encoder) == encoder.score(QUERY, ["a city"])[0]


def test_llama_index_scores_what_its_metadata_mode_says_unless_told(encoder: Scorer) -> None:
    text = TextNode(text="a city", metadata={"title": "Paris"}).get_content(MetadataMode.EMBED)
    assert by_llama_index({"title": "Paris"}, "a city", scorer=encoder) == encoder.score(QUERY, [text])[0]
    with pytest.raises(OptionError, match=r"metadata_mode='all' beside metadata_fields=\['title'\]"):
        llama_index.BGERerank(scorer=encoder, metadata_fields=["title"], metadata_mode="all")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [langchain.BGERerank, llama_index.BGERerank])
def test_the_options_are_saved_and_a_function_says_that_it_is_not(kind: Any) -> None:
    options = {"metadata_fields": ("title",), "blank": "drop", "deduplicate": True}
    reranker = kind(model=ENCODER, **options)
    for again in (kind.model_validate_json(reranker.model_dump_json()), pickle.loads(pickle.dumps(reranker))):
        assert again == reranker
        assert (again.metadata_fields, again.blank, again.deduplicate) == (["title"], "drop", True)
    with pytest.raises(ValueError, match="a function cannot: give a list of keys or a template"):
        kind(model=ENCODER, metadata_fields=lambda metadata: "").model_dump_json()
    assert pickle.loads(pickle.dumps(kind(model=ENCODER, metadata_fields=str))).metadata_fields is str


@pytest.mark.parametrize("kind", [langchain.BGERerank, llama_index.BGERerank])
@pytest.mark.parametrize("given", [{"metadata_fields": "title"}, {"blank": "first"}, {"deduplicate": "perhaps"}])
def test_what_makes_no_sense_is_refused_by_its_name(kind: Any, given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(OptionError, match=f"{name}='"):
        kind(model=ENCODER, **given)


def test_pictures_stand_after_sentences_in_llama_index(encoder: Scorer) -> None:
    nodes = [ImageNode(image_url="a.png"), TextNode(text="Paris is the capital."), ImageNode(image_url="b.png")]
    scored = [NodeWithScore(node=node) for node in nodes]
    for kept, options in (([1, 0, 2], {}), ([1, 0, 2], {"deduplicate": True}), ([1], {"blank": "drop"})):
        reranker = llama_index.BGERerank(scorer=encoder, top_n=None, **options)  # type: ignore[arg-type]
        found = reranker.postprocess_nodes(scored, query_str=QUERY)
        assert [node.node_id for node in found] == [nodes[place].node_id for place in kept]
        assert all(type(node.score) is float for node in found)


def test_copies_of_a_text_leave_room_for_others_in_langchain(encoder: Scorer) -> None:
    texts = ["Paris is the capital.", " paris  IS the capital.\n", "A croissant.", "Paris is the capital."]
    documents = [Document(text) for text in texts]
    found = langchain.BGERerank(scorer=encoder, top_n=2, deduplicate=True).compress_documents(documents, QUERY)
    assert sorted(document.page_content.casefold().split()[0] for document in found) == ["a", "paris"]
    titled = [Document("same", metadata={"title": title}) for title in "ab"]
    reranker = langchain.BGERerank(scorer=encoder, deduplicate=True, metadata_fields=["title"])
    assert len(reranker.compress_documents(titled, QUERY)) == 2


def test_fusion_in_llama_index_keeps_both_numbers_out_of_prompts(encoder: Scorer) -> None:
    nodes = [NodeWithScore(node=TextNode(text=text), score=score) for text, score in (("Paris", 0.1), ("Rome", 0.9))]
    plain = llama_index.BGERerank(scorer=encoder).postprocess_nodes(nodes, query_str=QUERY)
    by_reranker = {node.text: node.score for node in plain}
    for weight, first in ((0, plain[0].text), (1, "Rome")):
        reranker = llama_index.BGERerank(scorer=encoder, fusion="weighted", fusion_weight=weight)
        found = reranker.postprocess_nodes(nodes, query_str=QUERY)
        assert found[0].text == first
    assert found[0].metadata == {"rerank_score": by_reranker["Rome"], "retrieval_rank": 1, "retrieval_score": 0.9}
    assert all(found[0].node.get_content(mode) == "Rome" for mode in (MetadataMode.LLM, MetadataMode.EMBED))
    assert [node.metadata for node in nodes] == [{}, {}]


def test_fusion_in_langchain_takes_a_key_or_the_order(encoder: Scorer) -> None:
    documents = [Document(text, metadata={"_score": score}) for text, score in (("Paris", "0.1"), ("Rome", 0.9))]
    reranker = langchain.BGERerank(scorer=encoder, fusion="rrf", fusion_weight=1)
    assert [d.page_content for d in reranker.compress_documents(documents, QUERY)] == ["Paris", "Rome"]
    named = reranker.with_options(retrieval_score_key="_score")
    found = named.compress_documents(documents, QUERY)
    assert [d.page_content for d in found] == ["Rome", "Paris"]
    assert found[0].metadata.keys() == {
        "_score", "relevance_score", "rerank_score", "retrieval_rank", "retrieval_score",
    }  # fmt: skip
    with pytest.raises(TypeError, match=r"documents\[0\] has 'high' of type str under '_score'"):
        named.compress_documents([Document("a", metadata={"_score": "high"})], QUERY)


LONG = "A croissant is made of dough. " * 40 + "Paris is the capital of France. " + "Butter is yellow. " * 20


def rank_long(reranker: Any) -> tuple[float, dict[str, Any]]:
    """The score and the metadata of one long document or node."""
    if isinstance(reranker, langchain.BGERerank):
        (document,) = reranker.compress_documents([Document(LONG)], QUERY)
        return document.metadata["relevance_score"], document.metadata
    (node,) = reranker.postprocess_nodes([NodeWithScore(node=TextNode(text=LONG))], query_str=QUERY)
    return node.score, node.metadata


@pytest.mark.parametrize("kind", [langchain.BGERerank, llama_index.BGERerank])
def test_cuts_are_told_once_with_counts_and_the_remedy(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    with load_scorer(ENCODER, max_length=64) as scorer:
        scorer.score(QUERY, [LONG])  # not by the adapter
        reranker = kind(scorer=scorer)
        assert (reranker.truncated_pairs, reranker.stats().pairs) == (1, 1)
        for one in (reranker, reranker.with_options(top_n=1), reranker):
            rank_long(one)
        assert reranker.truncated_pairs == 4
        (message,) = [record.getMessage() for record in caplog.records]
        assert "BGERerank: 1 texts of this call" in message
        assert "use long='windows'" in message


@pytest.mark.parametrize("kind", [langchain.BGERerank, llama_index.BGERerank])
def test_windows_find_what_is_after_the_cut_and_say_where(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    with load_scorer("demo", max_length=64) as scorer:
        score, metadata = rank_long(kind(scorer=scorer, long="windows", max_windows=20))
        start, end = metadata["best_window"]
        assert "Paris is the capital of France." in LONG[start:end]
        assert score == pytest.approx(scorer.score(QUERY, [LONG[start:end]])[0], abs=1e-4)
        assert (scorer.truncated_pairs, caplog.records) == (0, [])
        assert score > scorer.score(QUERY, [LONG])[0]
        with pytest.raises(ValueError, match="use long='windows'"):
            rank_long(kind(scorer=scorer, long="refuse"))


def test_before_loading_nothing_was_cut() -> None:
    reranker = langchain.BGERerank(model=ENCODER)
    assert (reranker.truncated_pairs, reranker.stats()) == (0, None)
    reranker.rerank(["a"], "q")
    stats = reranker.stats()
    assert stats is not None
    assert stats.pairs == 1
    reranker.close()
    assert (reranker.truncated_pairs, reranker.stats()) == (0, None)


@pytest.mark.parametrize("long", ["windows", "refuse"])
async def test_the_async_forms_give_the_same(long: Any, encoder: Scorer) -> None:
    documents, nodes = [Document("Paris"), Document("Rome")], [NodeWithScore(node=TextNode(text="Paris"))]
    compressor = langchain.BGERerank(scorer=encoder, long=long)
    assert await compressor.acompress_documents(documents, QUERY) == compressor.compress_documents(documents, QUERY)
    processor = llama_index.BGERerank(scorer=encoder, long=long)
    (found,) = await processor.apostprocess_nodes(nodes, query_str=QUERY)
    assert found.score == processor.postprocess_nodes(nodes, query_str=QUERY)[0].score
    if long == "windows":
        assert found.node.metadata == {"best_window": [0, 5]}
        assert found.node.get_content(MetadataMode.LLM) == found.node.get_content(MetadataMode.EMBED) == "Paris"
