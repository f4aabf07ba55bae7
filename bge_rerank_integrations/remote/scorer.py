"""`RemoteScorer`: a reranker that runs elsewhere, with the methods of `protocol.ScorerProtocol`."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from bge_rerank_integrations.errors import ClosedError, OptionError, RemoteError, Timeout
from bge_rerank_integrations.options import (
    Scale,
    ScoringOptions,
    changed,
    check_api_key,
    checked_timeout,
    not_by_default,
    whole_number,
)
from bge_rerank_integrations.protocol import Progress
from bge_rerank_integrations.ranking import (
    Pair,
    Ranked,
    check_threshold,
    check_top_n,
    checked_pairs,
    pairs_of,
    rank,
)
from bge_rerank_integrations.remote.dialects import Ask, Dialect, find_dialect, guess
from bge_rerank_integrations.remote.loop_thread import LoopThread
from bge_rerank_integrations.remote.recognise import recognise
from bge_rerank_integrations.remote.split import Part, split
from bge_rerank_integrations.remote.transport import Transport

PERHAPS_ANOTHER = (400, 404, 405, 422)
"""Refusals of a server that may speak another dialect."""


@dataclass(frozen=True)
class Server:
    """What a scorer asks, but for the key."""

    url: str
    dialect: str
    served_model: str | None
    timeout: float | None
    concurrency: int


class MisreadError(Exception):
    """An answer is not one of the dialect; says what it has instead."""


class RemoteScorer:
    """Scores by a server. Threads and event loops may share one."""

    def __init__(
        self,
        url: str,
        *,
        dialect: str,
        api_key: str | None = None,
        served_model: str | None = None,
        scale: Scale = "logit",
        timeout: float | None = None,
        concurrency: int = 8,
        **options: Any,
    ) -> None:
        """
        Args:
            url: the server's address, such as "http://127.0.0.1:8080", without the path of a request.
            dialect: a name of `dialects.DIALECTS`: which engine's requests and answers it speaks.
            api_key: sent as a bearer token; kept out of reprs, pickles and errors.
            served_model: the model's name at the server, where it has several.
            scale: of the scores; a dialect that cannot give it is refused.
            timeout: seconds that a call may take, retries included; None: as long as they take.
            concurrency: requests in flight at a time.
            options: of `options.ScoringOptions` those that the dialect has, sent where they differ from their default;
                the rest is as the server was started.

        Raises:
            OptionError: an option is impossible with this dialect.
        """
        if (whole_number(concurrency) or 0) < 1:
            raise OptionError(f"concurrency={concurrency!r}: use a whole number of 1 or more")
        check_api_key(api_key)
        timeout = checked_timeout(timeout)
        self._dialect = find_dialect(dialect, scale, served_model)
        self._options = _checked(changed(ScoringOptions(), {"scale": scale, **options}), dialect, self._dialect)
        self._server = Server(_checked_address(url, self._dialect), dialect, served_model, timeout, concurrency)
        self._api_key = api_key
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._transport: Transport | None = None
        self._closed = False

    @property
    def options(self) -> ScoringOptions:
        """How it scores, as far as that can be chosen from here: `scale`, and what the dialect has besides."""
        return self._options

    @property
    def closed(self) -> bool:
        return self._closed

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """One score a text, in the order given.

        Raises:
            TypeError: the query or a text is not a string; names its index.
            RemoteError: the server did not deliver; says what to do.
            Timeout: not all scores were there within `timeout`.
        """
        return self._wait(pairs_of(query, texts))

    def score_pairs(self, pairs: Iterable[Pair]) -> list[float]:
        """One score a pair, in the order given; raises as `score`."""
        return self._wait(checked_pairs(pairs))

    def rank(
        self,
        query: str,
        texts: Sequence[str],
        top_n: int | None = None,
        score_threshold: float | None = None,
        on_progress: Progress | None = None,
    ) -> list[Ranked]:
        """The texts by score, best first, ties in the order given. Progress is told once, at the end."""
        cut = check_top_n(top_n), check_threshold(score_threshold, self._options.scale)
        scores = self.score(query, texts)
        if on_progress is not None:
            on_progress(len(scores), len(scores))
        return rank(scores, *cut)

    async def ascore(self, query: str, texts: Sequence[str]) -> list[float]:
        """As `score`, without blocking the event loop."""
        return await asyncio.wrap_future(self._begin(pairs_of(query, texts)))

    async def ascore_pairs(self, pairs: Iterable[Pair]) -> list[float]:
        """As `score_pairs`, without blocking the event loop."""
        return await asyncio.wrap_future(self._begin(checked_pairs(pairs)))

    async def arank(
        self, query: str, texts: Sequence[str], top_n: int | None = None, score_threshold: float | None = None
    ) -> list[Ranked]:
        """As `rank`, without blocking the event loop."""
        cut = check_top_n(top_n), check_threshold(score_threshold, self._options.scale)
        return rank(await self.ascore(query, texts), *cut)

    def with_options(self, **changes: Any) -> RemoteScorer:
        """Another one of the same server; `scale` can change, and the options that the dialect has."""
        return RemoteScorer(api_key=self._api_key, **asdict(self._server), **asdict(changed(self._options, changes)))

    def with_timeout(self, seconds: float) -> RemoteScorer:
        """Another one of the same server, whose calls may take no longer than this."""
        server = replace(self._server, timeout=seconds)
        return RemoteScorer(api_key=self._api_key, **asdict(server), **asdict(self._options))

    def close(self) -> None:
        """End its thread and its connections. Closing twice is fine."""
        if os.getpid() != self._process:
            return
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    def __enter__(self) -> RemoteScorer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        settings = {**asdict(self._server), "scale": self._options.scale, **_besides_scale(self._options)}
        shown = ", ".join(f"{name}={value!r}" for name, value in settings.items() if value is not None)
        return f"RemoteScorer({shown})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, ({**asdict(self._server), **asdict(self._options)},)  # without the key

    def __deepcopy__(self, memo: object) -> RemoteScorer:
        return self

    def _wait(self, pairs: Sequence[Pair]) -> list[float]:
        future = self._begin(pairs)
        try:
            return future.result()
        except CancelledError as error:
            raise ClosedError("this scorer was closed before the scores were there: make it again") from error
        except BaseException:
            future.cancel()
            raise

    def _begin(self, pairs: Sequence[Pair]) -> Future[list[float]]:
        """Ask in the thread of the event loop, which all callers share: it starts with the first."""
        if os.getpid() != self._process:
            self._start()  # a fork has none of the threads
        with self._lock:
            if self._closed:
                raise ClosedError("this scorer was closed: make it again")
            if self._thread is None:
                self._thread = LoopThread("bge-rerank-remote")
            return self._thread.start(self._scores(pairs))

    async def _scores(self, pairs: Sequence[Pair]) -> list[float]:
        scores = [math.nan] * len(pairs)
        parts = list(split(pairs, self._dialect))
        troubles: list[RemoteError] = []
        tasks = [asyncio.ensure_future(self._ask(part, troubles.append)) for part in parts]
        timeout = self._server.timeout
        try:
            answers = await asyncio.wait_for(asyncio.gather(*tasks), timeout)
        except asyncio.TimeoutError as error:
            last = f". Last: {troubles[-1]}" if troubles else ""
            raise Timeout(f"{self._server.url} did not give all scores within {timeout} s{last}") from error
        finally:
            for task in tasks:  # whatever is left, if anything went wrong
                task.cancel()
        for part, answer in zip(parts, answers, strict=True):
            for index, score in zip(part.indices, answer, strict=True):
                scores[index] = score
        return scores

    async def _ask(self, part: Part, on_trouble: Callable[[RemoteError], object]) -> list[float]:
        """A score for each text of one request."""
        dialect = self._dialect
        options = _besides_scale(self._options)
        ask = Ask(part.query, part.texts, self._options.scale, self._server.served_model, options)
        try:
            answer = await self._connected().post(dialect.path, dialect.body(ask), on_trouble)
        except RemoteError as error:
            if error.status in PERHAPS_ANOTHER and (like := await self._looks_like()):
                raise RemoteError(f"{error}; it looks like dialect {like}", status=error.status) from error
            if not (dialect.one_by_one_on_500 and error.status == 500):
                raise
            if len(part.texts) == 1:
                raise RemoteError(
                    f"{error}; the text of pair {part.indices[0]} ({len(part.texts[0]):,} characters) is perhaps "
                    "longer than the server's batch: shorten it, or start the server with a larger --ubatch-size",
                    status=500,
                ) from error
            alone = [Part(part.query, [text], [index]) for text, index in zip(part.texts, part.indices, strict=True)]
            return [score for one in alone for score in await self._ask(one, on_trouble)]
        try:
            return self._read(answer, part)
        except MisreadError as error:
            like = await self._looks_like() or guess(answer)
            hint = f"it looks like dialect {like}" if like and self._server.dialect not in like else "check the dialect"
            raise RemoteError(f"the answer of {self._server.url} {error}: {hint}") from error

    async def _looks_like(self) -> str | None:
        """The dialect that the server tells it speaks, if that is another one."""
        like = await recognise(self._connected())
        return like if like != self._server.dialect else None

    def _read(self, answer: Any, part: Part) -> list[float]:
        """The scores of an answer, in the order of the texts: every one there, once, and a number."""
        dialect = self._dialect
        told = answer if isinstance(answer, dict) else {}
        results = answer if dialect.results is None else told.get(dialect.results)
        if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
            raise MisreadError("has no list of results")
        if dialect.signature is not None:
            key, beginnings = dialect.signature
            if not str(told.get(key)).startswith(beginnings):
                raise MisreadError(f"has {key!r} as {told.get(key)!r}, not {' or '.join(map(repr, beginnings))}")
        wanted, used = self._server.served_model, told.get("model")
        if dialect.tells_model and wanted not in (None, used):
            raise RemoteError(f"{self._server.url} scored with model {used!r}, not {wanted!r}: check served_model")
        found: dict[int, float] = {}
        for one in results:
            index, score = one.get("index"), one.get(dialect.score)
            if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(part.texts):
                raise MisreadError(f"has a result for index {index!r} of {len(part.texts)} texts")
            if index in found:
                raise MisreadError(f"has two results for index {index}")
            if not isinstance(score, (int, float)) or isinstance(score, bool):
                raise MisreadError(f"has the {dialect.score} {score!r}")
            if not math.isfinite(score) or score == dialect.failure:
                raise RemoteError(f"{self._server.url} scored pair {part.indices[index]} as {score}: see its log")
            if self._options.scale == "sigmoid" and not 0 <= score <= 1:
                raise RemoteError(
                    f"{self._server.url} scored pair {part.indices[index]} as {score}, which is not between 0 and "
                    f"1: it gives logits; use scale='logit' (dialect {self._server.dialect!r})"
                )
            found[index] = float(score)
        if len(found) < len(part.texts):
            missing = min(set(range(len(part.texts))) - found.keys())
            raise MisreadError(f"has {len(found)} results for {len(part.texts)} texts: {missing} is missing")
        return [found[index] for index in range(len(part.texts))]

    def _connected(self) -> Transport:
        if self._transport is None:
            server = self._server
            headers = _naming(self._dialect.model_header, server.served_model)
            self._transport = Transport(server.url, self._api_key, server.concurrency, server.timeout, headers)
            assert self._thread is not None
            self._thread.on_stop(self._transport.close)
        return self._transport


def _again(settings: dict[str, Any]) -> RemoteScorer:
    return RemoteScorer(**settings)


def _naming(header: str | None, model: str | None) -> dict[str, str]:
    """The header that names the model, where the dialect has one and a header can carry the name."""
    if header is None or model is None or not (model.isascii() and model.isprintable() and model.strip() == model):
        return {}
    return {header: model}


def _besides_scale(options: ScoringOptions) -> dict[str, Any]:
    """The other options that say something."""
    return {name: value for name, value in not_by_default(options).items() if name != "scale"}


def _checked(options: ScoringOptions, name: str, dialect: Dialect) -> ScoringOptions:
    if foreign := [option for option in _besides_scale(options) if option not in dialect.options]:
        raise OptionError(
            f"{', '.join(foreign)} cannot be chosen from here with dialect {name!r}: what a server reads, and how it "
            f"scores, is set at the server. {' and '.join(('scale', *dialect.options))} can be chosen"
        )
    return options


def _checked_address(url: str, dialect: Dialect) -> str:
    """Without what would be shown though it is secret, or sent twice."""
    if any(mark in url for mark in "@?#"):
        raise OptionError(
            "the address has a user, a query or a fragment, which logs would show: give scheme, host and port alone, "
            "and the key as api_key="
        )
    if not url.startswith(("http://", "https://")):
        raise OptionError(f"{url!r} is not an address: it begins with http:// or https://")
    try:
        parts = urlsplit(url)
        complete = bool(parts.hostname) and " " not in parts.netloc and parts.port != 0
    except ValueError:  # a port that is none, or brackets without an address in them
        complete = False
    if not complete:
        raise OptionError(f"{url!r} is not an address: give it as http://HOST or http://HOST:PORT")
    path = parts.path.rstrip("/")
    if path and (dialect.path.startswith(f"{path}/") or path.endswith(dialect.path)):
        raise OptionError(f"{url!r}: leave out {path!r}, since {dialect.path} is added for each request")
    return url.rstrip("/")
