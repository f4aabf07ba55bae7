"""Who may ask: whoever sends the key. `/health` alone answers everyone, since probes have none."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from bge_rerank_integrations.serve.problems import problem

OPEN = ("/health",)
"""What needs no key."""


class Auth:
    """Answers 401 to a request without the key, before anything of its body is read."""

    def __init__(self, app: ASGIApp, api_key: str | None) -> None:
        self._app = app
        self._key = None if api_key is None else api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._key is None or scope["path"] in OPEN or self._has_key(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        answer = problem(
            401,
            "Unauthorized",
            "the API key is missing or wrong: send it as 'Authorization: Bearer KEY'",
            {"WWW-Authenticate": "Bearer"},
        )
        await answer(scope, receive, send)

    def _has_key(self, headers: Headers) -> bool:
        """With `Bearer`, or as it stands, as one client sends it. The time it takes does not depend on the key."""
        assert self._key is not None
        given = headers.get("authorization", "").encode("latin-1")
        scheme, _, token = given.partition(b" ")
        bearer = token.strip() if scheme.lower() == b"bearer" else given
        return hmac.compare_digest(bearer, self._key)
