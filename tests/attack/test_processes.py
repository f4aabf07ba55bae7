"""Forks and signals. Children have a watchdog: they are killed where they hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bge_rerank_integrations import load_scorer
from bge_rerank_integrations.errors import CheckpointError, RerankError
from bge_rerank_integrations.model import inputs
from bge_rerank_integrations.model.tokenizer_errors import tokenizer_errors
from tests.attack.conftest import ENCODER, Device

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals")

BEGINNING = f"""
import asyncio, os, signal, sys, threading
from langchain_core.documents import Document
from bge_rerank_integrations import load_scorer, loading
from bge_rerank_integrations.errors import ClosedError
from bge_rerank_integrations.langchain import BGERerank
FOLDER = {str(ENCODER)!r}
reranker = BGERerank(model=FOLDER)
def use():
    assert len(reranker.compress_documents([Document("a")], "q")) == 1
def ause():
    assert len(asyncio.run(reranker.acompress_documents([Document("a")], "q"))) == 1
def fork(*in_the_child):
    "Fork, do something in the child and let it end as programs do; its watchdog kills it where it hangs."
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        assert status == 0, status
        return
    signal.alarm(100)
    for one in in_the_child:
        one()
    sys.exit()
"""


def run(code: str) -> None:
    finished = subprocess.run([sys.executable, "-c", BEGINNING + code], capture_output=True, text=True, timeout=200)
    assert finished.returncode == 0, finished.stderr


def test_a_fork_after_an_async_adapter_was_used_and_closed() -> None:
    run("ause(); reranker.close(); fork(ause, use)")


def test_a_fork_while_an_adapter_is_open_and_used_in_both() -> None:
    run("ause(); fork(use, ause, reranker.close, use); use(); ause()")


def test_a_fork_while_a_scorer_is_open() -> None:
    run("""
scorer = load_scorer(FOLDER)
asyncio.run(scorer.ascore("q", ["a"]))
def refused():
    for call in (lambda: scorer.score("q", ["a"]), lambda: asyncio.run(scorer.ascore("q", ["a"]))):
        try:
            call()
        except ClosedError as error:
            assert "after the fork" in str(error)
        else:
            raise AssertionError
    scorer.close()
    with load_scorer(FOLDER) as own:
        own.score("q", ["a"])
fork(refused)
scorer.score("q", ["a"])
""")


def test_a_fork_while_another_thread_loads() -> None:
    run("""
parent, started, go, real = os.getpid(), threading.Event(), threading.Event(), loading.load_scorer
def slow(*given, **options):
    if os.getpid() == parent:
        started.set()
        assert go.wait(100)
    return real(*given, **options)
loading.load_scorer = slow
loads = threading.Thread(target=reranker.warm_up)
loads.start()
started.wait()
fork(use, ause, reranker.close)
go.set()
loads.join()
use()
""")


def test_a_fork_at_the_moment_of_a_lock() -> None:
    """Of every lock that an adapter has, held by a thread that the child does not have."""
    run("""
use()
lazy = reranker._lazy
held, go = threading.Event(), threading.Event()
def hold():
    with lazy._lock, lazy._model._lock:
        held.set()
        assert go.wait(100)
thread = threading.Thread(target=hold)
thread.start()
held.wait()
def other_model():
    reranker.max_length = 64
    reranker.dtype = "bfloat16"
    use()
fork(use, other_model, ause, reranker.close)
go.set()
thread.join()
""")


class SoftTimeLimit(Exception):
    """As Celery raises it in a signal's handler."""


@pytest.fixture
def on_signal() -> Iterator[Any]:
    """Set what SIGUSR1 does."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda handler: signal.signal(signal.SIGUSR1, handler)
    signal.signal(signal.SIGUSR1, before)


def raise_limit(*_: Any) -> None:
    raise SoftTimeLimit("over")


def test_what_a_signal_raises_while_a_tokenizer_works_passes(on_signal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    on_signal(raise_limit)
    with load_scorer(ENCODER) as scorer:
        monkeypatch.setattr(inputs, "repair", lambda text: signal.raise_signal(signal.SIGUSR1))
        with pytest.raises(SoftTimeLimit):
            scorer.score("q", ["a"])
        monkeypatch.undo()
        assert len(scorer.score("q", ["a"])) == 1


@pytest.mark.parametrize("error", [SoftTimeLimit(), KeyboardInterrupt(), SystemExit(), TimeoutError(), MemoryError()])
def test_only_tokenizers_own_errors_are_the_checkpoints(error: BaseException) -> None:
    with pytest.raises(type(error)) as told, tokenizer_errors("x"):
        raise error
    assert told.value is error


def test_tokenizers_own_errors_are_told_as_ours() -> None:
    panic = type("PanicException", (BaseException,), {})
    for error in (Exception("a plain one"), panic("a panic")):
        with pytest.raises(CheckpointError, match="x: a p"), tokenizer_errors("x"):
            raise error


def test_what_a_signal_raises_while_scores_are_awaited_passes(on_signal: Any, device: Device) -> None:
    on_signal(raise_limit)
    main = threading.main_thread().ident
    assert main is not None
    with load_scorer(ENCODER) as scorer:
        device.before = lambda _: signal.pthread_kill(main, signal.SIGUSR1)
        with pytest.raises(SoftTimeLimit):  # noqa: PT012 - it may come as soon as the scores do
            for _ in range(1000):
                scorer.score("q", ["a"])
        device.before = lambda _: None
        assert len(scorer.score("q", ["a"])) == 1
        assert scorer.stats().queued_requests == 0


def test_a_handler_may_not_call_into_a_call_that_it_interrupts(on_signal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = []
    repair = inputs.repair

    def interrupted(text: str) -> str:
        signal.raise_signal(signal.SIGUSR1)
        return repair(text)

    def handler(*_: Any) -> None:
        try:
            answers.append(scorer.score("q", ["from the handler"]))
        except RerankError as error:
            answers.append(str(error))

    on_signal(handler)
    with load_scorer(ENCODER) as scorer:
        signal.raise_signal(signal.SIGUSR1)  # in no call: it may
        assert len(answers.pop()) == 1
        monkeypatch.setattr(inputs, "repair", interrupted)
        assert len(scorer.score("q", ["a"])) == 1
        assert all("set a flag, and call the scorer later" in answer for answer in answers)
        assert answers


def test_nothing_is_needed_of_a_temporary_directory() -> None:
    """A read-only file system: torch._dynamo would make a folder there, and takes most of a second."""
    code = f"""
import sys, tempfile
def nowhere(*_, **__):
    raise FileNotFoundError("no usable temporary directory")
for name in ("gettempdir", "_get_default_tempdir", "mkdtemp", "mkstemp", "TemporaryDirectory"):
    setattr(tempfile, name, nowhere)
from bge_rerank_integrations import load_scorer
for model in ("demo", "demo-layerwise", "demo-lightweight", {str(ENCODER.parent / "llm")!r}):
    for dtype in ("float32", "int8", "bfloat16"):
        with load_scorer(model, dtype=dtype) as scorer:
            assert len(scorer.score("q", ["a", "b"])) == 2
with load_scorer("demo-layerwise", cutoff_layer=scorer.cutoff_layers[0] if scorer.cutoff_layers else None) as scorer:
    scorer.score_layers([("q", "a")], [scorer.cutoff_layers[-1]])
print([name for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor"))])
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == "[]\n"
