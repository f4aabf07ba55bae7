"""One line in the log and one count for each request: who, where, its end, its time; never what it said."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bge_rerank_integrations.serve.metrics import Metrics

access = logging.getLogger(f"{__name__}.access")


class Observed:
    """Around everything else, so that refusals are seen, too."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = 500  # what the client gets where the application raises

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with self._metrics.under_way.track_inprogress():
                await self._app(scope, receive, note)
        finally:
            seconds = time.monotonic() - started
            # the route's own path: what a client made up would fill memory and log
            path = getattr(scope.get("route"), "path", None) or "other"
            self._metrics.count(path, status, seconds)
            client = scope.get("client") or ("-", 0)
            texts = scope.get("state", {}).get("texts", "-")
            access.info(
                "%s %s %s %d, texts %s, %.1f ms", client[0], scope["method"], path, status, texts, 1e3 * seconds
            )
