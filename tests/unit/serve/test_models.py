"""Models by name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bge_rerank_integrations import Scorer, load_scorer
from bge_rerank_integrations.errors import OptionError
from bge_rerank_integrations.serve.models import Models, NotReadyError, State, UnknownModelError
from bge_rerank_integrations.serve.run import is_loopback, named
from tests.conftest import CHECKPOINTS

LONG = 60.0


def test_the_first_is_the_default(encoder: Scorer, scorers: Callable[[str], Scorer]) -> None:
    models = Models({"a": encoder, "b": scorers("llm")})
    assert models.get(None) is models.get("a") is encoder
    assert models.get("b") is scorers("llm")
    with pytest.raises(UnknownModelError, match="model='c' is not here: use one of 'a', 'b'"):
        models.get("c")


def test_one_that_loads_while_it_is_closed_is_closed_too() -> None:
    loading, go = threading.Event(), threading.Event()
    made: list[Scorer] = []

    def load() -> Scorer:
        loading.set()
        go.wait(LONG)
        made.append(load_scorer(CHECKPOINTS / "encoder"))
        return made[0]

    models = Models({"m": load})
    models.start()
    models.start()  # once is enough
    assert loading.wait(LONG)
    assert models.states == {"m": State.LOADING}
    models.close()
    go.set()
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "bge-rerank-load-m")
    thread.join(LONG)
    assert made[0].closed
    assert models.states == {"m": State.CLOSED}
    with pytest.raises(NotReadyError, match="model 'm' is closed"):
        models.get("m")


def test_names(tmp_path: Path) -> None:
    folder = tmp_path / "my=model"
    folder.mkdir()
    assert named(["BAAI/bge-reranker-v2-m3", "short=BAAI/bge-reranker-base", "demo", str(folder)]) == {
        "BAAI/bge-reranker-v2-m3": "BAAI/bge-reranker-v2-m3",
        "short": "BAAI/bge-reranker-base",
        "demo": "demo",
        "my=model": str(folder),
    }
    with pytest.raises(OptionError, match=r"two models are called 'a'.*other=y"):
        named(["a=x", "a=y"])
    for empty in ("=x", "a=", "="):
        with pytest.raises(OptionError, match="give MODEL or NAME=MODEL"):
            named([empty])


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("127.0.0.9", True), ("::1", True), ("localhost", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "192.168.1.2", "example.org", "")],
)
def test_what_other_machines_can_reach(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone
