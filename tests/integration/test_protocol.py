"""Scorers of the protocol: async twins that equal their sync forms, and scorers that are not this package's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.documents import Document

from bge_rerank_integrations import Scorer, langchain, load_scorer
from bge_rerank_integrations.model.replica import Replica
from bge_rerank_integrations.options import ScoringOptions
from bge_rerank_integrations.protocol import ScorerProtocol, missing_methods
from tests.conftest import CHECKPOINTS
from tests.unit.test_protocol import ByLength

if TYPE_CHECKING:
    from tests.integration.conftest import Adapter, Gate

QUERY = "What is the capital of France?"
TEXTS = ["Paris is the capital.", "a", "", "Lyon " * 40, "a", "The Seine."]
PAIRS = [(query, text) for query in (QUERY, "rivers") for text in TEXTS]


# --- async twins ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("score", (QUERY, TEXTS)),
        ("score", (QUERY, [])),
        ("score_pairs", (PAIRS,)),
        ("score_pairs", ([],)),
        ("score_layers", (PAIRS, [8, 3, 5])),
        ("rank", (QUERY, TEXTS)),
        ("rank", (QUERY, TEXTS, 2)),
        ("rank", (QUERY, TEXTS, None, 0.0)),
    ],
)
async def test_an_async_form_gives_what_the_sync_form_gives(
    name: str, given: tuple[Any, ...], scorers: Callable[[str], Scorer]
) -> None:
    scorer = scorers("layerwise")
    assert await getattr(scorer, f"a{name}")(*given) == getattr(scorer, name)(*given)


@pytest.mark.parametrize(
    ("name", "given", "error", "said"),
    [
        ("score_pairs", ([("q", 3)],), TypeError, r"the text of pairs\[0\]"),
        ("score_layers", (PAIRS, [2]), ValueError, "3 to 8"),
        ("score_layers", ([("q",)], [8]), TypeError, r"pairs\[0\]"),
        ("rank", (QUERY, TEXTS, -1), ValueError, "top_n=-1"),
        ("rank", (QUERY, "one string"), TypeError, "list of strings"),
    ],
)
async def test_an_async_form_refuses_what_the_sync_form_refuses(
    name: str, given: tuple[Any, ...], error: type[Exception], said: str, scorers: Callable[[str], Scorer]
) -> None:
    scorer = scorers("layerwise")
    with pytest.raises(error, match=said):
        getattr(scorer, name)(*given)
    with pytest.raises(error, match=said):
        await getattr(scorer, f"a{name}")(*given)


CALLS: dict[str, Callable[[Scorer], Awaitable[Any]]] = {
    "ascore_pairs": lambda scorer: scorer.ascore_pairs(PAIRS),
    "ascore_layers": lambda scorer: scorer.ascore_layers(PAIRS, [5, 8]),
    "arank": lambda scorer: scorer.arank(QUERY, TEXTS, 2),
    "arerank": lambda scorer: langchain.BGERerank(scorer=scorer).arerank(TEXTS, QUERY),
}


@pytest.mark.parametrize("name", CALLS)
async def test_the_loop_goes_on_during_an_async_call(name: str, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the loop opens the gate at which the scores wait: had it stood still, they would be there before."""
    gate.before(monkeypatch, Replica, "run")
    with load_scorer(CHECKPOINTS / "layerwise") as scorer:
        task = asyncio.ensure_future(CALLS[name](scorer))
        for _ in iter(lambda: gate.reached or task.done(), True):
            await asyncio.sleep(0)
        waiting = not task.done()
        gate.open()
        assert await task
    assert waiting


@pytest.mark.parametrize("top_n", [0, 1, None])
async def test_arerank_gives_what_rerank_gives(encoder: Scorer, top_n: int | None) -> None:
    reranker = langchain.BGERerank(scorer=encoder, score_threshold=-100)
    documents = [Document("some text"), *TEXTS]
    assert await reranker.arerank(documents, QUERY) == reranker.rerank(documents, QUERY)
    assert await reranker.arerank(documents, QUERY, top_n=top_n) == reranker.rerank(documents, QUERY, top_n=top_n)
    assert len(await reranker.arerank(documents, QUERY)) == 3  # the field's default
    assert await reranker.arerank([], QUERY) == []


async def test_arerank_refuses_what_rerank_refuses(encoder: Scorer) -> None:
    reranker = langchain.BGERerank(scorer=encoder)
    for given, options, error, said in (
        ("one string", {}, TypeError, "one string"),
        ([3], {}, TypeError, r"documents\[0\]"),
        (["a"], {"top_n": -1}, ValueError, "top_n"),
    ):
        with pytest.raises(error, match=said):
            reranker.rerank(given, QUERY, **options)  # type: ignore[arg-type]
        with pytest.raises(error, match=said):
            await reranker.arerank(given, QUERY, **options)  # type: ignore[arg-type]


# --- other scorers ----------------------------------------------------------------------------------------------------


def test_ours_and_another_are_scorers_of_the_protocol(encoder: Scorer) -> None:
    another: ScorerProtocol = ByLength()
    for scorer in (encoder, another):
        assert isinstance(scorer, ScorerProtocol)
        assert missing_methods(scorer) == []


async def test_another_scorer_takes_the_place_of_ours(adapter: Adapter) -> None:
    scorer = ByLength()
    reranker = adapter.new(scorer=scorer)
    texts = ["one", "three", ""]
    assert adapter.score(reranker, QUERY, texts) == [3.0, 5.0, 0.0]
    if adapter.ascore is not None:
        assert await adapter.ascore(reranker, QUERY, texts) == [3.0, 5.0, 0.0]
    reranker.close()
    assert not scorer.closed  # whoever made it closes it


async def test_another_scorer_ranks_for_rerank() -> None:
    reranker = langchain.BGERerank(scorer=ByLength(), top_n=2, score_threshold=4)
    assert reranker.rerank(["one", "three"], QUERY) == [{"index": 1, "relevance_score": 5.0}]
    assert await reranker.arerank(["one", "three"], QUERY) == [{"index": 1, "relevance_score": 5.0}]


class OnlySync:
    options = ScoringOptions()
    score = ByLength.score
    score_pairs = ByLength.score_pairs
    rank = ByLength.rank


@pytest.mark.parametrize(
    ("scorer", "lacking"),
    [
        (OnlySync(), ["ascore", "ascore_pairs", "arank", "close"]),
        (object(), ["options", "score", "score_pairs", "rank", "ascore", "ascore_pairs", "arank", "close"]),
        ("BAAI/bge-reranker-v2-m3", ["options", "score", "score_pairs", "rank"]),
        (load_scorer, ["options", "score"]),
    ],
    ids=["only sync", "an object", "a name", "the function"],
)
def test_what_lacks_methods_is_refused_with_their_names(adapter: Adapter, scorer: Any, lacking: list[str]) -> None:
    with pytest.raises(ValueError, match="has no " + ", ".join(lacking)):
        adapter.new(scorer=scorer)
