"""How much a client may ask for: requests at a time, bytes, texts, characters. Each is refused before it costs much."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bge_rerank_integrations.serve.problems import RefusedError, problem, retry_after
from bge_rerank_integrations.serve.settings import ServerSettings


class RequestLimit:
    """Answers 429 to a request that comes while as many as may are under way."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif self._under_way >= self._most:
            reason = f"{self._most} requests are under way: come again later, or send fewer at once"
            await problem(429, "Overloaded", reason, retry_after())(scope, receive, send)
        else:
            self._under_way += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._under_way -= 1


class BodyLimit:
    """Reads a request's body, and hands it on in one piece: 413 where it is too long, 408 where it is too slow."""

    def __init__(self, app: ASGIApp, most: int, seconds: float) -> None:
        self._app = app
        self._most = most
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        try:
            if length.isdecimal() and int(length) > self._most:
                raise self._too_long()
            body = await asyncio.wait_for(self._read(receive), self._seconds)
        except RefusedError as error:
            await problem(error.status, error.kind, str(error), {"Connection": "close"})(scope, receive, send)
            return
        except asyncio.TimeoutError:
            reason = f"the body did not arrive within {self._seconds} s"
            await problem(408, "Validation", reason, {"Connection": "close"})(scope, receive, send)
            return
        if body is not None:
            await self._app(scope, _first({"type": "http.request", "body": body}, receive), send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The body; None where the client left before its end."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._most:
                raise self._too_long()
            if not message.get("more_body", False):
                return b"".join(parts)

    def _too_long(self) -> RefusedError:
        return RefusedError(413, "Validation", f"the body has more than {self._most} bytes: send fewer texts at once")


def _first(message: Message, others: Receive) -> Receive:
    """One message, then the others."""
    messages = [message]

    async def receive() -> Message:
        return messages.pop() if messages else await others()

    return receive


def check_texts(name: str, query: str, prompt: str | None, texts: Sequence[str], limits: ServerSettings) -> None:
    """Refuse a request without texts, with too many, or with too long ones.

    Args:
        name: of the list in the request.
    """
    if not texts:
        raise RefusedError(400, "Empty", f"{name} is empty: give at least one")
    if len(texts) > limits.max_texts:
        raise RefusedError(
            422, "Validation", f"{name} has {len(texts)} entries, more than {limits.max_texts}: send several requests"
        )
    for where, text in (("query", query), ("prompt", prompt or "")):
        _check_length(where, text, limits.max_characters)
    for index, text in enumerate(texts):
        _check_length(f"{name}[{index}]", text, limits.max_characters)


def _check_length(where: str, text: str, most: int) -> None:
    if len(text) > most:
        raise RefusedError(
            422, "Validation", f"{where} has {len(text)} characters, more than {most}: split it, or cut it"
        )
