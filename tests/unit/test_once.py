"""What is worked out once."""

from __future__ import annotations

import threading
from pathlib import Path

import bge_rerank_integrations
from bge_rerank_integrations.once import once

LONG = 60


class Slow:
    """An object whose value takes until it is told."""

    def __init__(self) -> None:
        self.calls = 0
        self.go, self.started = threading.Event(), threading.Event()

    @once
    def value(self) -> int:
        """What it is."""
        self.calls += 1
        self.started.set()
        assert self.go.wait(LONG)
        return self.calls


def test_it_is_worked_out_once_for_each_object() -> None:
    some, other = Slow(), Slow()
    for one in (some, other, some):
        one.go.set()
        assert one.value == 1
    assert Slow.value.__doc__ == "What it is."


def test_no_object_waits_for_another() -> None:
    """A fork would wait for ever for what another thread of its parent works out."""
    slow, quick = Slow(), Slow()
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    assert slow.started.wait(LONG)
    quick.go.set()
    found = []
    asking = threading.Thread(target=lambda: found.append(quick.value), daemon=True)
    asking.start()
    asking.join(LONG)
    slow.go.set()
    thread.join(LONG)
    assert found == [1]


def test_nothing_uses_the_property_with_a_lock() -> None:
    folder = Path(bge_rerank_integrations.__file__).parent
    users = [path for path in folder.rglob("*.py") if "import cached_property" in path.read_text(encoding="utf-8")]
    assert users == []
