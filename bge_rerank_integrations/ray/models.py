"""The models of a replica of Ray Serve: each is loaded when it is asked for, and so many stay loaded at a time.

`ray.serve.multiplexed` keeps them: it loads one model at a time, lets the one go that was not used for longest, and
tells Ray's proxies which a replica has.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from bge_rerank_integrations.dataset.runner import Model
from bge_rerank_integrations.protocol import ScorerProtocol
from bge_rerank_integrations.serve.models import State, UnknownModelError


class Held:
    """A scorer that is closed as soon as it is to go and no request uses it."""

    def __init__(self, scorer: ScorerProtocol) -> None:
        self.scorer = scorer
        self._users = 0
        self._leaving = False
        self._changed = threading.Condition()

    @property
    def leaving(self) -> bool:
        """Whether it takes no new request."""
        return self._leaving

    def take(self) -> bool:
        """Begin to use it; False: it is too late for that."""
        with self._changed:
            if self._leaving:
                return False
            self._users += 1
            return True

    def give_back(self) -> None:
        """End what `take` began."""
        with self._changed:
            self._users -= 1
            self._changed.notify_all()

    def __del__(self) -> None:
        """Wait for its requests, then close it: what Ray calls, in a thread, before it loads another model instead."""
        with self._changed:
            self._leaving = True
            self._changed.wait_for(lambda: self._users == 0)
        self.scorer.close()


class Multiplexed:
    """`serve.models.Served` inside a replica. To be used in one event loop."""

    def __init__(self, models: Mapping[str, Model], most: int, devices: list[str] | None) -> None:
        """
        Args:
            models: by name, the default first.
            most: how many may be loaded at a time.
            devices: of each; None: the first that the replica sees.
        """
        from ray import serve

        self._models = models
        self._most = most
        self._devices = devices
        self._held: dict[str, Held] = {}

        async def load(name: str) -> Held:  # Ray keeps what it knows at the function, which a method cannot have
            return await self._load(name)

        self._kept: Callable[[str], Awaitable[Held]] = serve.multiplexed(max_num_models_per_replica=most)(load)

    @property
    def names(self) -> list[str]:
        return list(self._models)

    @property
    def states(self) -> dict[str, State]:
        loaded = self.loaded()
        return {name: _state(loaded.get(name)) for name in self._models}

    def start(self) -> None:
        """Nothing: `preload` is for before the application begins."""

    async def preload(self) -> None:
        """Load as many as may be there, the default last, so that it is the last to go. Raises as `load_scorer`."""
        for name in reversed(self.names[: self._most]):
            await self._kept(name)

    @asynccontextmanager
    async def using(self, name: str | None) -> AsyncIterator[ScorerProtocol]:
        """The scorer of that name, loaded if it has to be. Raises UnknownModelError, and as `load_scorer`."""
        name = self.names[0] if name is None else name
        if name not in self._models:
            raise UnknownModelError(name, self.names)
        held = await self._taken(name)
        try:
            yield held.scorer
        finally:
            held.give_back()

    def loaded(self) -> dict[str, ScorerProtocol]:
        return {name: held.scorer for name, held in self._held.items() if not held.leaving}

    def close(self) -> None:
        """At once: what still waits for scores is refused. May be called twice."""
        for held in self._held.values():
            held.scorer.close()

    async def _taken(self, name: str) -> Held:
        while True:
            # a load goes on where its request is cancelled: a thread cannot be stopped, and its scorer would be lost
            held = await asyncio.shield(asyncio.ensure_future(self._kept(name)))
            if held.take():
                return held

    async def _load(self, name: str) -> Held:
        from bge_rerank_integrations.loading import load_scorer

        arguments = self._models[name].arguments()
        held = Held(await asyncio.to_thread(load_scorer, devices=self._devices, **arguments))
        stay = {other: one for other, one in self._held.items() if not one.leaving}
        self._held = {**stay, name: held}
        return held


def _state(scorer: ScorerProtocol | None) -> State:
    if scorer is None:
        return State.UNLOADED
    return State.CLOSED if getattr(scorer, "closed", False) else State.READY
