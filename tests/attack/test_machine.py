"""Random attacks on the engine: submit, cancel, fail, run out of memory, close, end a thread, reload, fork.

Three promises are checked after every step: every call that was accepted ends, nobody gets another's score or error,
and memory, threads and file handles return to where they were. A few hundred steps here; for more:

    python -m tests.attack.test_machine --steps 100000
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bge_rerank_integrations import call as call_module
from bge_rerank_integrations.call import Call
from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.engine.work import DoesNotFit, LayerScores, Recipe, Request, TokenSequence
from bge_rerank_integrations.errors import ClosedError, OutOfMemory, QueueFull, RerankError, Timeout
from bge_rerank_integrations.options import EngineSettings
from bge_rerank_integrations.ranking import Pair

LONG = 60
POISON, EXIT = 13, 14
"""Ids for which the runner raises an error, and a SystemExit."""
MEMORY = 40
"""Tokens at once for which there is memory while there is little."""
STEPS = count()


class Runner:
    """Scores a sequence by the sum of its ids and its layer; fails where it holds poison or memory is short."""

    def __init__(self, machine: Attacks, workers: int, shares: int) -> None:
        self.machine = machine
        self.workers = workers
        self.shares = min(shares, workers)
        self.fused = ()

    def enter(self) -> None:
        pass

    def token_budget(self) -> int:
        return 64

    def run(self, sequences: Sequence[TokenSequence], recipe: Recipe) -> list[LayerScores]:
        assert self.machine.go.wait(LONG)
        if self.machine.memory < sum(len(sequence.ids) for sequence in sequences):
            raise DoesNotFit("little memory")
        for sequence in sequences:
            if POISON in sequence.ids:
                raise ValueError(f"poison in {sequence.ids}")
            if EXIT in sequence.ids:
                raise SystemExit(f"exit in {sequence.ids}")
        return [[score(sequence.ids, recipe)] for sequence in sequences]

    def run_whole(self, sequences: Sequence[TokenSequence], recipe: Recipe) -> list[LayerScores]:
        return self.run(sequences, recipe)

    def leave(self) -> None:
        pass


class Letters:
    """Pairs as ids: those of the text's letters."""

    def encode(self, pairs: Sequence[Pair]) -> list[TokenSequence]:
        return [TokenSequence(ids, (0, len(ids))) for _, text in pairs if (ids := [ord(letter) for letter in text])]


def score(ids: Sequence[int], recipe: Recipe) -> float:
    return float(sum(ids) + 1000 * sum(recipe.cutoffs))


def progress_of(texts: int) -> Callable[[int, int], None]:
    """What checks that it is told of ever more texts."""
    last = 0

    def told(done: int, total: int) -> None:
        nonlocal last
        assert last < done <= total == texts
        last = done

    return told


async def others() -> int:
    """How many tasks this loop has besides this one."""
    return len(asyncio.all_tasks()) - 1


class Asked:
    """Something that was accepted, and what it must come to."""

    def __init__(self, ids: list[list[int]], recipe: Recipe, future: Future[Any], hurried: bool = False) -> None:
        self.ids, self.recipe, self.future, self.hurried = ids, recipe, future, hurried
        self.stopped = False
        """Whether it was cancelled, or its engine closed, so that it may have ended before its time."""

    def check(self) -> None:
        """Once it has ended: with its own scores, or an error that it brought about."""
        try:
            scores = self.future.result(LONG)
        except (CancelledError, asyncio.CancelledError, ClosedError):
            assert self.stopped, "ended though nobody stopped it"
        except (QueueFull, Timeout):
            assert self.hurried, "no timeout was set"
        except OutOfMemory:
            assert max(map(len, self.ids)) > MEMORY
        except (ValueError, RerankError) as error:
            own = [f"in {ids}" for ids in self.ids if POISON in ids or EXIT in ids]
            if not str(error).endswith(tuple(own)) or not own:
                raise AssertionError("another's error") from error
        else:
            assert scores == [[score(ids, self.recipe)] for ids in self.ids]
            assert not any(POISON in ids or EXIT in ids for ids in self.ids)


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("bge-rerank") and thread.is_alive()}


def handles() -> int:
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0


IDS = st.one_of(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sampled_from([[1], [POISON], [2, EXIT], [3] * 30, [4] * (MEMORY + 1)]),
)
SEVERAL = st.lists(IDS, min_size=1, max_size=12)
RECIPES = st.sampled_from([Recipe(), Recipe((1,)), Recipe((2,))])


class Attacks(RuleBasedStateMachine):
    """One engine after the other, and everything that was ever asked of them."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.go.set()
        self.memory = 10**9
        self.engine: Engine | None = None
        self.asked: list[Asked] = []
        self.callers = [object() for _ in range(3)]
        self.threads, self.handles = threads(), 0
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda *_: None)  # of tasks that end in errors after they were cancelled
        self.looping = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.looping.start()
        self.pool = ThreadPoolExecutor(12)

    @initialize(
        devices=st.integers(1, 2),
        workers=st.integers(1, 3),
        shares=st.sampled_from([1, 3]),
        cache=st.sampled_from([0, 8]),
        limit=st.sampled_from([20, 200, 10**6]),
    )
    def load(self, devices: int, workers: int, shares: int, cache: int, limit: int) -> None:
        self.handles = handles()
        self.settings = EngineSettings(
            token_budget=64, cache_size=cache, max_queued_tokens=limit, on_batch=lambda _: 1 // 0
        )
        self.makers = [lambda: Runner(self, workers, shares) for _ in range(devices)]
        self.engine = Engine(self.makers, self.settings)

    @rule(ids=SEVERAL, recipe=RECIPES, caller=st.integers(0, 5))
    def submit(self, ids: list[list[int]], recipe: Recipe, caller: int) -> None:
        """A request by itself, of an old caller or a new one."""
        assert self.engine is not None
        sequences = [TokenSequence(one, (0, len(one))) for one in ids]
        who = {} if caller > 2 else {"caller": self.callers[caller]}
        request = Request(sequences, recipe, **who)
        try:
            self.engine.submit(request)
        except ClosedError:
            assert self.engine.closed
            return
        self.asked.append(Asked(ids, recipe, request.future))

    @rule(
        ids=SEVERAL, recipe=RECIPES, times=st.integers(1, 4), awaits=st.booleans(),
        timeout=st.sampled_from([None, None, 1e-9, 1e-3, 1e9]), watched=st.booleans(),
    )  # fmt: skip
    def call(
        self,
        ids: list[list[int]],
        recipe: Recipe,
        times: int,
        awaits: bool,
        timeout: float | None,
        watched: bool,
    ) -> None:
        """A whole call, in a thread or in an event loop."""
        assert self.engine is not None
        if len([one for one in self.asked if not one.future.done()]) > 10:
            return  # the pool has no thread for it, as long as the device is held
        ids = ids * times
        pairs = [("", "".join(map(chr, one))) for one in ids]
        try:
            made = Call(self.engine, Letters(), recipe, pairs, timeout)
        except ClosedError:
            assert self.engine.closed
            return
        future: Future[Any]
        if awaits:
            future = asyncio.run_coroutine_threadsafe(made.ascores(), self.loop)
        else:
            future = self.pool.submit(made.scores, progress_of(len(ids)) if watched else None)
        hurried = timeout is not None and timeout < 1
        self.asked.append(Asked(ids, recipe, future, hurried))

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0, 100))
    def cancel(self, which: int) -> None:
        one = self.asked[which % len(self.asked)]
        one.stopped = True
        one.future.cancel()

    @rule()
    def hold(self) -> None:
        self.go.clear()

    @rule()
    def release(self) -> None:
        self.go.set()

    @rule(memory=st.sampled_from([MEMORY, 10**9]))
    def remember(self, memory: int) -> None:
        self.memory = memory

    @rule()
    def fork(self) -> None:
        """As a forked process sees the engine: refused, and left alone."""
        assert self.engine is not None
        process = self.engine._process
        self.engine._process = -1
        try:
            with pytest.raises(ClosedError, match="after the fork"):
                self.engine.check_open()
        finally:
            self.engine._process = process

    @rule(how=st.sampled_from(["close", "end a thread", "drop"]))
    def reload(self, how: str) -> None:
        assert self.engine is not None
        self.stop()
        if how == "end a thread":
            self.end_a_thread(self.engine)
        self.go.set()
        engine, self.engine = self.engine, None
        if how == "drop":
            self.wait()  # a call has its engine as long as it runs
            gc.collect()
        else:
            engine.close()
            assert engine.closed
            self.wait()
            self.settled(engine)
        tokenizing = engine._tokenizing
        del engine
        self.gone(tokenizing)
        self.engine = Engine(self.makers, self.settings)

    def gone(self, tokenizing: Executor) -> None:
        """What is left of an engine when nobody has it: nothing, once whatever was cancelled has found out."""
        tokenizing.shutdown(wait=True)
        while asyncio.run_coroutine_threadsafe(others(), self.loop).result(LONG):
            pass
        for _ in range(100 * LONG):
            left = threads() - self.threads
            if not left:
                break
            for thread in left:
                thread.join(0.01)
            gc.collect()  # an error that a call has just raised may hold its engine until then
        assert not left

    def end_a_thread(self, engine: Engine) -> None:
        """With whatever batch comes next in its hands, if one does."""

        def end(*_: object) -> None:
            raise MemoryError("the end")

        engine.workers[0]._serve = end  # type: ignore[method-assign]

    @invariant()
    def promises(self) -> None:
        next(STEPS)
        if self.go.is_set():
            self.wait()
            if self.engine is not None:
                self.settled(self.engine)
            assert len(threads() - self.threads) <= 2 * 3 + 4 + 1  # workers, tokenizers, hook
        else:
            for one in self.asked:
                if one.future.done():
                    one.check()
        if self.engine is not None:
            assert self.engine.queued_tokens >= 0
            assert all(tokens >= 0 for tokens in self.engine._queue._inside)

    def stop(self) -> None:
        """What is asked may end before its time from now on."""
        for one in self.asked:
            one.stopped = True

    def wait(self) -> None:
        for one in self.asked:
            one.check()
        self.asked.clear()

    def settled(self, engine: Engine) -> None:
        """Nothing is left of what was asked, once whoever was just told or cancelled has put it away."""
        queue = engine._queue

        def empty() -> bool:
            return queue.tokens == len(queue) == len(queue._unsettled) == len(queue._outside) == 0

        for _ in range(1000 * LONG):
            if empty():
                break
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.loop).result(LONG)  # a turn of the loop
        assert empty()
        assert len(queue._by_size) < 100

    def teardown(self) -> None:
        self.go.set()
        self.stop()
        if self.engine is not None:
            engine, self.engine = self.engine, None
            engine.close()
            self.wait()
            assert engine._cache is None or not engine._cache._running
            assert not engine._busy
            tokenizing = engine._tokenizing
            del engine
            self.gone(tokenizing)
        self.pool.shutdown()
        assert handles() <= self.handles
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.looping.join(LONG)
        self.loop.close()


def attack(examples: int, steps: int) -> None:
    """Run so many attacks of so many steps each, with small chunks and pieces, so that every call has several."""
    gc.collect()
    gc.freeze()  # what is there already, torch above all, is no garbage: collections are quick
    sizes = call_module.CHUNK, call_module.PIECE
    call_module.CHUNK, call_module.PIECE = 8, 3
    try:
        run_state_machine_as_test(
            Attacks,
            settings=hypothesis.settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                phases=[Phase.generate],  # threads do not do the same twice: there is nothing to make smaller
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        call_module.CHUNK, call_module.PIECE = sizes
        gc.unfreeze()


def test_random_attacks() -> None:
    attack(examples=15, steps=20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    wanted: int = parser.parse_args().steps
    done = 0
    while done < wanted:
        attack(examples=50, steps=100)
        done = next(STEPS)
        print(f"{done} steps, {len(threads())} threads, {handles()} handles", flush=True)


if __name__ == "__main__":
    main()
