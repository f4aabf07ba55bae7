"""A scorer that is loaded when it is first needed, once for all adapters that share it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any

from bge_rerank_integrations.errors import RerankError, Timeout
from bge_rerank_integrations.options import checked_timeout

if TYPE_CHECKING:
    from bge_rerank_integrations.scorer import Scorer

Options = Mapping[str, Any]


class LazyScorer:
    """What an adapter scores with: a model that copies of the adapter share, under options of its own.

    Deep copies and pickles start without one, and so does a process that was forked.
    """

    def __init__(self) -> None:
        self._model: SharedModel | None = None
        self._own: tuple[Scorer, Options, Scorer] | None = None
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()  # a fork may have one that it could never take

    def get(self, source: str, loading: Options, scoring: Options) -> Scorer:
        """The scorer; the first call loads it, in this thread where no timeout may cut that short."""
        clock = _Clock(loading.get("timeout"))
        model = self._shared(source, loading)
        while True:
            future, mine = model.claim()
            if mine and clock.timeout is None:
                model.load(future, scoring)
            elif mine:
                model.start(future, scoring)
            if _is_loaded(future):
                return self._variant(future.result(), scoring, clock)
            clock.waited = True
            try:
                loaded = future.result(clock.remaining)
            except CancelledError:
                continue  # whoever loaded it was interrupted
            except FutureTimeoutError as error:
                if future.done():
                    raise  # loading raised it
                raise clock.not_loaded(source) from error
            return self._variant(loaded, scoring, clock)

    async def aget(self, source: str, loading: Options, scoring: Options) -> Scorer:
        """As `get`, without blocking the event loop: the model is loaded in a thread of its own."""
        clock = _Clock(loading.get("timeout"))
        model = self._shared(source, loading)
        while True:
            future, mine = model.claim()
            if mine:
                model.start(future, scoring)
            if _is_loaded(future):
                return self._variant(future.result(), scoring, clock)
            clock.waited = True
            try:
                waiting = asyncio.shield(asyncio.wrap_future(future))  # this caller may leave, the others still wait
                loaded = await asyncio.wait_for(waiting, clock.remaining)
            except asyncio.CancelledError:
                if not future.cancelled():
                    raise
                continue
            except asyncio.TimeoutError as error:
                if future.done():
                    raise
                raise clock.not_loaded(source) from error
            return self._variant(loaded, scoring, clock)

    def loaded(self) -> Scorer | None:
        """The scorer that was used last, if it is still open in this process."""
        own = self._own
        return own[2] if own is not None and os.getpid() == self._process and not own[0].closed else None

    def shared(self, source: str, loading: Options) -> LazyScorer:
        """Another that shares the model, loaded or not, for a copy of the adapter."""
        other = LazyScorer()
        other._model, other._own = self._shared(source, loading), self._own
        return other

    def close(self) -> None:
        """Free the model, for all that share it; the next use loads it again. Never waits for one that is loading."""
        if self._model is not None:
            self._model.close()

    def _shared(self, source: str, loading: Options) -> SharedModel:
        """The model that the fields name now: another one if they changed."""
        model = self._model
        if model is not None and model.is_of(source, loading):
            return model
        if os.getpid() != self._process:
            self._start()
        with self._lock:
            if self._model is None or not self._model.is_of(source, loading):
                self._model = SharedModel(source, loading)  # the old one goes when nobody uses it any more
            return self._model

    def _variant(self, loaded: Scorer, scoring: Options, clock: _Clock) -> Scorer:
        own = self._own
        if own is None or own[0] is not loaded or own[1] != scoring:
            self._own = own = (loaded, scoring, loaded.with_options(**scoring))
        scorer = own[2]
        if clock.timeout is None or not clock.waited:
            return scorer
        return scorer.with_timeout(max(1e-9, clock.timeout - clock.passed))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LazyScorer)  # adapters with equal fields are equal, loaded or not

    __hash__ = object.__hash__

    def __deepcopy__(self, memo: object) -> LazyScorer:
        return LazyScorer()

    def __reduce__(self) -> tuple[type[LazyScorer], tuple[()]]:
        return LazyScorer, ()


class SharedModel:
    """One model, loaded once whichever thread asks first, and again after `close`, a failure or a fork."""

    def __init__(self, source: str, loading: Options) -> None:
        self._source = source
        self._loading = loading
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._future: Future[Scorer] | None = None

    def is_of(self, source: str, loading: Options) -> bool:
        """Whether it is what these fields name."""
        return self._source == source and self._loading == loading

    def claim(self) -> tuple[Future[Scorer], bool]:
        """The scorer to come, and whether the caller is the one to load it."""
        if os.getpid() != self._process:
            self._start()  # a fork has neither the threads nor, perhaps, a lock that it could ever take
        with self._lock:
            future = self._future
            if future is not None and not _is_lost(future):
                return future, False
            self._future = Future()
            return self._future, True

    def load(self, future: Future[Scorer], scoring: Options) -> None:
        """Load in this thread, and settle the future.

        An error of this package is told to all who wait. Any other may come from a signal and so be this caller's
        alone: it is raised here, and the others load for themselves.
        """
        try:
            scorer = self._loaded(scoring)
        except RerankError as error:
            future.set_exception(error)
        except BaseException:
            future.cancel()
            raise
        else:
            future.set_result(scorer)

    def start(self, future: Future[Scorer], scoring: Options) -> None:
        """Load in a thread of its own, and settle the future; any error is told to all who wait."""

        def work() -> None:
            try:
                future.set_result(self._loaded(scoring))
            except BaseException as error:  # noqa: BLE001 - it is told to whoever waits
                future.set_exception(error)

        try:
            threading.Thread(target=work, name="bge-rerank-load").start()
        except BaseException:
            future.cancel()
            raise

    def _loaded(self, scoring: Options) -> Scorer:
        from bge_rerank_integrations.loading import load_scorer

        return load_scorer(self._source, **self._loading, **scoring)

    def close(self) -> None:
        """Close the scorer, or let it be closed as soon as it is loaded."""
        if os.getpid() != self._process:
            self._start()
        with self._lock:
            future, self._future = self._future, None
        if future is not None:
            future.add_done_callback(_close)


class _Clock:
    """How long one caller's `timeout` still allows it to wait."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = checked_timeout(timeout)
        self.waited = False
        """Whether it had to wait for the model; else the whole time is for scoring."""
        self._started = time.monotonic()

    @property
    def passed(self) -> float:
        return time.monotonic() - self._started

    @property
    def remaining(self) -> float | None:
        """Seconds; None: no end."""
        return None if self.timeout is None else max(0.0, min(self.timeout - self.passed, threading.TIMEOUT_MAX))

    def not_loaded(self, source: str) -> Timeout:
        return Timeout(
            f"{source} was not loaded within {self.timeout} s, and goes on loading: try again, or raise timeout"
        )


def _is_loaded(future: Future[Scorer]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _is_lost(future: Future[Scorer]) -> bool:
    """Whether loading failed, or the scorer was closed since."""
    return future.done() and (future.cancelled() or future.exception() is not None or future.result().closed)


def _close(future: Future[Scorer]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().close()
