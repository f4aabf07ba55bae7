"""The models of a server by name: loaded beside each other in threads, while the server already tells how far it is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import Enum
from typing import Protocol

from bge_rerank_integrations.errors import ClosedError, OptionError, RerankError
from bge_rerank_integrations.protocol import ScorerProtocol, missing_methods
from bge_rerank_integrations.ranking import describe

logger = logging.getLogger(__name__)

Loader = Callable[[], ScorerProtocol]
"""Makes a scorer; called once, in a thread of its own."""


class State(str, Enum):
    """What a model can do now, the worst last."""

    READY = "ready"
    UNLOADED = "unloaded"  # it is loaded when it is asked for
    LOADING = "loading"
    CLOSED = "closed"
    FAILED = "failed"


class UnknownModelError(LookupError):
    """The server has no model of that name."""

    def __init__(self, name: str, names: Iterable[str]) -> None:
        super().__init__(f"model={name!r} is not here: use one of {', '.join(map(repr, names))}")


class NotReadyError(ClosedError):
    """The model is loading, closed, or could not be loaded."""


class Served(Protocol):
    """What the application asks of its models."""

    @property
    def names(self) -> list[str]:
        """What `model` of a request may be; the first is meant where a request names none."""

    @property
    def states(self) -> dict[str, State]:
        """How far each model is."""

    def start(self) -> None:
        """The application begins. Returns at once."""

    def using(self, name: str | None) -> AbstractAsyncContextManager[ScorerProtocol]:
        """The scorer of that name, or the first; nobody but its owner closes it meanwhile.

        Raises:
            UnknownModelError: names the models there are.
            NotReadyError: says what it is instead of ready.
        """

    def loaded(self) -> dict[str, ScorerProtocol]:
        """Those that are ready."""

    def close(self) -> None:
        """The application ends. May be called twice."""


class Models:
    """Scorers by name, all of them there from the beginning. Any number of threads may use it."""

    def __init__(self, sources: Mapping[str, ScorerProtocol | Loader]) -> None:
        """
        Args:
            sources: for each name a scorer, which stays its owner's to close, or what makes one, which is closed here.
        """
        if not sources:
            raise OptionError("no model: give at least one")
        self._models = {name: _Model(name, source) for name, source in sources.items()}

    @property
    def names(self) -> list[str]:
        return list(self._models)

    @property
    def states(self) -> dict[str, State]:
        """How far each model is."""
        return {name: model.state for name, model in self._models.items()}

    def start(self) -> None:
        """Begin to load what is not loaded. Returns at once."""
        for model in self._models.values():
            model.start()

    def get(self, name: str | None) -> ScorerProtocol:
        """The scorer of that name, or the first.

        Raises:
            UnknownModelError: names the models there are.
            NotReadyError: says what it is instead of ready.
        """
        model = self._models.get(self.names[0] if name is None else name)
        if model is None:
            raise UnknownModelError(str(name), self.names)
        if model.scorer is None or model.state is not State.READY:
            raise NotReadyError(f"model {model.name!r} is {model.state.value}")
        return model.scorer

    @asynccontextmanager
    async def using(self, name: str | None) -> AsyncIterator[ScorerProtocol]:
        """As `get`."""
        yield self.get(name)

    def loaded(self) -> dict[str, ScorerProtocol]:
        """Those that are ready."""
        return {
            name: model.scorer
            for name, model in self._models.items()
            if model.scorer is not None and model.state is State.READY
        }

    def close(self) -> None:
        """Close what was loaded here, and what still loads as soon as it is there. Closing twice is fine."""
        for model in self._models.values():
            model.close()


class _Model:
    """One of them."""

    def __init__(self, name: str, source: ScorerProtocol | Loader) -> None:
        self.name = name
        self.scorer: ScorerProtocol | None = None
        self._load: Loader | None = None
        self._started = self._closed = self._failed = False
        self._lock = threading.Lock()
        if isinstance(source, ScorerProtocol):
            self.scorer = source
        elif callable(source):
            self._load = source
        else:
            raise TypeError(
                f"model {name!r} is {describe(source)}, without {', '.join(missing_methods(source))}: give what "
                "load_scorer returned, or a function without arguments that returns one"
            )

    @property
    def state(self) -> State:
        if self._failed:
            return State.FAILED
        if self._closed or getattr(self.scorer, "closed", False):
            return State.CLOSED
        return State.LOADING if self.scorer is None else State.READY

    def start(self) -> None:
        with self._lock:
            if self._load is None or self._started:
                return
            self._started = True
        threading.Thread(target=self._run, args=(self._load,), name=f"bge-rerank-load-{self.name}", daemon=True).start()

    def close(self) -> None:
        if self._load is None:
            return  # somebody else's
        with self._lock:
            self._closed = True
            scorer = self.scorer
        if scorer is not None:
            scorer.close()

    def _run(self, load: Loader) -> None:
        started = time.monotonic()
        try:
            scorer = load()
        except Exception as error:
            self._failed = True
            expected = isinstance(error, RerankError)
            logger.error("model %s could not be loaded: %s", self.name, error, exc_info=None if expected else error)
            return
        with self._lock:
            self.scorer = scorer
            late = self._closed
        if late:
            scorer.close()
        else:
            logger.info("model %s is ready after %.1f s", self.name, time.monotonic() - started)
