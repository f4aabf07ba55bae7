"""Requests over HTTP: several in flight, sent again where that can help, and errors that say what to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
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
CONNECT_SECONDS, READ_SECONDS = 10.0, 300.0
"""How long a server may take to answer at all, where the call has no timeout of its own."""
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

    def __init__(self, url: str, api_key: str | None, concurrency: int) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS, pool=None)
        self._url = url
        self._client = httpx.AsyncClient(headers=headers, limits=limits, timeout=timeout)
        self._in_flight = asyncio.Semaphore(concurrency)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The answer to a request, as JSON.

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
                        return await self._once(path, content)
        except Busy as busy:
            raise busy.reason from busy.__cause__
        raise AssertionError("tenacity ends with an answer or an error")

    async def close(self) -> None:
        await self._client.aclose()

    async def _once(self, path: str, content: bytes) -> Any:
        url = self._url + path
        try:
            answer = await self._client.post(url, content=content, headers={"Content-Type": "application/json"})
        except httpx.TransportError as error:
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


def _advice(answer: httpx.Response) -> str:
    status = answer.status_code
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
    return str(error) or type(error).__name__
