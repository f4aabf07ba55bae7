"""A moment without memory: batches become smaller, and larger again, one step at a time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.engine.engine import Engine
from bge_rerank_integrations.engine.queue import BATCHES_TO_RECOVER, Queue
from bge_rerank_integrations.engine.work import TokenSequence
from bge_rerank_integrations.errors import OutOfMemory
from bge_rerank_integrations.model.replica import Replica, is_out_of_memory
from tests.attack.conftest import ENCODER
from tests.unit.engine.conftest import LONG, Adder, submit

WORDS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    RuntimeError("std::bad_alloc"),
    MemoryError(),
]


@pytest.mark.parametrize("error", WORDS, ids=str)
def test_out_of_memory_is_known_by_its_words(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Replica._run

    def small(replica: Replica, sequences: list[TokenSequence], recipe: object) -> object:
        if sum(len(one.ids) for one in sequences) > 100:
            raise error
        return run(replica, sequences, recipe)  # type: ignore[arg-type]

    texts = [f"text number {i}" for i in range(60)]
    with load_scorer(ENCODER) as scorer:
        expected = scorer.score("q", texts)
        monkeypatch.setattr(Replica, "_run", small)
        assert scorer.score("q", texts) == pytest.approx(expected, abs=1e-5)
        assert scorer.stats().token_budget <= 100
        with pytest.raises(OutOfMemory, match="lower max_length"):
            scorer.score("q", ["one long text " * 100])
        assert len(scorer.score("q", ["a"])) == 1


def test_other_errors_are_no_lack_of_memory() -> None:
    for error in (RuntimeError("shapes do not match"), ValueError("x"), IndexError("index out of range in self")):
        assert not is_out_of_memory(error)


def test_a_moment_without_memory_is_over_after_some_batches(engine_of: Callable[..., Engine], replica: Adder) -> None:
    engine = engine_of(token_budget=2048)
    replica.memory = 16
    submit(engine, *[[1]] * 2048).future.result(LONG)
    assert engine.stats().token_budget == 16
    replica.memory = 10**9
    budgets = []
    for _ in range(8 * BATCHES_TO_RECOVER):
        submit(engine, [1]).future.result(LONG)
        budgets.append(engine.stats().token_budget)
    assert budgets[-1] == 2048
    steps = [(before, after) for before, after in pairwise(budgets) if before != after]
    assert all(after == 2 * before for before, after in steps)


def test_what_fails_again_and_again_is_tried_less_and_less_often() -> None:
    queue = Queue(1024, 10**6)
    batches_between = []
    for _ in range(6):
        queue.shrink(1024)
        batches = 0
        while queue.token_budget < 1024:
            queue.fitted()
            batches += 1
        batches_between.append(batches)
    assert batches_between == [16, 32, 64, 128, 256, 512]
    for _ in range(512):
        queue.fitted()
    queue.shrink(1024)
    for _ in range(BATCHES_TO_RECOVER):
        queue.fitted()
    assert queue.token_budget == 1024  # a budget that held is trusted again
