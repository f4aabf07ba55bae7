"""Copies of an adapter with settings of their own: they share the model, whether it is loaded yet or not."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import ConfigurableField
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, TextNode
from pydantic import create_model

from bge_rerank_integrations import Scorer, langchain, llama_index
from bge_rerank_integrations.errors import OptionError
from tests.conftest import CHECKPOINTS, golden

if TYPE_CHECKING:
    from tests.integration.conftest import Adapter, Loads

ENCODER, LLM = str(CHECKPOINTS / "encoder"), str(CHECKPOINTS / "llm")
TEXTS = [text for _, text in golden()["pairs"]["mixed"]][:8]
QUERY = "What is the capital of France?"


def count(adapter: Adapter, reranker: Any) -> int:
    """How many of the eight texts it keeps."""
    if adapter.kind is langchain.BGERerank:
        return len(reranker.compress_documents([Document(text) for text in TEXTS], QUERY))
    return len(reranker.postprocess_nodes([TextNode(text=text) for text in TEXTS], query_str=QUERY))


def copies(made: Any) -> list[Any]:
    return [
        made.with_options(),
        made.with_options(top_n=5),
        made.with_options(score_threshold=-100.0, scale="logit"),
        made.model_copy(),
        made.model_copy(update={"top_n": 5}),
        copy.copy(made),
    ]


@pytest.mark.parametrize("warm", [False, True])
def test_copies_of_any_kind_load_once(warm: bool, async_adapter: Adapter, loads: Loads) -> None:
    made = async_adapter.new()
    if warm:
        made.warm_up()
    several = copies(made) + [one for made_again in copies(made) for one in copies(made_again)]
    for one in several:
        count(async_adapter, one)
    count(async_adapter, made)
    assert loads.models == [ENCODER]


def test_each_thread_gets_its_own_top_n(async_adapter: Adapter, loads: Loads) -> None:
    made = async_adapter.new()
    wanted = [number % 8 for number in range(200)]
    start = threading.Barrier(8)

    def share(first: int) -> list[int]:
        start.wait(10)
        return [count(async_adapter, made.with_options(top_n=top_n)) for top_n in wanted[first::8]]

    with ThreadPoolExecutor(8) as pool:
        shares = list(pool.map(share, range(8)))
    assert shares == [wanted[first::8] for first in range(8)]
    assert loads.models == [ENCODER]
    assert made.top_n is None


async def test_each_task_gets_its_own_top_n(async_adapter: Adapter, loads: Loads) -> None:
    made = async_adapter.new(top_n=1)

    async def request(top_n: int) -> int:
        one = made.with_options(top_n=top_n)
        if async_adapter.kind is langchain.BGERerank:
            return len(await one.acompress_documents([Document(text) for text in TEXTS], QUERY))
        return len(await one.apostprocess_nodes([TextNode(text=text) for text in TEXTS], query_str=QUERY))

    assert await asyncio.gather(*map(request, range(20))) == [min(top_n, 8) for top_n in range(20)]
    assert loads.models == [ENCODER]


def test_copies_share_until_they_name_another_model(adapter: Adapter, loads: Loads) -> None:
    made = adapter.new()
    other = made.with_options(model=LLM)
    sigmoid = made.with_options(scale="sigmoid")
    scores = adapter.score(made, QUERY, TEXTS)
    assert adapter.score(sigmoid, QUERY, TEXTS) == pytest.approx([1 / (1 + math.exp(-one)) for one in scores])
    assert adapter.score(other, QUERY, TEXTS) != pytest.approx(scores)
    assert loads.models == [ENCODER, LLM]
    made.close()
    assert adapter.score(sigmoid, QUERY, TEXTS) != scores  # loads again, for all that share it
    assert adapter.score(made, QUERY, TEXTS) == pytest.approx(scores)
    assert loads.models == [ENCODER, LLM, ENCODER]


def test_a_deep_copy_shares_nothing(adapter: Adapter, loads: Loads) -> None:
    made = adapter.new()
    scores = adapter.score(made, QUERY, TEXTS)
    assert adapter.score(made.model_copy(update={"max_length": 500}, deep=True), QUERY, TEXTS) == pytest.approx(scores)
    assert loads.models == [ENCODER] * 2


def test_copies_share_an_injected_scorer(async_adapter: Adapter, encoder: Scorer, loads: Loads) -> None:
    made = async_adapter.new(scorer=encoder)
    assert [count(async_adapter, one) for one in copies(made)] == [8, 5, 8, 8, 5, 8]
    assert made.with_options(top_n=1).scorer is encoder
    with pytest.raises(OptionError, match=r"scale would have no effect beside scorer=.*scorer.with_options"):
        made.with_options(scale="sigmoid")
    assert loads.models == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"top_n": -1}, "top_n=-1"),
        ({"top_n": "many"}, "top_n='many'"),
        ({"top_n": True}, "top_n=True: use a whole number"),
        ({"score_threshold": float("nan")}, "score_threshold=nan"),
        ({"score_threshold": True}, "score_threshold=True: use a number, or None to keep all"),
        ({"scale": "percent"}, "scale='percent'"),
        ({"top_k": 3}, "top_k is not a field of BGERerank: use top_n"),
        ({"nonsense": 3}, "nonsense is not a field of BGERerank: use one of family, .*top_n"),
        ({"model": None}, "give model="),
    ],
)
def test_a_copy_is_validated(changes: dict[str, Any], said: str, async_adapter: Adapter) -> None:
    made = async_adapter.new()
    before = made.model_dump()
    for change in (made.with_options, lambda **update: made.model_copy(update=update)):
        with pytest.raises(OptionError, match=said) as caught:
            change(**changes)
        assert "\n" not in str(caught.value)
    assert made.model_dump() == before


class Mine(langchain.BGERerank):
    """A user's subclass, with a field and something private."""

    label: str = "a"
    _calls: int = 0


def test_subclasses_are_copied_whole() -> None:
    made = Mine(model=ENCODER, label="b")
    made._calls = 7
    one = made.with_options(top_n=5)
    assert (type(one), one.label, one._calls, one.top_n, made.top_n) == (Mine, "b", 7, 5, 3)
    assert one.with_options(label="c").label == "c"


# --- a request's own top_n, in each framework -------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_langchains_configurable_fields(asynchronous: bool, loads: Loads) -> None:
    store = InMemoryVectorStore.from_texts(TEXTS, DeterministicFakeEmbedding(size=16))
    reranker = langchain.BGERerank(model=ENCODER, top_n=3)
    retriever = ContextualCompressionRetriever(
        base_compressor=reranker, base_retriever=store.as_retriever(search_kwargs={"k": 8})
    ).configurable_fields(base_compressor=ConfigurableField(id="reranker"))
    for top_n in (5, 1, None):
        chosen = {"reranker": reranker.with_options(top_n=top_n)}
        configured = retriever.with_config(configurable=chosen)
        found = await configured.ainvoke(QUERY) if asynchronous else configured.invoke(QUERY)
        assert len(found) == (top_n or 8)
        assert len(retriever.invoke(QUERY, {"configurable": chosen})) == (top_n or 8)
    assert len(retriever.invoke(QUERY)) == 3
    assert loads.models == [ENCODER]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_engine_for_a_request_in_llama_index(asynchronous: bool, loads: Loads) -> None:
    index = VectorStoreIndex([TextNode(text=text) for text in TEXTS], embed_model=MockEmbedding(embed_dim=4))
    retriever, llm = index.as_retriever(similarity_top_k=8), MockLLM()
    reranker = llama_index.BGERerank(model=ENCODER, top_n=3)
    for top_n in (5, 1, None):
        steps: Any = [reranker.with_options(top_n=top_n)]
        engine = RetrieverQueryEngine.from_args(retriever, llm=llm, node_postprocessors=steps)
        response = await engine.aquery(QUERY) if asynchronous else engine.query(QUERY)
        assert len(response.source_nodes) == (top_n or 8)
    assert loads.models == [ENCODER]


# --- saved and read ---------------------------------------------------------------------------------------------------

FIELDS: dict[str, Any] = {
    "model": str(CHECKPOINTS / "lightweight"), "cache_dir": CHECKPOINTS,
    "devices": [torch.device("cpu"), "cpu"], "dtype": torch.float32,
    "max_length": np.int64(64), "timeout": np.float32(30), "compress_layers": (4, 5), "scale": "sigmoid",
    "query_instruction": "Frage: ", "cache_size": np.uint8(9),
}  # fmt: skip
CUT: dict[str, Any] = {"top_n": np.int32(5), "score_threshold": np.float64(0.25)}
WAYS: dict[str, Callable[[Any], Any]] = {
    "dict": lambda made: type(made)(**made.model_dump()),
    "validated": lambda made: type(made).model_validate(made.model_dump()),
    "json": lambda made: type(made).model_validate_json(made.model_dump_json()),
    "json by hand": lambda made: type(made)(**json.loads(json.dumps(made.model_dump()))),
    "yaml": lambda made: type(made)(**yaml.safe_load(yaml.safe_dump(made.model_dump()))),
    "pickle": lambda made: pickle.loads(pickle.dumps(made)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("used", [False, True])
def test_what_is_saved_is_read_as_its_equal(way: Callable[[Any], Any], used: bool, adapter: Adapter) -> None:
    made = adapter.kind(**FIELDS | (CUT if adapter.keeps else {}))
    if used:
        adapter.score(made.with_options(top_n=None, score_threshold=None) if adapter.keeps else made, QUERY, TEXTS)
    again = way(made)
    assert again == made
    assert again.model_dump() == made.model_dump()
    again.max_length = 65
    assert again != made
    made.close()


@pytest.mark.parametrize("way", ["to_dict", "to_json", "yaml"])
def test_what_llama_index_saves(way: str) -> None:
    made = llama_index.BGERerank(**FIELDS, **CUT, metadata_mode=MetadataMode.LLM, keep_retrieval_score=True)
    ways: dict[str, Callable[[], Any]] = {
        "to_dict": lambda: llama_index.BGERerank.from_dict(made.to_dict()),
        "to_json": lambda: llama_index.BGERerank.from_json(made.to_json()),
        "yaml": lambda: llama_index.BGERerank.from_dict(yaml.safe_load(yaml.safe_dump(made.to_dict()))),
    }
    again = ways[way]()
    assert again == made
    assert again.metadata_mode is MetadataMode.LLM


def test_a_threshold_of_infinity_is_not_read_back_as_none(async_adapter: Adapter) -> None:
    made = async_adapter.new(score_threshold=math.inf)
    assert WAYS["json"](made).score_threshold == math.inf


def test_an_injected_scorer_is_said_when_it_is_saved(adapter: Adapter, encoder: Scorer) -> None:
    made = adapter.new(scorer=encoder, model="name")
    saves: list[Callable[[], Any]] = [made.model_dump, made.model_dump_json]
    if isinstance(made, llama_index.BGERerank):
        saves += [made.to_dict, made.to_json]
    for save in saves:
        with pytest.raises(ValueError, match=r"with scorer=Scorer\('encoder'.* cannot be saved.*give model="):
            save()
    holder = create_model("Settings", reranker=(adapter.kind, ...))
    assert holder(reranker=adapter.new()) == holder.model_validate(holder(reranker=adapter.new()).model_dump())
    for save in (holder(reranker=made).model_dump, holder(reranker=made).model_dump_json):
        with pytest.raises(ValueError, match=r"cannot be saved.*give model="):
            save()
    assert made == adapter.new(scorer=encoder, model="name")
    assert made != adapter.new(scorer=encoder)
    assert made != adapter.new()
