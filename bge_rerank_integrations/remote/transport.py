"""Requests over HTTP: several in flight, sent again where that can help, and errors that say what to do."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from bge_rerank_integrations.errors import RemoteError
from bge_rerank_integrations.extras import require

try:
    import httpx
    from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
    from tenacity.wait import wait_exponential_jitter
except ModuleNotFoundError:
    require("remote")
    raise

ATTEMPTS = 6
"""Tries of one request: with waits of half a second, doubled each time, about a quarter of a minute."""
WAIT = wait_exponential_jitter(initial=0.5, max=20, jitter=0.5)
LONGEST_WAIT = 60.0
"""Seconds: a server that asks for a longer pause is not waited for."""
CONNECT_SECONDS, READ_SECONDS, ASIDE_SECONDS = 10.0, 300.0, 5.0
"""How long a server may take to answer at all, where the call has no timeout of its own; the last is for `get`."""
AGAIN = (408, 429, 502, 503, 504)
"""Answers that may be another one in a moment."""


class Busy(Exception):
    """The server, or the way to it, may answer if it is asked again."""

    def __init__(self, reason: RemoteError, pause: float | None = None) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.pause = pause
        """Seconds that the server asks to wait."""


class Transport:
    """Requests to one server; made and used in one event loop."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        concurrency: int,
        seconds: float | None,
        headers: Mapping[str, str],
    ) -> None:
        """
        Args:
            headers: of every request, besides the key's.
            seconds: how long a call may take; connecting takes half of it at most, so that there is a reason to tell.
        """
        connect = CONNECT_SECONDS if seconds is None else min(CONNECT_SECONDS, seconds / 2)
        key = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        timeout = httpx.Timeout(READ_SECONDS, connect=connect, pool=None)
        self._url = url
        self._client = httpx.AsyncClient(headers={**key, **headers}, limits=limits, timeout=timeout)
        self._in_flight = asyncio.Semaphore(concurrency)

    async def post(self, path: str, body: Mapping[str, Any], on_trouble: Callable[[RemoteError], object]) -> Any:
        """The answer to a request, as JSON.

        Args:
            on_trouble: told why a try failed that may be followed by another.

        Raises:
            RemoteError: the server cannot be reached, refuses, or answers something else than JSON.
        """
        content = json.dumps(body).encode()
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(Busy), stop=stop_after_attempt(ATTEMPTS), wait=_pause, reraise=True
            ):
                with attempt:
                    async with self._in_flight:
                        try:
                            return await self._once(path, content)
                        except Busy as busy:
                            on_trouble(busy.reason)
                            raise
        except Busy as busy:
            raise busy.reason from busy.__cause__
        raise AssertionError("tenacity ends with an answer or an error")

    async def get(self, path: str) -> Any:
        """What it tells there, as JSON; None: nothing. Asked once, and not for long."""
        with suppress(httpx.HTTPError, httpx.InvalidURL, ValueError):
            answer = await self._client.get(self._url + path, timeout=ASIDE_SECONDS)
            return answer.json() if answer.is_success else None
        return None

    async def close(self) -> None:
        await self._client.aclose()

    async def _once(self, path: str, content: bytes) -> Any:
        url = self._url + path
        try:
            answer = await self._client.post(url, content=content, headers={"Content-Type": "application/json"})
        except httpx.TransportError as error:
            if (tls := _tls_error(error)) is not None:
                raise RemoteError(f"{url} cannot be trusted: {_tls_reason(tls)}") from error
            raise Busy(RemoteError(f"{url} cannot be reached: {_reason(error)}")) from error
        except (httpx.InvalidURL, httpx.TooManyRedirects, httpx.DecodingError) as error:
            raise RemoteError(f"{url} cannot be used: {error}") from error
        if answer.is_success:
            return _json(url, answer)
        refusal = RemoteError(f"{url} answered {answer.status_code}: {_advice(answer)}", status=answer.status_code)
        pause = _retry_after(answer)
        if answer.status_code in AGAIN and (pause is None or pause <= LONGEST_WAIT):
            raise Busy(refusal, pause)
        raise refusal


def _pause(state: RetryCallState) -> float:
    """What the server asks for, else longer each time."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.pause if isinstance(error, Busy) else None
    return WAIT(state) if asked is None else asked


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds, whether the header gives seconds or a date."""
    value = answer.headers.get("Retry-After")
    if value is None:
        return None
    with suppress(ValueError):
        return max(0.0, float(value))
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds())
    return None


def _json(url: str, answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError as error:
        what = "a web page" if _is_page(answer) else f"{answer.text[:80]!r}"
        raise RemoteError(
            f"{url} answered {what}, which is not JSON: check the address, and whether a proxy or a portal answers "
            "in the server's place"
        ) from error


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """The one that another came from. Asking again does not make a certificate valid."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not valid here ({error.verify_message}). Use the name that the certificate is for; "
            "where an authority of your own signed it, set SSL_CERT_FILE to a file with that authority's certificate"
        )
    return f"TLS fails ({error.reason or error}). Does it speak plain HTTP? Then its address begins with http://"


def _advice(answer: httpx.Response) -> str:
    status = answer.status_code
    if answer.has_redirect_location:
        return f"it sends to {answer.headers['Location']}: give that address, if it is the server's and no login page"
    said = "" if _is_page(answer) else " ".join(answer.text.split())[:200]
    hint = {
        400: "the server does not take this request",
        401: "check api_key",
        403: "check api_key, and what it may be used for",
        404: "check the address, the dialect and served_model",
        405: "check the address and the dialect",
        413: "send shorter texts",
        422: "the server does not take this request: check the dialect",
        424: "the server's model failed",
        429: "the server is busy: ask later, or less at once",
        501: "the server was not started as a reranker",
    }.get(status, "the server is in trouble" if status >= 500 else "it is not taken")
    return f"{hint} ({said})" if said else hint


def _is_page(answer: httpx.Response) -> bool:
    return "html" in answer.headers.get("Content-Type", "") or answer.text.lstrip()[:1] == "<"


def _reason(error: httpx.TransportError) -> str:
    """In words: some of httpx's errors have none."""
    if isinstance(error, httpx.ConnectTimeout):
        return "it does not answer"
    if isinstance(error, httpx.TimeoutException):
        return "the answer does not come"
    if isinstance(error, httpx.UnsupportedProtocol):
        return "the address must begin with http:// or https://"
    return _system_reason(error) or str(error) or type(error).__name__


def _system_reason(error: BaseException | None) -> str | None:
    """What the operating system said, below what says only that every address failed."""
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return os.strerror(error.errno) if error.errno > 0 else error.strerror  # below 0: of a host's name
        several: tuple[BaseException, ...] = getattr(error, "exceptions", ())  # a group: one for each address
        error = several[0] if several else error.__cause__ or error.__context__
    return None
