"""What one caller asks, and what it does meanwhile, is its own affair."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import weakref
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

from bge_rerank_integrations import Scorer, load_scorer, loading
from bge_rerank_integrations.engine.work import Request, TokenSequence
from bge_rerank_integrations.errors import ClosedError, OptionError, RerankError, Timeout
from bge_rerank_integrations.langchain import BGERerank as Compressor
from bge_rerank_integrations.llama_index import BGERerank as Postprocessor
from bge_rerank_integrations.model import inputs
from tests.attack.conftest import ENCODER, LAYERWISE, LIGHTWEIGHT, Device, in_thread
from tests.conftest import CHECKPOINTS
from tests.unit.engine.conftest import LONG

TEXTS = ["one text", "another text, of several words", "a third"]


class Whole:
    """A whole number of a kind that nobody knows."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


KINDS: list[Callable[[int], Any]] = [int, np.int8, np.int64, np.uint16, torch.tensor, Whole]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_whole_numbers_of_every_kind(kind: Callable[[int], Any]) -> None:
    numbers = {"max_length": 64, "query_max_length": 8, "cutoff_layer": 3, "compress_ratio": 2}
    engine = {"token_budget": 99, "max_queued_tokens": 100, "cache_size": 10}
    given = {name: kind(number) for name, number in {**numbers, **engine}.items()}
    layers = [kind(1), kind(2)]
    with load_scorer(LIGHTWEIGHT) as plain:
        allowed = plain.cutoff_layers
        numbers["cutoff_layer"] = allowed[-1]
        given["cutoff_layer"] = kind(allowed[-1])
        expected = plain.with_options(**numbers, compress_layers=(1, 2)).score("q", TEXTS)
    with load_scorer(LIGHTWEIGHT, **given, compress_layers=layers) as scorer:
        assert scorer.score("q", TEXTS) == pytest.approx(expected, abs=1e-5)
        assert {name: type(getattr(scorer.options, name)) for name in numbers} == dict.fromkeys(numbers, int)
        by_layer = scorer.score_layers([("q", "a")], [kind(layer) for layer in allowed])
        assert list(by_layer) == list(allowed)
        assert len(scorer.rank("q", TEXTS, top_n=kind(2))) == 2
        assert (
            len(scorer.with_options(**{name: kind(number) for name, number in numbers.items()}).score("q", ["a"])) == 1
        )


@pytest.mark.parametrize("adapter", [Compressor, Postprocessor])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_whole_numbers_of_every_kind_as_fields(kind: Callable[[int], Any], adapter: type[Any]) -> None:
    reranker = adapter(
        model=str(ENCODER), max_length=kind(64), query_max_length=kind(8), token_budget=kind(99), cache_size=kind(3),
        max_queued_tokens=kind(100), top_n=kind(2),
    )  # fmt: skip
    assert (reranker.max_length, reranker.top_n, type(reranker.max_length)) == (64, 2, int)
    reranker.max_length = kind(32)
    assert type(reranker.max_length) is int


@pytest.mark.parametrize(
    "value", [2.0, "2", True, np.float64(2), np.bool_(True), 2 + 0j, Fraction(2), [2], None, math.nan]
)
def test_what_is_no_whole_number_is_refused_before_it_is_queued(value: Any) -> None:
    with load_scorer(LIGHTWEIGHT) as scorer:
        for name in ("compress_ratio", "max_length", "cutoff_layer", "query_max_length"):
            if value is None and name in ("cutoff_layer", "query_max_length"):
                continue
            with pytest.raises(OptionError, match=name):
                scorer.with_options(**{name: value})
        most = scorer.cutoff_layers[-1]
        for layer in (value, float(most), str(most), [most]):
            with pytest.raises(OptionError, match="cutoff layer"):
                scorer.score_layers([("q", "a")], [layer])
        with pytest.raises((TypeError, ValueError)):
            scorer.rank("q", ["a"], top_n=value if value is not None else -1)
        assert scorer.stats().batches == 0


def test_an_id_beyond_the_embeddings_is_its_callers_affair(device: Device) -> None:
    """As a tokenizer of another model would give it: among others, in one batch with theirs."""
    with load_scorer(ENCODER) as scorer:
        expected = scorer.score("q", ["good"])
        device.hold()
        first = in_thread(lambda: scorer.score("running", ["a"]))
        assert device.started.wait(LONG)
        good = [in_thread(lambda: scorer.score("q", ["good"])) for _ in range(3)]
        bad = Request([TokenSequence([0, 10**7, 2], (1, 2))], scorer._recipe)
        scorer._core.engine.submit(bad)
        good += [in_thread(lambda: scorer.score("q", ["good"])) for _ in range(3)]
        while scorer.stats().queued_requests < 7:
            pass
        device.go.set()
        for one in good:
            assert one() == pytest.approx(expected, abs=1e-5)
        assert bad.future.exception(LONG) is not None
        assert len(first()) == 1
        assert len(device.batches) == 2 + 1 + 7  # that of all seven failed, and then each had its own


async def test_lists_may_change_while_they_are_scored(device: Device) -> None:
    """The scores are those of what was given at the call."""
    with load_scorer(ENCODER) as scorer:
        expected = dict(zip(TEXTS, scorer.score("q", TEXTS), strict=True))
        documents = [Document(text) for text in TEXTS]
        nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
        texts, pairs = list(TEXTS), [("q", text) for text in TEXTS]
        compressor = Compressor(scorer=scorer, top_n=None)
        waiting: list[Any] = [
            asyncio.create_task(one)
            for one in (
                compressor.acompress_documents(documents, "q"),
                Postprocessor(scorer=scorer, top_n=None).apostprocess_nodes(nodes, query_str="q"),
                compressor.arerank(documents, "q"),
                scorer.ascore("q", texts),
                scorer.arank("q", texts),
                scorer.ascore_pairs(pairs),
            )
        ]
        await asyncio.sleep(0)
        for given in (documents, nodes, texts, pairs):
            given.reverse()  # type: ignore[attr-defined]
            del given[1:]  # type: ignore[attr-defined]
        compressed, processed, reranked, scored, ranked, paired = await asyncio.gather(*waiting)
    assert {d.page_content: d.metadata["relevance_score"] for d in compressed} == pytest.approx(expected, abs=1e-5)
    assert {n.get_content(): n.score for n in processed} == pytest.approx(expected, abs=1e-5)
    assert {TEXTS[row["index"]]: row["relevance_score"] for row in reranked} == pytest.approx(expected, abs=1e-5)
    assert {TEXTS[index]: score for index, score in ranked} == pytest.approx(expected, abs=1e-5)
    assert scored == paired == pytest.approx(list(expected.values()), abs=1e-5)


@pytest.mark.parametrize("family", ["encoder", "layerwise"])
def test_passages_that_are_equal_once_cut_keep_their_order(family: str) -> None:
    same = "word " * 60
    texts = [f"{same}{i}" for i in range(40)]
    for place in range(0, 40, 5):
        texts.insert(place, f"other {place}")
    with load_scorer(CHECKPOINTS / family, max_length=32, token_budget=100) as scorer:
        ranked = [index for index, _ in scorer.rank("q", texts) if texts[index].startswith(same)]
        assert ranked == sorted(ranked)
        assert len({scorer.score("q", texts)[index] for index in ranked}) == 1


@pytest.mark.parametrize("count", [1, 1024, 1025, 3000])
@pytest.mark.parametrize("distinct", [1, 7, 3000])
def test_progress_grows_and_ends_at_the_total(count: int, distinct: int) -> None:
    told: list[tuple[int, int]] = []
    with load_scorer(ENCODER) as scorer:
        texts = [f"text {i % distinct}" for i in range(count)]
        assert len(scorer.score("q", texts, on_progress=lambda *numbers: told.append(numbers))) == count
    done = [done for done, _ in told]
    assert done == sorted(set(done))
    assert told[-1] == (count, count)
    assert {total for _, total in told} == {count}


@pytest.mark.parametrize("texts", [3000, 1])
async def test_close_during_an_await(texts: int, device: Device) -> None:
    scorer = load_scorer(ENCODER, max_queued_tokens=2000)
    device.hold()
    tasks = [asyncio.create_task(scorer.ascore("q", [f"text {i}" for i in range(texts)]))]
    await asyncio.to_thread(device.started.wait, LONG)
    tasks += [asyncio.create_task(scorer.ascore("q", [f"text {i}" for i in range(texts)])) for _ in range(2)]
    while scorer.stats().queued_requests < (3 if texts > 1 else 2):  # noqa: ASYNC110 - turns in which they are queued
        await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(scorer.close))
    while not scorer.closed:  # noqa: ASYNC110
        await asyncio.sleep(0)
    device.go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    await closing
    assert all(isinstance(outcome, (ClosedError, list)) for outcome in outcomes), outcomes
    assert any(isinstance(outcome, ClosedError) for outcome in outcomes)
    with pytest.raises(ClosedError):
        await scorer.ascore("q", ["a"])


@pytest.mark.parametrize("timeout", [math.inf, 1e18, 10**400, 1e9, np.float32(1e9), Fraction(10**9), np.int64(10**9)])
def test_long_timeouts_are_no_trouble(timeout: Any) -> None:
    with load_scorer(ENCODER, timeout=timeout) as scorer:
        assert len(scorer.score("q", ["a"])) == len(asyncio.run(scorer.ascore("q", ["a"]))) == 1
        assert len(scorer.with_timeout(timeout).score("q", ["a"])) == 1
    if isinstance(timeout, int):
        return  # pydantic takes no such number
    reranker = Compressor(model=str(ENCODER), timeout=timeout)
    assert len(reranker.compress_documents([Document("a")], "q")) == 1
    reranker.close()
    assert len(asyncio.run(reranker.acompress_documents([Document("a")], "q"))) == 1
    reranker.close()


@pytest.mark.parametrize("timeout", [math.nan, 0, -1, -math.inf, -(10**400), "5", True, 1j, [1], object()])
def test_what_is_no_time_is_refused(timeout: Any) -> None:
    with pytest.raises(OptionError, match="timeout"):
        load_scorer(ENCODER, timeout=timeout)
    with load_scorer(ENCODER) as scorer, pytest.raises(OptionError, match="timeout"):
        scorer.with_timeout(timeout)
    if timeout in ("5", True):
        return  # pydantic makes numbers of them
    with pytest.raises(ValueError, match="timeout"):
        Compressor(model=str(ENCODER), timeout=timeout)


@pytest.mark.parametrize("folder", [ENCODER, LAYERWISE, LIGHTWEIGHT, CHECKPOINTS / "llm"], ids=lambda path: path.name)
@pytest.mark.parametrize("prompt", ["", None])
def test_the_least_max_length_keeps_the_least_tokens(folder: Any, prompt: str | None) -> None:
    """Never the whole text, which a negative room would mean."""
    options = {} if folder == ENCODER else {"prompt": prompt}
    long, refused = "word " * 6000, []
    with load_scorer(folder) as scorer:
        for length in range(1, 12):
            try:
                short = scorer.with_options(max_length=length, **options)
            except OptionError as error:
                refused.append(str(error))
                continue
            (sequence,) = short._inputs.encode([(long, long)])
            (empty,) = short._inputs.encode([("", "")])
            assert len(sequence.ids) <= length + len(empty.ids) + 2
            assert sequence.truncated
    assert all("max_length=" in error for error in refused)


class Slow:
    """Stands at the door of `load_scorer` until it is let through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started, self.go = threading.Event(), threading.Event()
        real = loading.load_scorer

        def load(*given: Any, **options: Any) -> Scorer:
            self.started.set()
            assert self.go.wait(LONG)
            return real(*given, **options)

        monkeypatch.setattr(loading, "load_scorer", load)


@pytest.mark.parametrize("run", ["thread", "loop"])
def test_an_adapters_timeout_counts_loading(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    reranker = Compressor(model=str(ENCODER), timeout=0.01)
    ways = {
        "thread": lambda: reranker.compress_documents([Document("a")], "q"),
        "loop": lambda: asyncio.run(reranker.acompress_documents([Document("a")], "q")),
    }
    with pytest.raises(Timeout, match=r"was not loaded within 0\.01 s"):
        ways[run]()
    slow.go.set()
    patient = reranker.with_options(timeout=float(LONG))
    assert len(patient.compress_documents([Document("a")], "q")) == 1
    patient.close()
    reranker.close()


async def test_closing_an_adapter_that_loads_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    reranker = Compressor(model=str(ENCODER))
    task = asyncio.create_task(reranker.acompress_documents([Document("a")], "q"))
    await asyncio.to_thread(slow.started.wait, LONG)
    reranker.close()  # in the loop; only after it may loading go on
    slow.go.set()
    with pytest.raises(ClosedError):
        await task
    assert len(await reranker.acompress_documents([Document("a")], "q")) == 1
    reranker.close()


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(), RuntimeError("of a signal"), BaseException("panic")]
)
def test_a_load_that_is_interrupted_is_no_other_callers_affair(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch)
    real, failed = loading.load_scorer, []

    def load(*given: Any, **options: Any) -> Scorer:
        scorer = real(*given, **options)
        if not failed:
            failed.append(scorer)
            scorer.close()
            raise error
        return scorer

    monkeypatch.setattr(loading, "load_scorer", load)
    reranker = Compressor(model=str(ENCODER))
    first = in_thread(reranker.warm_up)
    assert slow.started.wait(LONG)
    others = [in_thread(lambda: reranker.compress_documents([Document("a")], "q")) for _ in range(3)]
    slow.go.set()
    with pytest.raises(type(error)):
        first()
    for other in others:
        assert len(other()) == 1
    reranker.close()


def test_a_load_in_a_thread_that_fails_badly_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rust's panics are no Exceptions: they must not be taken for an interruption, and tried again for ever."""
    tries = []

    def panic(*_: Any, **__: Any) -> Scorer:
        tries.append(1)
        raise BaseException("panicked")

    monkeypatch.setattr(loading, "load_scorer", panic)
    for reranker in (Compressor(model=str(ENCODER), timeout=LONG), Compressor(model=str(ENCODER))):
        with pytest.raises(BaseException, match="panicked"):
            asyncio.run(reranker.acompress_documents([Document("a")], "q"))
        with pytest.raises(BaseException, match="panicked"):
            reranker.warm_up()
    assert len(tries) == 4


async def test_long_texts_of_others_wait_their_turn_to_be_tokenized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Async callers tokenize piece by piece, in a few threads: before a pair comes one piece of each long caller."""
    order: list[str] = []
    encode = inputs.EncoderInputs.encode

    def recorded(self: Any, pairs: Any) -> Any:
        order.append(pairs[0][0])
        return encode(self, pairs)

    monkeypatch.setattr(inputs.EncoderInputs, "encode", recorded)
    long = "long texts " * 3000
    with load_scorer(ENCODER) as scorer:
        bulk = [asyncio.create_task(scorer.ascore(f"bulk {i}", [long] * 200)) for i in range(10)]
        await asyncio.sleep(0)
        assert len(await scorer.ascore("tiny", ["a"])) == 1
        for task in bulk:
            task.cancel()
        await asyncio.gather(*bulk, return_exceptions=True)
    assert order.index("tiny") <= 20


def test_the_clock_is_looked_at_while_long_texts_are_tokenized(monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece ends with the pair that makes it long, and the time is over before the next."""
    pieces: list[tuple[object, int]] = []
    encode = inputs.EncoderInputs.encode
    monkeypatch.setattr(
        inputs.EncoderInputs, "encode", lambda self, pairs: (pieces.append((self, len(pairs))), encode(self, pairs))[1]
    )
    with load_scorer(ENCODER) as scorer:
        scorer.score("q", ["ﷺ" * 300_000] * 2 + ["short"] * 100)
        assert [pairs for asked, pairs in pieces if asked is scorer._inputs] == [1, 1, 64, 36]
        with pytest.raises((Timeout, RerankError)):
            scorer.with_timeout(1e-9).score("q", ["a"] * 5000)


@pytest.mark.parametrize("text", ["ﷺ", " ", "\u200b", "a", "word ", "\u0301", "😀"])
@pytest.mark.parametrize("family", ["encoder", "layerwise"])
def test_what_is_tokenized_of_megabytes_is_bounded(text: str, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = []
    repair = inputs.repair
    monkeypatch.setattr(inputs, "repair", lambda text: (longest.append(len(text)), repair(text))[1])
    with load_scorer(CHECKPOINTS / family) as scorer:
        assert len(scorer.score("q", [text * (3_000_000 // len(text))])) == 1
    assert max(longest) < 2_000_000


@pytest.mark.parametrize("way", ["plain", "progress", "await"])
def test_nothing_is_left_of_a_call(way: str, device: Device) -> None:
    """Its texts and tokens are free at once, not when the garbage collector comes, and so is a scorer."""
    kept: list[weakref.ref[Any]] = []
    scorer = load_scorer(ENCODER)
    device.before = lambda sequences: kept.extend(map(weakref.ref, sequences))
    ways: dict[str, Callable[[Scorer], object]] = {
        "plain": lambda scorer: scorer.score("q", TEXTS),
        "progress": lambda scorer: scorer.score("q", TEXTS, on_progress=lambda *_: None),
        "await": lambda scorer: asyncio.run(scorer.ascore("q", TEXTS)),
    }
    ways[way](scorer)  # what is made once
    kept.clear()
    gc.collect()
    gc.disable()
    try:
        ways[way](scorer)
        device.batches.clear()
        scorer.close()  # by then the worker has put everything away
        assert [one() for one in kept] == [None] * len(kept)
        assert kept
        engine = weakref.ref(scorer._core.engine)
        del scorer
        assert engine() is None
    finally:
        gc.enable()
