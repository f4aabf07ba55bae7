"""Attacks: what must neither end a scorer nor cost anyone else a score. No test here waits for a clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bge_rerank_integrations.engine.work import TokenSequence
from bge_rerank_integrations.model.replica import Replica
from tests.conftest import CHECKPOINTS
from tests.unit.engine.conftest import LONG, engine_of, replica

__all__ = ["engine_of", "replica"]  # the engine over a runner that the test controls

ENCODER = CHECKPOINTS / "encoder"
LAYERWISE = CHECKPOINTS / "layerwise"
LIGHTWEIGHT = CHECKPOINTS / "lightweight"


class Device:
    """Stands before every replica's `run`: a test holds it back, makes it fail, and sees what it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[list[TokenSequence]] = []
        self.started = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.before: Callable[[list[TokenSequence]], object] = lambda sequences: None
        real = Replica.run

        def run(replica: Replica, sequences: Any, recipe: Any) -> Any:
            self.batches.append(list(sequences))
            self.started.set()
            assert self.go.wait(LONG)
            self.before(list(sequences))
            return real(replica, sequences, recipe)

        monkeypatch.setattr(Replica, "run", run)

    def hold(self) -> None:
        self.started.clear()
        self.go.clear()


@pytest.fixture
def device(one_core: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    found = Device(monkeypatch)
    yield found
    found.go.set()


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start work in a thread; what comes back waits for its result, or raises what it raised."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((work(), None))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is asked for
            outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> Any:
        thread.join(LONG)
        assert outcome, "it hangs"
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    return result
