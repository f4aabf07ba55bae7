"""The models of a replica: which are loaded, and which requests they finish before they go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from bge_rerank_integrations.dataset.runner import Model
from bge_rerank_integrations.errors import CheckpointError
from bge_rerank_integrations.ray.models import Held, Multiplexed
from bge_rerank_integrations.serve.models import State, UnknownModelError
from tests.conftest import CHECKPOINTS
from tests.ray_serve import serving

NAMES = ("a", "b", "c")
LONG = 60.0
"""Seconds: more than anything here takes."""


@pytest.fixture(scope="module", autouse=True)
def address() -> Iterator[str]:
    """A Ray that ends with this file: `serve.multiplexed` would start one that stays."""
    with serving(cpus=2) as address:
        yield address


@pytest.fixture(autouse=True)
def in_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    """`serve.multiplexed` asks where it is, to tell Ray's controller what is loaded there."""
    here = SimpleNamespace(app_name="rerank", deployment="rerank", replica_id="one")
    monkeypatch.setattr("ray.serve.multiplex._get_internal_replica_context", lambda: here)


def models(most: int) -> Multiplexed:
    return Multiplexed({name: Model(str(CHECKPOINTS / "encoder")) for name in NAMES}, most, None)


def ready(some: Multiplexed) -> set[str]:
    return {name for name, state in some.states.items() if state is State.READY}


async def test_the_first_are_loaded_and_the_least_used_makes_room(loads: Any) -> None:
    some = models(2)
    await some.preload()
    assert ready(some) == {"a", "b"}
    async with some.using("c"):  # "b" was loaded before "a"
        assert ready(some) == {"a", "c"}
    async with some.using(None) as first, some.using("a") as again:
        assert first is again
    async with some.using("b"):
        assert ready(some) == {"a", "b"}
    assert [scorer.closed for scorer in loads.scorers] == [True, False, True, False]
    some.close()
    assert all(scorer.closed for scorer in loads.scorers)
    assert set(some.states.values()) == {State.CLOSED, State.UNLOADED}


async def test_what_makes_room_finishes_its_requests_first(loads: Any) -> None:
    some = models(1)
    await some.preload()
    async with some.using("a") as scorer:
        other = asyncio.ensure_future(used(some, "b"))
        await until(lambda: not ready(some))  # "a" is on its way out
        assert await scorer.ascore("q", ["text"]) == scorer.score("q", ["text"])
        assert not other.done()
        assert len(loads.scorers) == 1  # never two at a time
    assert await other == {"b"}
    assert [scorer.closed for scorer in loads.scorers] == [True, False]
    some.close()


async def test_a_cancelled_request_loses_no_model(loads: Any, gate: Any) -> None:
    some = models(1)
    loads.before = gate
    asking = asyncio.ensure_future(used(some, "a"))
    await until(lambda: gate.reached)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    gate.open()
    assert await used(some, "a") == {"a"}
    assert len(loads.scorers) == 1
    some.close()


async def test_many_requests_for_more_models_than_there_is_room(loads: Any) -> None:
    some = models(1)

    async def ask(number: int) -> list[float]:
        async with some.using(NAMES[number % 3]) as scorer:
            return await scorer.ascore("q", ["text", "another"])

    answers = await asyncio.gather(*(ask(number) for number in range(60)))
    assert len(answers) == 60
    assert all(answer == pytest.approx(answers[0], abs=1e-5) for answer in answers)
    some.close()


async def test_names_and_models_that_cannot_be(tmp_path: Any) -> None:
    some = Multiplexed({"a": Model(str(tmp_path))}, 1, None)
    with pytest.raises(UnknownModelError, match="model='z' is not here: use one of 'a'"):
        await used(some, "z")
    for _ in range(2):
        with pytest.raises(CheckpointError):
            await used(some, "a")
    assert some.states == {"a": State.UNLOADED}


def test_one_that_is_gone_cannot_be_taken(encoder_held: Held) -> None:
    assert encoder_held.take()
    encoder_held.give_back()
    encoder_held.__del__()
    encoder_held.__del__()
    assert not encoder_held.take()


@pytest.fixture
def encoder_held(loads: Any) -> Held:
    return Held(loads(str(CHECKPOINTS / "encoder")))


async def used(some: Multiplexed, name: str) -> set[str]:
    async with some.using(name):
        return ready(some)


async def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0)
