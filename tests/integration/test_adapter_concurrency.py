"""What the adapters promise alike: one model for any number of callers, loaded once, under settings that may change."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.llms import MockLLM
from llama_index.core.schema import TextNode

from bge_rerank_integrations import Scorer, llama_index, load_scorer
from bge_rerank_integrations.engine.engine import TOKENIZING_THREADS
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.model.cores import usable_cores
from bge_rerank_integrations.model.replica import Replica
from tests.conftest import CHECKPOINTS, FAMILIES, golden

if TYPE_CHECKING:
    from tests.integration.conftest import Adapter, Gate, Loads, Recorded

ENCODER = str(CHECKPOINTS / "encoder")
PAIRS = [pair for name in ("mixed", "odd") for pair in golden()["pairs"][name]]
TEXTS = [text for _, text in PAIRS]
SOME = TEXTS[::5]
QUERY = "What is the capital of France?"
THREADS = 16
OPTIONS: dict[str, dict[str, Any]] = {
    "encoder": {"max_length": 24, "query_max_length": 8},
    "llm": {"prompt": "answer", "query_instruction": "Q: "},
    "layerwise": {"cutoff_layer": 3, "scale": "sigmoid"},
    "lightweight": {"compress_ratio": 2, "compress_layers": (1,)},
}


def requests(count: int) -> list[tuple[str, list[str]]]:
    """Random queries with random texts, the same ones every time."""
    dice = random.Random(count)
    return [(dice.choice(PAIRS)[0], dice.choices(TEXTS, k=dice.randint(1, 4))) for _ in range(count)]


def in_threads(work: list[Callable[[], Any]]) -> list[Any]:
    """The results of work that starts in all threads at the same moment."""
    start = threading.Barrier(THREADS)

    def share(number: int) -> list[Any]:
        start.wait(10)
        return [one() for one in work[number::THREADS]]

    with ThreadPoolExecutor(THREADS) as pool:
        shares = list(pool.map(share, range(THREADS)))
    return [shares[place % THREADS][place // THREADS] for place in range(len(work))]


def close(scores: list[float]) -> Any:
    return pytest.approx(scores, abs=1e-5)


def alone(scorer: Scorer, work: list[tuple[str, list[str]]]) -> list[Any]:
    """What a single caller gets for each request."""
    scores = iter(scorer.score_pairs([(query, text) for query, texts in work for text in texts]))
    return [close([next(scores) for _ in texts]) for _, texts in work]


async def turns_until(happened: Callable[[], bool]) -> None:
    """Let the loop run until something has happened outside it."""
    for _ in iter(happened, True):
        await asyncio.sleep(0)


async def tick(task: asyncio.Future[Any], gate: Gate) -> None:
    """Run the loop until the work stands at the gate, and a hundred rounds more."""
    await turns_until(lambda: gate.reached or task.done())
    for _ in range(100):
        await asyncio.sleep(0)


# --- many callers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_threads_get_the_scores_of_a_single_caller(
    family: str, adapter: Adapter, scorers: Callable[[str], Scorer]
) -> None:
    work = requests(32)
    shared = adapter.new(model=str(CHECKPOINTS / family))
    found = in_threads([partial(adapter.score, shared, *one) for one in work])
    assert found == alone(scorers(family), work)
    shared.close()


@pytest.mark.parametrize("family", FAMILIES)
async def test_coroutines_get_the_scores_of_a_single_caller(
    family: str, async_adapter: Adapter, scorers: Callable[[str], Scorer]
) -> None:
    work = requests(200 if family == "encoder" else 32)
    shared = async_adapter.new(model=str(CHECKPOINTS / family))
    found = await asyncio.gather(*(async_adapter.ascore(shared, *one) for one in work))
    assert found == alone(scorers(family), work)
    shared.close()


def test_several_event_loops_and_threads_share_one(async_adapter: Adapter, encoder: Scorer) -> None:
    work = requests(96)
    shared = async_adapter.new(scorer=encoder)

    async def gathered(part: list[Any]) -> list[list[float]]:
        return await asyncio.gather(*(async_adapter.ascore(shared, *one) for one in part))

    def plain(part: list[Any]) -> list[list[float]]:
        return [async_adapter.score(shared, *one) for one in part]

    parts = [work[start : start + 6] for start in range(0, 96, 6)]
    found = in_threads(
        [
            partial(plain, part) if place % 2 else lambda part=part: asyncio.run(gathered(part))
            for place, part in enumerate(parts)
        ]
    )
    assert [scores for part in found for scores in part] == alone(encoder, work)


async def test_requests_cost_no_threads(async_adapter: Adapter) -> None:
    before, peak = set(threading.enumerate()), set()
    with load_scorer(ENCODER, token_budget=256, on_batch=lambda _: peak.update(threading.enumerate())) as scorer:
        shared = async_adapter.new(scorer=scorer)
        await asyncio.gather(*(async_adapter.ascore(shared, *one) for one in requests(150)))
    # those that score, one that has all cores, one for the hook, and those that tokenize
    limit = usable_cores() + 2 + TOKENIZING_THREADS
    assert len({thread for thread in peak - before if thread.name.startswith("bge")}) <= limit


async def test_a_cancelled_caller_takes_no_one_along(
    async_adapter: Adapter, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.before(monkeypatch, Replica, "run")
    with load_scorer(ENCODER) as scorer:
        shared = async_adapter.new(scorer=scorer)
        tasks = [asyncio.create_task(async_adapter.ascore(shared, *one)) for one in requests(20)]
        await turns_until(lambda: gate.reached)
        for task in tasks[::2]:
            task.cancel()
        gate.open()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        wanted = alone(scorer, requests(20))
    assert {type(outcome) for outcome in found[::2]} == {asyncio.CancelledError}
    assert found[1::2] == wanted[1::2]


# --- an event loop that goes on ---------------------------------------------------------------------------------------


async def test_the_loop_goes_on_while_texts_are_scored(
    async_adapter: Adapter, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the loop opens the gate at which the scores wait: had it stood still, they would be there before."""
    gate.before(monkeypatch, Replica, "run")
    with load_scorer(ENCODER) as scorer:
        reranker = async_adapter.new(scorer=scorer)
        task = asyncio.create_task(async_adapter.ascore(reranker, QUERY, TEXTS * 3))
        await tick(task, gate)
        assert gate.reached
        assert not task.done()
        gate.open()
        assert len(await task) == len(TEXTS) * 3


@pytest.mark.parametrize("change", [{}, {"model": str(CHECKPOINTS / "llm")}], ids=["first", "another"])
async def test_the_loop_goes_on_while_a_model_loads(
    change: dict[str, Any], async_adapter: Adapter, gate: Gate, loads: Loads
) -> None:
    reranker = async_adapter.new()
    if change:
        reranker.warm_up()
        reranker.model = change["model"]
    loads.before = gate
    task = asyncio.create_task(async_adapter.ascore(reranker, QUERY, TEXTS))
    await tick(task, gate)
    assert gate.reached
    assert not task.done()
    gate.open()
    assert len(await task) == len(TEXTS)


async def test_callers_that_wait_for_a_model_leave_the_loops_threads_to_others(
    async_adapter: Adapter, gate: Gate, loads: Loads
) -> None:
    """The loop's own few threads also do the retrieving, and the name look-ups, of everyone else."""
    shared, loads.before = async_adapter.new(), gate
    waiting = asyncio.gather(*(async_adapter.ascore(shared, *one) for one in requests(64)))
    await tick(waiting, gate)
    other = asyncio.ensure_future(asyncio.to_thread(int))
    await turns_until(lambda: other.done() or waiting.done())
    held = not waiting.done() and len(loads.scorers) == 0
    gate.open()
    await asyncio.gather(other, waiting)
    assert held


# --- loading ----------------------------------------------------------------------------------------------------------


def test_nothing_is_loaded_before_it_is_used(adapter: Adapter, loads: Loads) -> None:
    for model in (ENCODER, "no-such/model"):
        reranker = adapter.new(model=model, scale="sigmoid")
        repr(reranker)
        copy.deepcopy(reranker)
        pickle.dumps(reranker)
        assert adapter.score(reranker, QUERY, []) == []
    assert loads.models == []


def test_threads_that_come_first_together_load_once(adapter: Adapter, loads: Loads) -> None:
    shared = adapter.new()
    in_threads([partial(adapter.score, shared, *one) for one in requests(THREADS)])
    shared.warm_up()
    assert loads.models == [ENCODER]


async def test_coroutines_that_come_first_together_load_once(async_adapter: Adapter, loads: Loads) -> None:
    shared = async_adapter.new()
    await asyncio.gather(*(async_adapter.ascore(shared, *one) for one in requests(50)))
    async_adapter.score(shared, QUERY, TEXTS)
    assert loads.models == [ENCODER]


def test_warm_up_loads_and_close_frees_until_the_next_use(adapter: Adapter, loads: Loads) -> None:
    reranker = adapter.new()
    reranker.warm_up()
    assert loads.models == [ENCODER]
    reranker.close()
    reranker.close()
    assert loads.scorers[0].closed
    assert len(adapter.score(reranker, QUERY, TEXTS)) == len(TEXTS)
    assert loads.models == [ENCODER] * 2


def test_a_load_that_failed_leaves_nothing_behind(adapter: Adapter, loads: Loads) -> None:
    reranker = adapter.new(cutoff_layer=2)
    for _ in range(2):
        with pytest.raises(OptionError, match="cutoff_layer"):
            adapter.score(reranker, QUERY, TEXTS)
    reranker.cutoff_layer = None
    assert len(adapter.score(reranker, QUERY, TEXTS)) == len(TEXTS)


# --- a scorer that was injected ---------------------------------------------------------------------------------------


def test_an_injected_scorer_is_used_and_left_open(adapter: Adapter, encoder: Scorer, loads: Loads) -> None:
    reranker = adapter.new(scorer=encoder, model="a name for events")
    reranker.warm_up()
    assert adapter.score(reranker, QUERY, TEXTS) == close(encoder.score(QUERY, TEXTS))
    reranker.close()
    assert not encoder.closed
    assert "a name for events" in repr(reranker)
    assert loads.models == []


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_copies_share_an_injected_scorer(copied: Any, adapter: Adapter, encoder: Scorer) -> None:
    reranker = adapter.new(scorer=encoder)
    assert copied(reranker).scorer is encoder
    assert reranker.scorer is encoder


def test_an_injected_scorer_is_loaded_again_when_it_is_unpickled(adapter: Adapter, encoder: Scorer) -> None:
    """With its own options: `model` is only a name beside it."""
    reranker = adapter.new(scorer=encoder.with_options(scale="sigmoid"), model="name")
    copied = pickle.loads(pickle.dumps(reranker))
    assert copied.scorer is not reranker.scorer
    assert adapter.score(copied, QUERY, TEXTS) == close(adapter.score(reranker, QUERY, TEXTS))
    copied.scorer.close()


@pytest.mark.parametrize(
    "fields", [{"max_length": 9}, {"dtype": "float32"}, {"scale": "sigmoid", "model": "m"}], ids=str
)
def test_options_beside_an_injected_scorer_are_refused(
    fields: dict[str, Any], adapter: Adapter, encoder: Scorer
) -> None:
    name = next(iter(fields))
    with pytest.raises(ValueError, match=f"{name} would have no effect beside scorer="):
        adapter.new(scorer=encoder, **fields)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_every_option_of_load_scorer_is_a_field(adapter: Adapter) -> None:
    for name, parameter in inspect.signature(load_scorer).parameters.items():
        assert name in adapter.kind.model_fields, name
        if parameter.default is not inspect.Parameter.empty:
            plain = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
            assert adapter.kind.model_fields[name].default == plain, name


# fmt: off
WRONG: list[dict[str, Any]] = [
    {"max_length": 0}, {"max_length": "many"}, {"query_max_length": -1}, {"scale": "percent"}, {"compress_ratio": 3},
    {"compress_layers": (-1,)}, {"head_index": "first"}, {"token_budget": 0}, {"model": ""}, {"dtype": "int3"},
    {"family": "gpt"}, {"scorer": "a name"}, {"top_n": -1}, {"top_n": 1.5}, {"score_threshold": "high"},
    {"top": 3}, {"batch_size": 8},
]
# fmt: on


@pytest.mark.parametrize("fields", WRONG, ids=str)
def test_what_makes_no_sense_is_refused_at_once_and_changes_nothing(
    fields: dict[str, Any], async_adapter: Adapter
) -> None:
    ((name, value),) = fields.items()
    reranker = async_adapter.new()
    before = reranker.model_dump()
    with pytest.raises(ValueError, match=name):
        setattr(reranker, name, value)
    assert reranker.model_dump() == before
    reranker.scale = "sigmoid"  # which checks everything again
    with pytest.raises(ValueError, match=name):
        async_adapter.kind(**{"model": ENCODER} | fields)


def test_a_model_or_a_scorer_must_be_given(adapter: Adapter) -> None:
    with pytest.raises(ValueError, match="model="):
        adapter.kind()


@pytest.mark.parametrize("family", FAMILIES)
def test_options_take_effect_whenever_they_are_set(
    family: str, adapter: Adapter, scorers: Callable[[str], Scorer], loads: Loads
) -> None:
    folder = str(CHECKPOINTS / family)
    wanted = scorers(family).with_options(**OPTIONS[family]).score(QUERY, SOME)
    assert wanted != close(scorers(family).score(QUERY, SOME))
    from_the_start, later = adapter.new(model=folder, **OPTIONS[family]), adapter.new(model=folder)
    assert adapter.score(from_the_start, QUERY, SOME) == close(wanted)
    assert adapter.score(later, QUERY, SOME) == close(scorers(family).score(QUERY, SOME))
    for name, value in OPTIONS[family].items():
        setattr(later, name, value)
    assert adapter.score(later, QUERY, SOME) == close(wanted)
    assert loads.models == [folder] * 2  # options are changed without loading again


def test_another_model_takes_effect(adapter: Adapter, scorers: Callable[[str], Scorer], loads: Loads) -> None:
    reranker = adapter.new()
    for family in FAMILIES:
        reranker.model = str(CHECKPOINTS / family)
        assert adapter.score(reranker, QUERY, SOME) == close(scorers(family).score(QUERY, SOME))
    assert len(loads.models) == len(FAMILIES)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["deep", "pickle"])
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_copies_load_for_themselves_and_live_alone(copied: Any, used: bool, adapter: Adapter, loads: Loads) -> None:
    original = adapter.new(scale="sigmoid")
    wanted = adapter.score(original, QUERY, SOME if used else [])
    other = copied(original)
    assert type(other) is adapter.kind
    assert other.model_dump() == original.model_dump()
    assert len(loads.models) == used
    scores = adapter.score(other, QUERY, SOME)
    assert len(loads.models) == used + 1
    other.close()
    assert adapter.score(original, QUERY, SOME) == close(scores)
    assert not used or wanted == close(scores)


def test_a_copy_with_other_settings_leaves_the_original_alone(adapter: Adapter, encoder: Scorer) -> None:
    original = adapter.new()
    changed = original.model_copy(update={"scale": "sigmoid"})
    sigmoid = encoder.with_options(scale="sigmoid").score(QUERY, SOME)
    for _ in range(2):
        assert adapter.score(original, QUERY, SOME) == close(encoder.score(QUERY, SOME))
        assert adapter.score(changed, QUERY, SOME) == close(sigmoid)


# --- spans and events of query engines that run together --------------------------------------------------------------


@pytest.mark.parametrize("threads", [False, True], ids=["gather", "threads"])
async def test_spans_and_events_stay_with_their_query(threads: bool, encoder: Scorer, recorded: Recorded) -> None:
    nodes = [TextNode(text=text, id_=str(place)) for place, text in enumerate(TEXTS[:8])]
    index = VectorStoreIndex(nodes, embed_model=MockEmbedding(embed_dim=4))
    reranker = llama_index.BGERerank(scorer=encoder)
    engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=8, node_postprocessors=[reranker])
    queries = [f"{QUERY} {number}" for number in range(32)]
    if threads:
        responses = in_threads([partial(engine.query, query) for query in queries])
    else:
        responses = await asyncio.gather(*(engine.aquery(query) for query in queries))
    parents = {span.id_: span.parent_id for span in recorded.spans.completed_spans}
    starts = [event for event in recorded.events if isinstance(event, ReRankStartEvent)]
    ends = {event.span_id: event.nodes for event in recorded.events if isinstance(event, ReRankEndEvent)}
    assert (len(recorded.events), len(starts), len(ends)) == (64, 32, 32)
    assert len({parents[event.span_id] for event in starts}) == 32  # each in the span of its own query
    found = {event.query: [(node.node_id, node.score) for node in ends[event.span_id]] for event in starts}
    for query, response in zip(queries, responses, strict=True):
        assert [(node.node_id, node.score) for node in response.source_nodes] == found[query]
        assert found[query] == [(str(i), pytest.approx(s, abs=1e-5)) for i, s in encoder.rank(query, TEXTS[:8], 3)]
    assert recorded.spans.open_spans == {}
