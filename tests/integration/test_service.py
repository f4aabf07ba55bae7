"""One scorer under many callers, faults and broken files: every request is answered right or refused, nothing leaks."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.errors import ClosedError, QueueFull, RerankError, Timeout
from bge_rerank_integrations.model.replica import Replica
from tests.conftest import CHECKPOINTS, FAMILIES, Copy, pairs

ENCODER = CHECKPOINTS / "encoder"
LONG = 60  # seconds no test should ever wait


def requests(count: int, seed: int) -> list[tuple[str, list[str]]]:
    """Queries with one to six texts each, drawn from the goldens."""
    draw = random.Random(seed)
    everything = pairs("mixed") + pairs("odd")[:6]
    return [
        (draw.choice(everything)[0], [draw.choice(everything)[1] for _ in range(draw.randint(1, 6))])
        for _ in range(count)
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_threads_and_coroutines_get_the_single_callers_scores(family: str, scorers: Callable[[str], Scorer]) -> None:
    scorer = scorers(family)
    asked = requests(60, seed=1)
    expected = [scorer.score(*one) for one in asked]
    results: dict[int, list[float]] = {}

    def work(thread: int) -> None:
        for i in range(thread, len(asked), 16):
            results[i] = scorer.score(*asked[i])

    async def storm() -> list[list[float]]:
        return await asyncio.gather(*(scorer.ascore(*asked[i % len(asked)]) for i in range(500)))

    with ThreadPoolExecutor(16) as threads:
        running = [threads.submit(work, thread) for thread in range(16)]
        stormed = asyncio.run(storm())
        for one in running:
            one.result(LONG)
    for i, scores in enumerate(expected):
        assert results[i] == pytest.approx(scores, abs=1e-5)
    for i, scores in enumerate(stormed):
        assert scores == pytest.approx(expected[i % len(asked)], abs=1e-5)


class Fault:
    """Makes one stage of the way fail for texts that hold a word."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, when: Callable[..., bool]) -> None:
        original = getattr(owner, name)

        def faulty(*args: Any, **kwargs: Any) -> Any:
            if when(*args):
                raise RuntimeError(f"injected into {name}")
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, faulty)


@pytest.mark.parametrize("stage", ["tokenizer", "forward"])
def test_a_fault_costs_only_the_request_that_has_it(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from bge_rerank_integrations.model import inputs

    with load_scorer(ENCODER, token_budget=16) as scorer:
        asked = requests(40, seed=2)
        expected = [scorer.score(*one) for one in asked]
        poison = "poison " * 40
        (poisoned,) = scorer._inputs.encode([("poison", poison)])
        if stage == "tokenizer":
            Fault(monkeypatch, inputs, "tokenize", lambda _, texts, __: any("poison" in text for text in texts))
        else:
            Fault(monkeypatch, Replica, "run", lambda _, batch, __: any(one.ids == poisoned.ids for one in batch))

        def work(i: int) -> list[float] | str:
            try:
                return scorer.score(*asked[i]) if i % 3 else scorer.score("poison", [poison])
            except RuntimeError as error:
                return str(error)

        with ThreadPoolExecutor(8) as threads:
            results = list(threads.map(work, range(len(asked))))
        for i, result in enumerate(results):
            if i % 3:
                assert result == pytest.approx(expected[i], abs=1e-5)
            else:
                assert "injected" in result
        assert scorer.stats().queued_tokens == 0


def test_out_of_memory_on_the_way_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with load_scorer(ENCODER) as scorer:
        (query, texts), *_ = [("query", [text for _, text in pairs("mixed")])]
        expected = scorer.score(query, texts)
        original = Replica._run

        def small(replica: Replica, sequences: Any, recipe: Any) -> Any:
            if sum(len(sequence.ids) for sequence in sequences) > 600:
                raise torch.OutOfMemoryError("injected")
            return original(replica, sequences, recipe)

        monkeypatch.setattr(Replica, "_run", small)
        assert scorer.score(query, texts) == pytest.approx(expected, abs=1e-5)
        assert scorer.stats().out_of_memory > 0
        assert scorer.stats().token_budget < 2048


class Held:
    """A scorer whose device waits for a word."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started, self.go = threading.Event(), threading.Event()
        original = Replica.run

        def run(replica: Replica, sequences: Any, recipe: Any) -> Any:
            self.started.set()
            assert self.go.wait(LONG)
            return original(replica, sequences, recipe)

        monkeypatch.setattr(Replica, "run", run)


async def test_a_cancelled_caller_takes_nobody_along(one_core: None, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    with load_scorer(ENCODER) as scorer:
        first = asyncio.create_task(scorer.ascore("q", ["first"]))
        await asyncio.to_thread(held.started.wait, LONG)
        gone, stays = (asyncio.create_task(scorer.ascore("q", [text])) for text in ("gone", "stays"))
        while scorer.stats().queued_requests < 2:  # noqa: ASYNC110 - the turns in which the two get queued
            await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        held.go.set()
        assert len(await first) == len(await stays) == 1
        assert scorer.stats().tokens == sum(len(s.ids) for s in scorer._inputs.encode([("q", "first"), ("q", "stays")]))


def test_close_in_mid_flight_answers_everyone(one_core: None, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    scorer = load_scorer(ENCODER)
    with ThreadPoolExecutor(3) as threads:
        running = threads.submit(scorer.score, "q", ["running"])
        assert held.started.wait(LONG)
        waiting = threads.submit(scorer.score, "q", ["waiting"])
        while scorer.stats().queued_requests < 1:
            pass
        closing = threads.submit(scorer.close)
        with pytest.raises(ClosedError):
            waiting.result(LONG)
        held.go.set()
        assert len(running.result(LONG)) == 1
        closing.result(LONG)


def test_back_pressure_and_timeouts_tell_their_numbers(one_core: None, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    with load_scorer(ENCODER, max_queued_tokens=20, timeout=LONG) as scorer, ThreadPoolExecutor(3) as threads:
        short = scorer.with_timeout(0.2)
        first = threads.submit(scorer.score, "q", ["first"])
        assert held.started.wait(LONG)
        second = threads.submit(scorer.score, "q", ["some words that wait " * 3])
        while scorer.stats().queued_requests < 1:
            pass
        with pytest.raises(QueueFull, match=r"queue full: \d+ of 20 tokens after 0\.2 s"):
            short.score("q", ["no room"])
        with pytest.raises(QueueFull, match="max_queued_tokens"):
            asyncio.run(short.ascore("q", ["no room"]))
        held.go.set()
        assert len(first.result(LONG)) == len(second.result(LONG)) == 1
        held.go.clear()
        for late in (short.score, lambda *asked: asyncio.run(short.ascore(*asked))):
            with pytest.raises(Timeout, match=r"not scored within 0\.2 s"):
                late("q", ["admitted, and held up"])
        held.go.set()
        assert len(scorer.score("q", ["room again"])) == 1
        assert isinstance(Timeout("late"), TimeoutError)


def test_the_cache_gives_the_same_scores(encoder: Scorer) -> None:
    texts = [text for _, text in pairs("mixed")]
    with load_scorer(ENCODER, cache_size=1000) as cached:
        for _ in range(3):
            assert cached.score("q", texts) == pytest.approx(encoder.score("q", texts), abs=1e-5)
        assert cached.with_options(max_length=16).score("q", texts) != pytest.approx(
            encoder.score("q", texts), abs=1e-5
        )
        assert cached.stats().cache_hit_rate > 0.4


def resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_soak_of_small_requests_leaks_nothing() -> None:
    with load_scorer(ENCODER) as scorer:

        def work(count: int) -> None:
            for i in range(count):
                scorer.score("q", [f"text {i % 50}"])

        async def storm(count: int) -> None:
            for _ in range(count // 100):
                await asyncio.gather(*(scorer.ascore("q", [f"text {i}"]) for i in range(100)))

        def traffic(count: int) -> None:
            with ThreadPoolExecutor(8) as threads:
                for done in [threads.submit(work, count // 16) for _ in range(8)]:
                    done.result()
            asyncio.run(storm(count // 2))

        for count in range(1, 201):  # oneDNN compiles and keeps a kernel for each size of batch
            scorer.score("q", [f"text {i}" for i in range(count)])
        done = scorer.stats().pairs
        traffic(8_000)
        memory, threads = resident_bytes(), threading.active_count()
        traffic(20_000)
        assert resident_bytes() - memory < 20_000_000
        assert threading.active_count() <= threads
        assert scorer.stats().pairs == done + 28_000
        assert scorer.stats().queued_requests == 0


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to a thread")
def test_ctrl_c_while_a_model_loads_ends_in_good_order() -> None:
    """Loading stops at the next tensor, and Python waits for it: torch aborts where its threads outlive Python."""
    code = """
import signal, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from bge_rerank_integrations import loading
from bge_rerank_integrations.model.families import base
load_weights = base.load_weights
def interrupted(checkpoint, targets, abandoned):
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    assert abandoned.wait(60)
    try:
        load_weights(checkpoint, targets, abandoned)
    finally:
        print("stopped")
base.load_weights = interrupted
loading.load_scorer("demo")
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert finished.stdout == "stopped\n"
    assert finished.stderr.rstrip().endswith("KeyboardInterrupt")
    assert finished.returncode not in (-signal.SIGABRT, -signal.SIGSEGV)


def test_models_that_load_at_the_same_time_do_not_disturb_each_other() -> None:
    asked = pairs("mixed")
    expected = {}
    for family in FAMILIES:
        with load_scorer(CHECKPOINTS / family) as scorer:
            expected[family] = scorer.score_pairs(asked)

    def load_and_score(family: str) -> list[float]:
        with load_scorer(CHECKPOINTS / family) as scorer:
            return scorer.score_pairs(asked)

    with load_scorer(ENCODER) as first, ThreadPoolExecutor(8) as threads:
        families = FAMILIES * 4
        for family, scores in zip(families, threads.map(load_and_score, families), strict=True):
            assert scores == pytest.approx(expected[family], abs=1e-5)
        assert first.score_pairs(asked) == pytest.approx(expected["encoder"], abs=1e-5)


def test_loading_and_closing_leaves_no_threads() -> None:
    before = set(threading.enumerate())
    for family in FAMILIES * 3:
        with load_scorer(CHECKPOINTS / family) as scorer:
            scorer.score("q", ["a"])
            asyncio.run(scorer.ascore("q", ["a"]))
    for thread in set(threading.enumerate()) - before:
        thread.join(LONG)
        assert not thread.is_alive()


def test_exit_with_work_under_way_and_a_scorer_left_open() -> None:
    code = f"""
import threading
from bge_rerank_integrations import load_scorer
scorer = load_scorer({str(ENCODER)!r})
def work():
    try:
        while True:
            scorer.score("q", ["text"] * 3)
    except Exception as error:
        print(type(error).__name__ + "\\n", end="")  # in one piece: Python may end the thread between two
threading.Thread(target=work, daemon=True).start()
scorer.score("q", ["a"])
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0
    assert finished.stdout in ("", "ClosedError\n")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("family", FAMILIES)
def test_flipped_bits_never_crash_or_hang(family: str, file: str, copy: Callable[..., Copy]) -> None:
    """Whatever is flipped: an error of ours, or scores. (A flipped weight that stays finite cannot be told apart.)"""
    path = copy(family).folder / file
    content = path.read_bytes()
    draw = random.Random(5)
    reach = min(len(content), 3000)  # the header of a safetensors file, and where tokenizer.json has its settings
    errors = []
    for _ in range(40):
        broken = bytearray(content)
        for _ in range(draw.randint(1, 4)):
            broken[draw.randrange(reach)] ^= 1 << draw.randrange(8)
        path.write_bytes(broken)
        try:
            with load_scorer(path.parent) as scorer:
                assert len(scorer.score("q", ["a text"])) == 1
        except RerankError as error:
            errors.append(str(error))
    assert errors
    assert all(str(path.parent) in error or "scored" in error or "tokenizer.json" in error for error in errors)
