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

from bge_rerank_integrations.errors import Timeout

if TYPE_CHECKING:
    from bge_rerank_integrations.scorer import Scorer

Options = Mapping[str, Any]


class LazyScorer:
    """What an adapter scores with: a model that copies of the adapter share, under options of its own.

    Deep copies and pickles start without one, and so does a process that was forked.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: SharedModel | None = None
        self._own: tuple[Scorer, Options, Scorer] | None = None

    def get(self, source: str, loading: Options, scoring: Options) -> Scorer:
        """The scorer; the first call loads it, in this thread where no timeout may cut that short."""
        timeout: float | None = loading.get("timeout")
        started = time.monotonic()
        model = self._shared(source, loading)
        while True:
            future, mine = model.claim()
            waiting_since = None if future.done() else started
            if mine and timeout is None:
                model.load(future, scoring)
            elif mine:
                threading.Thread(target=model.load, args=(future, scoring), name="bge-rerank-load").start()
            try:
                loaded = future.result(timeout)
            except CancelledError:
                continue  # whoever loaded it was interrupted
            except FutureTimeoutError as error:
                raise _not_loaded(source, timeout) from error
            return self._variant(loaded, scoring, waiting_since, timeout)

    async def aget(self, source: str, loading: Options, scoring: Options) -> Scorer:
        """As `get`, without blocking the event loop: the model is loaded in a thread of its own."""
        timeout: float | None = loading.get("timeout")
        started = time.monotonic()
        model = self._shared(source, loading)
        while True:
            future, mine = model.claim()
            if mine:
                threading.Thread(target=model.load, args=(future, scoring), name="bge-rerank-load").start()
            if future.done() and not future.cancelled():
                return self._variant(future.result(), scoring, None, timeout)
            try:
                waiting = asyncio.shield(asyncio.wrap_future(future))  # this caller may leave, the others still wait
                loaded = await asyncio.wait_for(waiting, timeout)
            except asyncio.CancelledError:
                if not future.cancelled():
                    raise
                continue
            except asyncio.TimeoutError as error:
                raise _not_loaded(source, timeout) from error
            return self._variant(loaded, scoring, started, timeout)

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
        with self._lock:
            if self._model is None or not self._model.is_of(source, loading):
                self._model = SharedModel(source, loading)  # the old one goes when nobody uses it any more
            return self._model

    def _variant(self, loaded: Scorer, scoring: Options, started: float | None, timeout: float | None) -> Scorer:
        own = self._own
        if own is None or own[0] is not loaded or own[1] != scoring:
            self._own = own = (loaded, scoring, loaded.with_options(**scoring))
        scorer = own[2]
        if timeout is None or started is None:
            return scorer
        return scorer.with_timeout(max(1e-9, timeout - (time.monotonic() - started)))

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
        """Load, and settle the future; an error is told to all who wait, an interruption only to who loads."""
        from bge_rerank_integrations.loading import load_scorer

        try:
            scorer = load_scorer(self._source, **self._loading, **scoring)
        except Exception as error:  # noqa: BLE001 - it is told to whoever waits
            future.set_exception(error)
        except BaseException:
            future.cancel()
            raise
        else:
            future.set_result(scorer)

    def close(self) -> None:
        """Close the scorer, or let it be closed as soon as it is loaded."""
        if os.getpid() != self._process:
            self._start()
        with self._lock:
            future, self._future = self._future, None
        if future is not None:
            future.add_done_callback(_close)


def _is_lost(future: Future[Scorer]) -> bool:
    """Whether loading failed, or the scorer was closed since."""
    return future.done() and (future.cancelled() or future.exception() is not None or future.result().closed)


def _close(future: Future[Scorer]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().close()


def _not_loaded(source: str, timeout: float | None) -> Timeout:
    return Timeout(f"{source} was not loaded within {timeout} s, and goes on loading: try again, or raise timeout")
